//! `collector approvals`: what waits for a person, on all hosts.

use std::io::Write as _;

use sensor_proto::{
    action_name, result_name,
    v1::{Action, Approval, ListApprovalsRequest},
};
use serde::Serialize;

use super::{
    connect::{Place, said},
    hosts::time,
};
use crate::{control::object, query::print::columns};

/// What hosts would do if somebody approved it. `collector command HOST approve NUMBER`, or `deny`, decides.
#[derive(Clone, Debug, clap::Args)]
pub struct ApprovalsArgs {
    /// Only of this host.
    #[arg(default_value = "")]
    host: String,
    /// Those too that were decided, or lapsed.
    #[arg(long)]
    all: bool,
    /// At most so many, the latest first.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: u32,
    /// How they are printed.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Which collector.
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    /// Columns.
    Table,
    /// An object on a line for each.
    Json,
}

/// Prints what the collector answers.
///
/// # Errors
/// If there is no answer.
pub async fn run(args: ApprovalsArgs) -> anyhow::Result<()> {
    let mut client = args.place.client().await?;
    let request = ListApprovalsRequest {
        host: args.host,
        decided: args.all,
        limit: args.limit,
    };
    let response = client.list_approvals(request).await;
    let approvals = response.map_err(|status| said(&status))?.into_inner().approvals;
    let lines: Vec<Line> = approvals.iter().map(Line::of).collect();
    let text = match args.output {
        Output::Table => table(&lines),
        Output::Json => {
            let mut text = String::new();
            for line in &lines {
                text.push_str(&serde_json::to_string(line)?);
                text.push('\n');
            }
            text
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// One of them, as it is printed.
#[derive(Debug, Serialize)]
struct Line {
    host: String,
    number: u64,
    asked: String,
    state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    who: String,
    action: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    incident: String,
    because: String,
}

impl Line {
    fn of(approval: &Approval) -> Self {
        let asked = approval.asked.clone().unwrap_or_default();
        let action = asked.action.unwrap_or_default();
        let (state, who) = match &approval.outcome {
            None => ("waits".to_owned(), String::new()),
            Some(outcome) => (result_name(outcome.result()), outcome.who.clone()),
        };
        Self {
            host: approval.host.clone(),
            number: asked.number,
            asked: time(asked.time_ns),
            state,
            who,
            action: in_words(&action),
            incident: action.incident_id,
            because: asked.detail,
        }
    }
}

fn in_words(action: &Action) -> String {
    let of = match (&action.object, action.target) {
        (Some(what), _) => object(what),
        (None, Some(process)) => format!("process {}", process.tgid),
        (None, None) => String::new(),
    };
    format!("{} {of}", action_name(action.kind()))
}

fn table(lines: &[Line]) -> String {
    let mut rows = vec![
        ["HOST", "NUMBER", "ASKED", "STATE", "WHAT", "BECAUSE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(lines.iter().map(|line| {
        let state = match line.who.as_str() {
            "" => line.state.clone(),
            who => format!("{}, by {who}", line.state),
        };
        vec![
            line.host.clone(),
            line.number.to_string(),
            line.asked.clone(),
            state,
            line.action.clone(),
            line.because.clone(),
        ]
    }));
    columns(&rows)
}
