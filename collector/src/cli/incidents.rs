//! `collector incidents`: what was found on all hosts, the latest first.

use std::io::Write as _;

use sensor_proto::v1::{HostIncident, ListFleetIncidentsRequest, Severity};

use super::{
    connect::{Place, said},
    hosts::time,
};
use crate::query::print::columns;

/// Incidents of all hosts.
#[derive(Clone, Debug, clap::Args)]
pub struct IncidentsArgs {
    /// Which collector.
    #[command(flatten)]
    place: Place,
    /// Only those that go on.
    #[arg(long)]
    open: bool,
    /// Only those of this host.
    #[arg(long, value_name = "HOST", default_value = "")]
    host: String,
    /// Only these or worse.
    #[arg(long, value_enum, default_value = "low")]
    severity: Least,
    /// At most so many.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: u32,
}

/// The severities.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Least {
    Low,
    Medium,
    High,
    Critical,
}

impl From<Least> for Severity {
    fn from(least: Least) -> Self {
        match least {
            Least::Low => Self::Low,
            Least::Medium => Self::Medium,
            Least::High => Self::High,
            Least::Critical => Self::Critical,
        }
    }
}

/// Prints what the collector answers.
///
/// # Errors
/// If there is no answer.
pub async fn run(args: IncidentsArgs) -> anyhow::Result<()> {
    let mut client = args.place.client().await?;
    let request = ListFleetIncidentsRequest {
        open: args.open,
        host: args.host,
        severity: Severity::from(args.severity).into(),
        limit: args.limit,
    };
    let response = client.list_fleet_incidents(request).await;
    let incidents = response.map_err(|status| said(&status))?.into_inner().incidents;
    let mut lines = vec![
        ["HOST", "UPDATED", "SEVERITY", "STATE", "ID", "WHAT"]
            .map(str::to_owned)
            .to_vec(),
    ];
    lines.extend(incidents.iter().filter_map(line));
    std::io::stdout().write_all(columns(&lines).as_bytes())?;
    Ok(())
}

fn line(found: &HostIncident) -> Option<Vec<String>> {
    let incident = found.incident.as_ref()?;
    let state = if incident.ended.is_some() { "ended" } else { "open" };
    Some(vec![
        found.host.clone(),
        time(incident.updated_ns),
        severity(incident.severity()).to_owned(),
        state.to_owned(),
        incident.id.clone(),
        incident.summary.clone(),
    ])
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Unspecified => "?",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}
