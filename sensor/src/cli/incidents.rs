//! `sensor incidents`: what was found, told as stories, and what somebody made of it.

mod story;

use clap::Subcommand;
use sensor_proto::v1::{
    CloseIncidentRequest, GetIncidentRequest, Incident, ListIncidentsRequest, Severity, Verdict,
    agent_client::AgentClient,
};

use super::{
    Output,
    connect::SocketArgs,
    json::to_json,
    render::{severity_name, tags},
    text::{harmless, short},
};
use crate::time::WallTime;

/// List incidents, show one with its story, or close it with a verdict.
#[derive(Clone, Debug, clap::Args)]
pub struct IncidentsArgs {
    #[command(subcommand)]
    command: Command,
    /// Which agent to ask.
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List them, the latest first.
    List {
        /// Those too that have ended.
        #[arg(short, long)]
        all: bool,
        /// The least severity.
        #[arg(long, value_enum, default_value_t)]
        severity: Least,
        /// At most so many.
        #[arg(short = 'n', long, default_value_t = 100)]
        limit: u32,
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show one: how it came in, what it did, what was done about it, its processes, and what to do next.
    Show {
        /// Its id, or as much of its beginning as tells it from others.
        id: String,
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Say what it was. What comes next of the same is another incident.
    Close {
        /// Its id, or as much of its beginning as tells it from others.
        id: String,
        /// What it was.
        #[arg(long, value_enum)]
        verdict: Said,
        /// Why, for whoever reads it later.
        #[arg(long, default_value = "")]
        why: String,
    },
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Least {
    #[default]
    Low,
    Medium,
    High,
    Critical,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Said {
    /// What it looked like.
    TruePositive,
    /// It happened, and was meant to: a test, maintenance.
    Benign,
    /// It was none. `sensor feedback` says so too, and has the models learn from it.
    FalsePositive,
}

/// Asks the agent and prints its answer.
///
/// # Errors
/// If no agent answers, or it knows no such incident.
pub async fn run(args: IncidentsArgs) -> anyhow::Result<()> {
    let mut client = AgentClient::new(args.socket.connect().await?);
    let said = |status: tonic::Status| anyhow::anyhow!("{}", harmless(status.message()));
    match args.command {
        Command::List {
            all,
            severity,
            limit,
            output,
        } => {
            let request = ListIncidentsRequest {
                ended: all,
                severity: least(severity).into(),
                limit,
            };
            let listed = client.list_incidents(request).await.map_err(said)?.into_inner();
            match output {
                Output::Compact => print!("{}", list(&listed.incidents)),
                Output::Json => {
                    for incident in &listed.incidents {
                        println!("{}", to_json(incident, "sensor.v1.Incident")?);
                    }
                }
            }
        }
        Command::Show { id, output } => {
            let incident = client.get_incident(GetIncidentRequest { id }).await;
            let incident = incident.map_err(said)?.into_inner();
            match output {
                Output::Compact => print!("{}", story::tell(&incident)),
                Output::Json => println!("{}", to_json(&incident, "sensor.v1.Incident")?),
            }
        }
        Command::Close { id, verdict, why } => {
            let request = CloseIncidentRequest {
                id,
                verdict: match verdict {
                    Said::TruePositive => Verdict::TruePositive,
                    Said::Benign => Verdict::Benign,
                    Said::FalsePositive => Verdict::FalsePositive,
                }
                .into(),
                why,
            };
            let closed = client.close_incident(request).await.map_err(said)?.into_inner();
            let incident = closed.incident.unwrap_or_default();
            println!("{} is closed", harmless(&incident.id));
        }
    }
    Ok(())
}

fn least(severity: Least) -> Severity {
    match severity {
        Least::Low => Severity::Low,
        Least::Medium => Severity::Medium,
        Least::High => Severity::High,
        Least::Critical => Severity::Critical,
    }
}

fn list(incidents: &[Incident]) -> String {
    if incidents.is_empty() {
        return "no incidents\n".to_owned();
    }
    incidents.iter().map(|incident| line(incident) + "\n").collect()
}

/// One of them: when, how bad, what, how often, and how to ask for more.
fn line(incident: &Incident) -> String {
    let state = incident.ended.as_ref().map_or("open", story::ended_as);
    let times = match incident.count {
        0 | 1 => String::new(),
        times => format!(", {times} times"),
    };
    format!(
        "{} {} {:<8} {state:<14} {}{} [{}{times}]",
        WallTime(incident.updated_ns),
        short(&incident.id, 16),
        severity_name(incident.severity()),
        short(&incident.summary, 200),
        tags(&incident.signals),
        short(&incident.subject, 64),
    )
}
