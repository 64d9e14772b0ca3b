//! `sensor status`: how the agent is.

use std::fmt::Write;

use sensor_proto::v1::{GetStatusRequest, OutputStatus, Status, UplinkStatus, agent_client::AgentClient};

use super::{
    Output,
    connect::SocketArgs,
    json::to_json,
    text::{bytes, duration, harmless},
};
use crate::time::WallTime;

/// Show how the agent is: what it sees, what it lost, and where it delivers.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which agent to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Asks the agent and prints its answer.
///
/// # Errors
/// If no agent answers.
pub async fn run(args: StatusArgs) -> anyhow::Result<()> {
    let mut client = AgentClient::new(args.socket.connect().await?);
    let status = client
        .get_status(GetStatusRequest {})
        .await
        .map_err(|status| anyhow::anyhow!("the agent did not say how it is: {}", status.message()))?
        .into_inner();
    match args.output {
        Output::Compact => print!("{}", render(&status)),
        Output::Json => println!("{}", to_json(&status, "sensor.v1.Status")?),
    }
    Ok(())
}

/// `status` for people.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    fact(
        "host",
        format!("{} (Linux {})", harmless(&status.host), harmless(&status.kernel)),
    );
    fact(
        "agent",
        format!(
            "{} since {}",
            harmless(&status.version),
            WallTime(status.started_ns)
        ),
    );
    let load = format!("{} (BTF {})", duration(status.load_ns), duration(status.btf_ns));
    fact("loaded in", load);
    fact(
        "memory",
        format!(
            "{}, at most {}",
            bytes(status.rss_bytes),
            bytes(status.peak_rss_bytes)
        ),
    );
    fact("processes", status.processes.to_string());
    fact(
        "incidents",
        format!(
            "{} (response: {})",
            status.incidents,
            harmless(&status.respond_mode)
        ),
    );
    if let Some(rules) = &status.rules {
        fact(
            "rules",
            format!(
                "{} in use, {} not, {} with mistakes",
                rules.active, rules.idle, rules.faults
            ),
        );
    }
    fact("readers", readers(status));
    fact(
        "collector",
        status.uplink.as_ref().map_or_else(|| "none".into(), uplink),
    );
    if let Some(fleet) = &status.fleet {
        fact(
            "fleet",
            format!(
                "{} other hosts, which know {} facts; heard {}",
                fleet.hosts,
                fleet.facts,
                WallTime(fleet.time_ns)
            ),
        );
    }
    for output in &status.outputs {
        fact("output", self::output(output));
    }
    if !status.profiles.is_empty() {
        fact("profiled", profiles(status));
    }
    if status.recursion_misses > 0 {
        fact(
            "missed",
            format!(
                "{} tracepoint runs, by recursion in the kernel",
                status.recursion_misses
            ),
        );
    }
    text.push_str(&accounts(status));
    text.push_str(&mutes(status));
    text.push_str(&blind_spots(status));
    text
}

fn readers(status: &Status) -> String {
    match status.subscriber_dropped {
        0 => status.subscribers.to_string(),
        dropped => format!("{}; {dropped} entries dropped for slow ones", status.subscribers),
    }
}

fn uplink(uplink: &UplinkStatus) -> String {
    if uplink.collector.is_empty() {
        return "none".into();
    }
    let state = match (uplink.connected, uplink.last_error.as_str()) {
        (true, _) => "connected".into(),
        (false, "") => "connecting".into(),
        (false, error) => format!("away: {}", harmless(error)),
    };
    let mut text = format!(
        "{} {state}; {} batches delivered, {} waiting ({} of {}), {} entries shed",
        harmless(&uplink.collector),
        uplink.batches_acked,
        uplink.batches_waiting,
        bytes(uplink.bytes_waiting),
        bytes(uplink.bytes_limit),
        uplink.entries_shed
    );
    if !uplink.shed.is_empty() {
        let shed = uplink.shed.iter().map(|shed| match shed.name.as_str() {
            "" => format!("{} of any", shed.count),
            name => format!("{} {}", shed.count, harmless(name)),
        });
        let _ = write!(text, " ({})", shed.collect::<Vec<_>>().join(", "));
    }
    if !uplink.degraded.is_empty() {
        let _ = write!(text, "; waiting in memory: {}", harmless(&uplink.degraded));
    }
    text
}

fn output(output: &OutputStatus) -> String {
    let mut text = format!(
        "{} {} ({}); {} entries delivered, {} lost",
        harmless(&output.kind),
        harmless(&output.target),
        harmless(&output.format),
        output.delivered,
        output.lost
    );
    if output.refused > 0 {
        let _ = write!(text, ", {} refused", output.refused);
    }
    if !output.last_error.is_empty() {
        let _ = write!(text, "; away: {}", harmless(&output.last_error));
    }
    text
}

fn profiles(status: &Status) -> String {
    let count = |state| {
        status
            .profiles
            .iter()
            .filter(|profile| profile.state == state)
            .count()
    };
    let windows: u64 = status
        .profiles
        .iter()
        .map(|profile| u64::from(profile.windows))
        .sum();
    format!(
        "{} workloads by their system calls: {} being learned, {} learned, {} too varied; {windows} orders known",
        status.profiles.len(),
        count("learning"),
        count("enforced"),
        count("full")
    )
}

