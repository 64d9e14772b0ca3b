//! What the collector notices of agents, as incidents.

use std::time::{SystemTime, UNIX_EPOCH};

use sensor_proto::v1::{Ending, Incident, Severity, ending};

use super::{Leaving, News};

/// What incidents of the collector begin with, where those of agents have the digest of a process.
pub const PREFIX: &str = "collector-";

/// What an incident is about that says that an agent is gone.
pub const AGENT: &str = "agent";

/// What an incident is about that says that a clock was moved.
pub const CLOCK: &str = "clock";

/// An incident of a host that `news` opens; nothing for news that close one.
#[must_use]
pub fn opened(news: &News) -> Option<(String, Incident)> {
    let now = now_ns();
    let (host, subject, severity, summary) = match news {
        News::Gone { host, leaving, since } => {
            let seconds = since.as_secs();
            let (severity, what) = match leaving {
                Leaving::InOrder => (Severity::Low, "was stopped in order"),
                Leaving::Abruptly => (
                    Severity::High,
                    "is gone without having said so: it was killed or cut off, or the host is down",
                ),
            };
            let summary = format!(
                "The agent of {host} {what}; nothing was heard of it for {seconds} s, and nobody watches there"
            );
            (host, AGENT, severity, summary)
        }
        News::ClockMoved { host, by_ns } => {
            let summary = format!(
                "On {host}, {}: times of events before and after do not compare",
                super::moved(*by_ns)
            );
            (host, CLOCK, Severity::Medium, summary)
        }
        News::Back { .. } => return None,
    };
    let incident = Incident {
        id: format!("{PREFIX}{subject}-{now:x}"),
        opened_ns: now,
        updated_ns: now,
        severity: severity.into(),
        summary,
        subject: subject.to_owned(),
        count: 1,
        tactics: vec!["defense-evasion".to_owned()],
        ..Incident::default()
    };
    Some((host.clone(), incident))
}

/// The same incident when it is over.
#[must_use]
pub fn ended(mut incident: Incident, why: &str) -> Incident {
    let now = now_ns();
    incident.updated_ns = now;
    incident.ended = Some(Ending {
        reason: ending::Reason::Quiet.into(),
        who: "collector".to_owned(),
        why: why.to_owned(),
        time_ns: now,
        ..Ending::default()
    });
    incident
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
