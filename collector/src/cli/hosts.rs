//! `collector hosts`: the fleet, a line for each host.

use std::io::Write as _;

use jiff::Timestamp;
use sensor_proto::v1::{Host, HostState, ListHostsRequest};

use super::connect::{Place, said};
use crate::query::print::columns;

/// The hosts that have reported, and how they are.
#[derive(Clone, Debug, clap::Args)]
pub struct HostsArgs {
    /// Which collector.
    #[command(flatten)]
    place: Place,
    /// Only those of which there is something to say.
    #[arg(long)]
    unwell: bool,
}

/// Prints what the collector answers.
///
/// # Errors
/// If there is no answer.
pub async fn run(args: HostsArgs) -> anyhow::Result<()> {
    let mut client = args.place.client().await?;
    let response = client.list_hosts(ListHostsRequest {}).await;
    let mut hosts = response.map_err(|status| said(&status))?.into_inner().hosts;
    hosts.retain(|host| !args.unwell || host.state() != HostState::Alive);
    let mut lines = vec![
        ["HOST", "STATE", "LAST SEEN", "ENTRIES", "AGENT", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    lines.extend(hosts.iter().map(line));
    std::io::stdout().write_all(columns(&lines).as_bytes())?;
    Ok(())
}

fn line(host: &Host) -> Vec<String> {
    vec![
        host.name.clone(),
        state(host.state()).to_owned(),
        time(host.last_seen_ns),
        host.entries.to_string(),
        host.agent_version.clone(),
        host.why.clone(),
    ]
}

fn state(state: HostState) -> &'static str {
    match state {
        HostState::Unspecified => "?",
        HostState::Silent => "silent",
        HostState::Stopped => "stopped",
        HostState::Losing => "losing events",
        HostState::Degraded => "degraded",
        HostState::OutOfDate => "out of date",
        HostState::Alive => "alive",
    }
}

/// A time in UTC, to the second.
pub(crate) fn time(time_ns: u64) -> String {
    match Timestamp::from_nanosecond(i128::from(time_ns)) {
        Ok(time) => format!("{time:.0}"),
        Err(_) => String::new(),
    }
}
