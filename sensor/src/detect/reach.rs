//! Whom a subject reaches, and who tries to get in: bursts of connections to whom it never had any, and of failures.
//!
//! Connections are of who logged in, or else of the workload. They are counted when they are attempted, and their failure when it is known. Logins
//! are of this host as a whole, by where they come from: of an address that nobody knows nothing could be said. A subject is known to be silent
//! from its first program on.
//!
//! Bounds: those of [`Edges`]; [`SUBJECTS`] subjects whose scores are known.

use std::{fmt::Write as _, io::Write as _};

use sensor_behaviour::{
    SnapshotError, Tails,
    edges::{Attempt, Bounds, Burst, Edges, Kind},
    sentences,
};
use sensor_common::Signal;

use super::{
    dossier::{NOTABLE, Notice},
    incident::stable_hash,
    lineage::subject_in_words,
};
use crate::{
    host::{Body, Event, Flow, Process, Session},
    time::BootTime,
};

pub(super) const SUBJECTS: usize = 512;
const WINDOW_NS: u64 = 600_000_000_000;

/// The source of everything that tries to log in.
const LOGINS: &str = "logins";

/// New ends or failures that make a burst.
const SEVERAL: u32 = 3;

/// How much a burst has to grow, in nats, to be news again.
const GROWTH: f64 = 1.0;

/// Edges of which none is known.
pub(super) fn unlearned() -> Edges {
    Edges::new(bounds())
}

/// Those of a snapshot.
pub(super) fn read(bytes: &[u8], now: BootTime) -> Result<Edges, SnapshotError> {
    Edges::from_snapshot(bytes, bounds(), now.0)
}

fn bounds() -> Bounds {
    Bounds {
        sources: SUBJECTS,
        window_ns: WINDOW_NS,
        ..Bounds::default()
    }
}

/// The edges of all subjects.
#[derive(Debug)]
pub(super) struct Reach {
    edges: Edges,
    tails: Tails,
    window: u64,
    /// What was said of the bursts of this window: a hash of the source, and the score.
    said: Vec<(u64, f64)>,
    source: String,
    target: Vec<u8>,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            edges: unlearned(),
            tails: Tails::new(SUBJECTS),
            window: 0,
            said: Vec::new(),
            source: String::new(),
            target: Vec::new(),
        }
    }
}

impl Reach {
    /// What was learned.
    pub(super) fn models(&self) -> (&Edges, &Tails) {
        (&self.edges, &self.tails)
    }

    pub(super) fn resume(&mut self, edges: Edges, tails: Tails) {
        (self.edges, self.tails) = (edges, tails);
    }

    pub(super) fn merge(&mut self, edges: &Edges, tails: &Tails) {
        self.edges.merge(edges);
        self.tails.merge(tails);
    }

    /// Whether anything was known of `subject`.
    pub(super) fn forget(&mut self, subject: &str) -> bool {
        self.tails.forget(stable_hash(&[subject.as_bytes()]));
        self.edges.forget(subject)
    }

    /// From now on the subject of `process` is known to be silent, if it is.
    pub(super) fn introduce(&mut self, event: &Event, process: &Process) {
        self.name(process);
        self.edges.introduce(&self.source, event.time.0);
    }

    /// What is too much in `event`, which is of `process`.
    pub(super) fn judge(&mut self, event: &Event, process: &Process) -> Option<Notice> {
        self.end_windows(event.time.0);
        match &event.body {
            Body::Connect(flow) if !flow.inbound => self.connects(event, process, flow, false),
            Body::FlowClose(flow, _) if !flow.inbound && !flow.established => {
                self.connects(event, process, flow, true)
            }
            Body::Session(session) => self.logs_in(event, process, session),
            _ => None,
        }
    }

    fn connects(&mut self, event: &Event, process: &Process, flow: &Flow, failed: bool) -> Option<Notice> {
        self.name(process);
        self.target.clear();
        let _ = match &flow.remote_name {
            Some(name) => self.target.write_all(name.as_bytes()),
            None => write!(self.target, "{}", flow.remote.ip()),
        };
        let attempt = Attempt {
            source: &self.source,
            target: &self.target,
            port: flow.remote.port(),
            failed,
            time_ns: event.time.0,
        };
        let burst = if failed {
            self.edges.fail(&attempt)
        } else {
            self.edges.observe(&attempt)
        }?;
        // An attempt that is under way looks like one that went through.
        let burst = Burst {
            succeeded: false,
            ..burst
        };
        let subject = match process.credentials.login_uid {
            Some(user) => format!("user {user}"),
            None => subject_in_words(&process.workload),
        };
        self.notice(process, &burst, |burst| {
            sentences::burst(&subject, "10 minutes", burst)
        })
    }

