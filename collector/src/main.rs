//! The collector's command line.

mod cli;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Accepts Sensor's agents, keeps what they send, and serves it.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listen for agents and consumers until SIGTERM or SIGINT.
    Serve(cli::serve::Serve),
    /// The hosts that have reported, and how they are.
    Hosts(cli::hosts::Hosts),
    /// Incidents of all hosts.
    Incidents(cli::incidents::Incidents),
    /// Ask in SQL what is stored.
    Query(cli::query::Query),
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
        Command::Serve(args) => cli::serve::run(args).await,
        Command::Hosts(args) => cli::hosts::run(args).await,
        Command::Incidents(args) => cli::incidents::run(args).await,
        Command::Query(args) => cli::query::run(args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("collector: {error:#}");
            ExitCode::FAILURE
        }
    }
}
