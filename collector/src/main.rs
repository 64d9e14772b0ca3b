//! The collector's command line.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use collector::cli::{
    approvals, audit, bundles, command, enroll, hosts, identities, incidents, query, revoke, serve,
};
use tracing_subscriber::EnvFilter;

/// Accepts Sensor's agents, keeps what they send, and serves it.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(Box<serve::ServeArgs>),
    Enroll(enroll::EnrollArgs),
    Revoke(revoke::RevokeArgs),
    Identities(identities::IdentitiesArgs),
    Audit(audit::AuditArgs),
    Hosts(hosts::HostsArgs),
    Incidents(incidents::IncidentsArgs),
    Approvals(approvals::ApprovalsArgs),
    Query(query::QueryArgs),
    Command(command::CommandArgs),
    Commands(command::CommandsArgs),
    Bundles(bundles::BundlesArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Cli::parse().command;
    let filter = EnvFilter::try_from_env("COLLECTOR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    let result = match command {
        Verb::Serve(args) => serve::run(*args).await.map(|()| ExitCode::SUCCESS),
        Verb::Enroll(args) => enroll::run(args).await.map(|()| ExitCode::SUCCESS),
        Verb::Revoke(args) => revoke::run(args).await.map(|()| ExitCode::SUCCESS),
        Verb::Identities(args) => identities::run(args).await.map(|()| ExitCode::SUCCESS),
        Verb::Audit(args) => audit::run(args).await,
        Verb::Hosts(args) => hosts::run(args).await.map(|()| ExitCode::SUCCESS),
        Verb::Incidents(args) => incidents::run(args).await.map(|()| ExitCode::SUCCESS),
        Verb::Approvals(args) => approvals::run(args).await.map(|()| ExitCode::SUCCESS),
        Verb::Query(args) => query::run(args).await.map(|()| ExitCode::SUCCESS),
        Verb::Command(args) => command::run(args).await,
        Verb::Commands(args) => command::list(args).await.map(|()| ExitCode::SUCCESS),
        Verb::Bundles(args) => bundles::run(args).await.map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("collector: {error:#}");
        ExitCode::FAILURE
    })
}