    fn logs_in(&mut self, event: &Event, process: &Process, session: &Session) -> Option<Notice> {
        let failed = match session.signal {
            Signal::AuthFailure => true,
            Signal::Login => false,
            _ => return None,
        };
        self.source.clear();
        self.source.push_str(LOGINS);
        let target = if session.remote.is_empty() {
            "this host"
        } else {
            &*session.remote
        };
        let attempt = Attempt {
            source: LOGINS,
            target: target.as_bytes(),
            port: 0,
            failed,
            time_ns: event.time.0,
        };
        let burst = self.edges.observe(&attempt)?;
        let user = super::lineage::printable(session.user.as_bytes());
        self.notice(process, &burst, |burst| logins(burst, &user))
    }

    fn notice(
        &mut self,
        process: &Process,
        burst: &Burst,
        say: impl FnOnce(&Burst) -> String,
    ) -> Option<Notice> {
        let source = stable_hash(&[self.source.as_bytes()]);
        let p_value = self.tails.p_value(source, burst.score);
        // One new end is a fact, which others look at; a burst is several.
        if burst.new.max(burst.failures) < SEVERAL {
            return None;
        }
        let got_in = burst.kind == Kind::BruteForce && burst.succeeded;
        if p_value > NOTABLE || !(self.grows(source, burst.score) || got_in) {
            return None;
        }
        let (name, technique) = match burst.kind {
            Kind::BruteForce => ("brute force", "T1110"),
            Kind::PortScan => ("port scan", "T1046"),
            Kind::Sweep => ("sweep", "T1018"),
            Kind::LateralMovement => ("lateral movement", "T1021"),
            Kind::FanOut => ("fan-out", "T1071"),
        };
        Some(Notice {
            source: name,
            subject: process.workload.name.clone(),
            cause: stable_hash(&[b"reach", self.source.as_bytes()]),
            p_value,
            reason: say(burst),
            techniques: vec![technique],
            grave: got_in,
        })
    }

    /// Whether more is to be said of a source than was said in this window.
    fn grows(&mut self, source: u64, score: f64) -> bool {
        match self.said.iter_mut().find(|(known, _)| *known == source) {
            Some((_, said)) if score < *said + GROWTH => false,
            Some((_, said)) => {
                *said = score;
                true
            }
            None => {
                if self.said.len() < SUBJECTS {
                    self.said.push((source, score));
                }
                true
            }
        }
    }

    fn end_windows(&mut self, time_ns: u64) {
        let window = time_ns / WINDOW_NS;
        if window <= self.window {
            return;
        }
        self.window = window;
        self.said.clear();
        self.edges.introduce(LOGINS, time_ns);
        for (source, score) in self.edges.advance(time_ns) {
            self.tails.learn(stable_hash(&[source.as_bytes()]), score);
        }
    }

    /// Whose connections they are.
    fn name(&mut self, process: &Process) {
        self.source.clear();
        let _ = match process.credentials.login_uid {
            Some(user) => write!(self.source, "user:{user}"),
            None => write!(self.source, "{}", process.workload.name),
        };
    }
}

/// A burst of logins, the last of them of `user`.
fn logins(burst: &Burst, user: &str) -> String {
    let from = burst
        .examples
        .first()
        .map_or_else(String::new, |(target, _)| super::lineage::printable(target));
    let usual = format!("usual are {:.1} failures in 10 minutes", burst.usual[1]);
    match burst.kind {
        Kind::BruteForce if burst.succeeded => format!(
            "{} logins from {from} failed, and then one as {user} did not; {usual}",
            burst.failures
        ),
        Kind::BruteForce => format!(
            "{} logins from {from} failed, the last as {user}; {usual}",
            burst.failures
        ),
        _ => format!(
            "logins came from {} addresses never seen before, such as {from}, and {} failed; {usual}",
            burst.new, burst.failures
        ),
    }
}

#[cfg(test)]
mod tests;
