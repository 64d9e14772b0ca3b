//! The agent's command line.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand};
use sensor::{
    agent::AgentError,
    cli::{
        audit, doctor, enroll, events, feedback, forensics, incidents, models, privacy, record, reload,
        replay, respond, rules, run, sequences, status,
    },
    config::ConfigError,
    priority::DELIVERY,
};
use tracing_subscriber::EnvFilter;

/// Watches this host from inside the kernel, learns what is normal on it, and acts on what is not.
#[derive(Parser)]
#[command(name = "sensor", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Enroll(enroll::EnrollArgs),
    Events(events::EventsArgs),
    Status(status::StatusArgs),
    Reload(reload::ReloadArgs),
    Incidents(incidents::IncidentsArgs),
    Respond(respond::RespondArgs),
    Audit(audit::AuditArgs),
    Forensics(forensics::ForensicsArgs),
    Record(record::RecordArgs),
    Models(models::ModelsArgs),
    Feedback(feedback::FeedbackArgs),
    Replay(replay::ReplayArgs),
    /// See what would leave this host.
    Privacy(privacy::PrivacyArgs),
    /// Check, test, list and explain rules.
    Rules(rules::RulesArgs),
    /// Look at, and put together, what agents keep of the system calls of workloads.
    Sequences(sequences::SequencesArgs),
    /// Tell whether and how this host can be watched, and what stays invisible.
    Doctor(doctor::Args),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr();
    let result = match arguments.command {
        Command::Doctor(args) => return doctor::run(&args),
        Command::Rules(args) => return rules::run(&args),
        Command::Forensics(args) => return ended(block_on(forensics::run(args))),
        Command::Run(args) => block_on(run::run(args)),
        Command::Enroll(args) => block_on(enroll::run(args)),
        Command::Events(args) => block_on(events::run(args)),
        Command::Sequences(args) => sequences::run(&args),
        Command::Status(args) => block_on(status::run(args)),
        Command::Reload(args) => block_on(reload::run(args)),
        Command::Incidents(args) => block_on(incidents::run(args)),
        Command::Respond(args) => return ended(block_on(respond::run(args))),
        Command::Audit(args) => audit::run(&args),
        Command::Record(args) => block_on(record::run(args)),
        Command::Models(args) => block_on(models::run(args)),
        Command::Feedback(args) => block_on(feedback::run(args)),
        Command::Replay(args) => replay::run(&args),
        Command::Privacy(args) => privacy::run(&args),
    };
    ended(result.map(|()| ExitCode::SUCCESS))
}

fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("sensor: {error:#}");
        exit_code(&error)
    })
}

/// 2 for what the operator has to change before it can work, 1 for what went wrong.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let unusable = error.is::<ConfigError>() || error.is::<AgentError>();
    if unusable {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .on_thread_start(|| DELIVERY.join())
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(work)
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("SENSOR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
