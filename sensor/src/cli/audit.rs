//! `sensor audit`: what was proposed, decided and done on this host, and whether anybody changed that afterwards.

use std::path::PathBuf;

use clap::Subcommand;

use super::{
    render::clock,
    text::{harmless, harmless_json, short},
};
use crate::respond::{AUDIT_FILE, AuditReader, Record, Step};

/// Read the agent's audit: what was proposed, decided and done, by whom and why.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Show it, as far as it is intact.
    List {
        #[command(flatten)]
        file: FileArgs,
        /// As it is in the file: one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Tell whether it is what was written, and how it ends: the collector has the last line's digest, too, with the outcome of that number.
    Verify {
        #[command(flatten)]
        file: FileArgs,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct FileArgs {
    /// The file.
    #[arg(value_name = "FILE", default_value_os_t = PathBuf::from("/var/lib/sensor").join(AUDIT_FILE))]
    file: PathBuf,
}

/// Does it.
///
/// # Errors
/// If the file cannot be read, or is not what was written.
pub fn run(args: &AuditArgs) -> anyhow::Result<()> {
    match &args.command {
        Command::List { file, json } => {
            let mut reader = AuditReader::open(&file.file)?;
            while let Some(record) = reader.next_record()? {
                match json {
                    true => println!("{}", harmless_json(serde_json::to_string(&record)?)),
                    false => println!("{}", line(&record)),
                }
            }
        }
        Command::Verify { file } => {
            let mut reader = AuditReader::open(&file.file)?;
            while reader.next_record()?.is_some() {}
            match reader.last() {
                Some(last) => println!(
                    "intact: {} lines, the last with digest {}",
                    last.number, last.digest
                ),
                None => println!("intact: nothing is in it"),
            }
        }
    }
    Ok(())
}

/// A step for people.
fn line(record: &Record) -> String {
    let step = match record.step {
        Step::Proposed => "proposed",
        Step::Approved => "approved",
        Step::Undoing => "to be undone",
        Step::Requested => "requested",
        Step::Configured => "configured",
        Step::Ended(result) => result.name(),
    };
    let mut line = format!(
        "{} {} of {}: {} {} {} {step} by {}",
        clock(record.time_ns),
        record.number,
        record.proposal,
        match (record.action, record.step) {
            (Some(action), _) => action.name(),
            (None, Step::Configured) => "configuration",
            (None, _) => "request",
        },
        record.target,
        short(&record.executable, 200),
        short(&record.who, 64),
    );
    if !record.why.is_empty() {
        line.push_str(&format!(": {}", short(&record.why, 400)));
    }
    if !record.before.is_empty() {
        line.push_str(&format!(
            " [{} -> {}]",
            harmless(&record.before),
            harmless(&record.after)
        ));
    }
    if !record.evidence.is_empty() {
        line.push_str(&format!(" [{}]", short(&record.evidence.join("; "), 200)));
    }
    if !record.incident.is_empty() {
        line.push_str(&format!(" ({})", harmless(&record.incident)));
    }
    line
}
