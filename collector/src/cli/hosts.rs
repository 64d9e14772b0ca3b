//! `collector hosts`: the fleet, a line for each host.

use std::io::Write as _;

use collector::query::print::columns;
use jiff::Timestamp;
use sensor_proto::v1::{Host, HostState, ListHostsRequest};

use super::connect::Connect;

#[derive(Debug, clap::Args)]
pub(crate) struct Hosts {
    #[command(flatten)]
    connect: Connect,
    /// Only those of which there is something to say.
    #[arg(long)]
    unwell: bool,
}

pub(crate) async fn run(args: Hosts) -> anyhow::Result<()> {
    let mut client = args.connect.client().await?;
    let mut hosts = client.list_hosts(ListHostsRequest {}).await?.into_inner().hosts;
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