fn accounts(status: &Status) -> String {
    let mut text = format!(
        "\n{:<15}{:>12}{:>12}{:>12}{:>12}{:>9}  hook\n",
        "signal", "seen", "delivered", "muted", "aggregated", "lost"
    );
    for account in &status.accounts {
        let rung = status
            .hooks
            .iter()
            .find(|hook| hook.signal == account.signal)
            .map(|hook| match hook.rung.as_str() {
                "" => "none",
                rung => rung,
            });
        if rung == Some("off") && account.seen == 0 {
            continue;
        }
        let _ = writeln!(
            text,
            "{:<15}{:>12}{:>12}{:>12}{:>12}{:>9}  {}",
            harmless(&account.signal),
            account.seen,
            account.delivered,
            account.muted,
            account.aggregated,
            account.lost,
            harmless(rung.unwrap_or("?"))
        );
    }
    text
}

fn mutes(status: &Status) -> String {
    if status.mutes.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{:<12}{:>12}  muted\n", "", "events");
    for mute in &status.mutes {
        let _ = writeln!(
            text,
            "{:<12}{:>12}  {}",
            harmless(&mute.kind),
            mute.events,
            harmless(&mute.what)
        );
    }
    text
}

fn blind_spots(status: &Status) -> String {
    let blind: Vec<_> = status
        .hooks
        .iter()
        .filter(|hook| !hook.blind_spot.is_empty())
        .collect();
    if blind.is_empty() && status.blind_spots.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nnot visible on this kernel:\n");
    for hook in blind {
        let _ = writeln!(
            text,
            "  {}: {}",
            harmless(&hook.signal),
            harmless(&hook.blind_spot)
        );
    }
    for blind_spot in &status.blind_spots {
        let _ = writeln!(text, "  every event: {}", harmless(blind_spot));
    }
    text
}

#[cfg(test)]
mod tests {
    use sensor_proto::v1::{Account, Count, FleetStatus, Hook, Mute, Profile, RulesStatus};

    use super::*;

    #[test]
    fn it_reads_well() {
        let status = Status {
            version: "0.1.0".into(),
            host: "web1\x1b[2J".into(),
            kernel: "6.1.0".into(),
            started_ns: 1_700_000_000_000_000_000,
            accounts: vec![Account {
                signal: "exec".into(),
                seen: 12,
                delivered: 11,
                muted: 1,
                ..Account::default()
            }],
            hooks: vec![Hook {
                signal: "exec".into(),
                rung: "tp_btf/sched_process_exec".into(),
                refused: vec![],
                blind_spot: "nothing".into(),
            }],
            uplink: Some(UplinkStatus {
                collector: "http://127.0.0.1:7443".into(),
                last_error: "refused".into(),
                batches_waiting: 3,
                bytes_waiting: 3000,
                bytes_limit: 500_000_000,
                entries_shed: 9,
                shed: [("", 2), ("file_open", 7)]
                    .map(|(name, count)| Count {
                        name: name.into(),
                        count,
                    })
                    .into(),
                degraded: "disk full".into(),
                ..UplinkStatus::default()
            }),
            outputs: vec![OutputStatus {
                kind: "file".into(),
                target: "/var/log/sensor.json".into(),
                format: "ocsf".into(),
                delivered: 7,
                lost: 1,
                refused: 0,
                last_error: "disk full".into(),
            }],
            fleet: Some(FleetStatus {
                hosts: 12,
                facts: 5_432,
                time_ns: 1_700_000_000_000_000_000,
            }),
            processes: 99,
            subscribers: 1,
            rss_bytes: 12_000_000,
            peak_rss_bytes: 13_000_000,
            load_ns: 120_000_000,
            btf_ns: 9_000_000,
            respond_mode: "observe".into(),
            incidents: 0,
            recursion_misses: 0,
            rules: Some(RulesStatus {
                active: 70,
                idle: 2,
                faults: 1,
            }),
            late: 0,
            subscriber_dropped: 4,
            blind_spots: vec!["who logged in".into()],
            mutes: vec![Mute {
                kind: "path".into(),
                what: "/var/log\x07".into(),
                events: 17,
            }],
            profiles: ["learning", "enforced"]
                .map(|state| Profile {
                    workload: format!("unit:{state}.service"),
                    state: state.into(),
                    windows: 40,
                    unstored: 0,
                })
                .into(),
        };
        insta::assert_snapshot!(render(&status), @r"
        host        web1\x1b[2J (Linux 6.1.0)
        agent       0.1.0 since 2023-11-14T22:13:20.000Z
        loaded in   120.0 ms (BTF 9.0 ms)
        memory      12.0 MB, at most 13.0 MB
        processes   99
        incidents   0 (response: observe)
        rules       70 in use, 2 not, 1 with mistakes
        readers     1; 4 entries dropped for slow ones
        collector   http://127.0.0.1:7443 away: refused; 0 batches delivered, 3 waiting (3.0 kB of 500.0 MB), 9 entries shed (2 of any, 7 file_open); waiting in memory: disk full
        fleet       12 other hosts, which know 5432 facts; heard 2023-11-14T22:13:20.000Z
        output      file /var/log/sensor.json (ocsf); 7 entries delivered, 1 lost; away: disk full
        profiled    2 workloads by their system calls: 1 being learned, 1 learned, 0 too varied; 80 orders known

        signal                 seen   delivered       muted  aggregated     lost  hook
        exec                     12          11           1           0        0  tp_btf/sched_process_exec

                          events  muted
        path                  17  /var/log\x07

        not visible on this kernel:
          exec: nothing
          every event: who logged in
        ");
    }
}
