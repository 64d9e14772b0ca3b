//! How somebody came in, and who that makes them: an insider, somebody from outside, or neither for certain.
//!
//! Up from a process, the first ancestor decides that lets people in, that works by the clock, or that installs software; else what kind of
//! workload it is. Beside that stands what is known of the identity behind it: where the account logs in from, and what failed
//! before it did. Each of it is evidence, for one side or the other, with its reason; the weightier side is the conclusion. A stolen login
//! begins like any login: what speaks against its owner is where it came from and what went before, not that it is a login.
//!
//! Bounds: [`SESSIONS`] logins, [`ADDRESSES`] addresses with failures and [`LISTENERS`] workloads that listen, the oldest first to go; the model of who
//! comes from where has the bounds of [`Novelty`]; a walk up is [`ANCESTORS`] long at most.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use lru::LruCache;
use sensor_behaviour::{
    SnapshotError,
    novelty::{Learning, Limits, Novelty, Opinion},
};
use sensor_common::Signal;
use serde::{Deserialize, Serialize};

use super::SubjectKind;
use crate::{
    host::{Body, Event, Process, Session, Tree},
    time::BootTime,
};

const SESSIONS: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();
const ADDRESSES: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
const LISTENERS: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
const ANCESTORS: usize = 64;

/// Failures of an address that count against a login from it, for how long they do, and how many it takes.
const FAILURES_KEPT: Duration = Duration::from_secs(900);
const FAILURES: u32 = 5;

/// Logins of an account after which one from elsewhere is news.
const LOGINS_LEARNED: u64 = 5;

const LEARNING: Learning = Learning {
    events: Some(LOGINS_LEARNED),
    span_ns: None,
    unseen: None,
};

/// Which side somebody is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Somebody with an account here, who uses it.
    Insider,
    /// Somebody who has none: through a service, or with another's account.
    External,
    /// There is as much for one as for the other.
    Unclear,
}

/// How a process tree came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// Somebody logged in through this program.
    Login {
        /// `sshd`, `login`.
        program: Box<str>,
        /// Where from; empty for this host, or where nobody recorded it.
        remote: Box<str>,
    },
    /// A service, which listens at this port if it is known to.
    Service(Box<str>, Option<u16>),
    /// The clock: this program works by it.
    Scheduled(Box<str>),
    /// A container.
    Container(Box<str>),
    /// This program installs software.
    Packages(Box<str>),
    /// None of these.
    Unknown,
}

impl Entry {
    /// Its kind, as the wire has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Login { .. } => "login",
            Self::Service(..) => "service",
            Self::Scheduled(_) => "scheduled",
            Self::Container(_) => "container",
            Self::Packages(_) => "packages",
            Self::Unknown => "unknown",
        }
    }
}

/// What is concluded, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// How it came in.
    pub entry: Entry,
    /// Whose doing it is.
    pub side: Side,
    /// Sentences for people, each with the side that it speaks for; the weightiest first.
    pub reasons: Vec<(Side, String)>,
}

/// What is known of who comes in, and how.
#[derive(Debug)]
pub struct Origins {
    /// By audit session.
    logins: LruCache<u32, Login>,
    /// By address: how many failures of late, and when the last was.
    failures: LruCache<Box<str>, (u32, BootTime)>,
    /// By workload.
    listeners: LruCache<Box<str>, u16>,
    sources: Novelty,
}

/// A login as it was recorded.
#[derive(Clone, Debug)]
struct Login {
    user: Box<str>,
    program: Box<str>,
    remote: Box<str>,
    /// Nothing like it, where the account is well known.
    is_new: bool,
    /// Failures from the same address just before.
    failures: u32,
}

struct Evidence {
    side: Side,
    weight: f64,
    reason: String,
}

impl Origin {
    /// Nothing is known.
    #[cfg(test)]
    pub(crate) fn unknown() -> Arc<Self> {
        Arc::new(Self {
            entry: Entry::Unknown,
            side: Side::Unclear,
            reasons: Vec::new(),
        })
    }
}

impl Default for Origins {
    fn default() -> Self {
        Self {
            logins: LruCache::new(SESSIONS),
            failures: LruCache::new(ADDRESSES),
            listeners: LruCache::new(LISTENERS),
            sources: Novelty::new(Limits::default(), LEARNING),
        }
    }
}

impl Origins {
    /// What was learned of who comes from where.
    pub(super) fn model(&self) -> &Novelty {
        &self.sources
    }

    pub(super) fn model_mut(&mut self) -> &mut Novelty {
        &mut self.sources
    }

    pub(super) fn unlearned(&self) -> Novelty {
        Novelty::new(Limits::default(), LEARNING)
    }

    pub(super) fn read(&self, bytes: &[u8]) -> Result<Novelty, SnapshotError> {
        Novelty::from_snapshot(bytes, Limits::default(), LEARNING)
    }

    /// Takes note of logins, of failures, and of who listens.
    pub fn note(&mut self, event: &Event) {
        match &event.body {
            Body::Session(session) if session.signal == Signal::AuthFailure => self.fail(session, event.time),
            Body::Session(session) if session.signal == Signal::Login => self.log_in(session, event),
            Body::Listen { address, .. } => {
                if let Some(process) = &event.process {
                    self.listeners.put(process.workload.name.clone(), address.port());
                }
            }
            _ => {}
        }
    }

    fn fail(&mut self, session: &Session, now: BootTime) {
        if session.remote.is_empty() {
            return;
        }
        let (count, last) = self.failures.get_or_insert_mut_ref(&session.remote, || (0, now));
        if now.since(*last) > FAILURES_KEPT {
            *count = 0;
        }
        *count = count.saturating_add(1);
        *last = now;
    }

    fn log_in(&mut self, session: &Session, event: &Event) {
        let recent = self.failures.peek(&session.remote);
        let recent = recent.filter(|(_, last)| event.time.since(*last) <= FAILURES_KEPT);
        let failures = recent.map_or(0, |(count, _)| *count);
        let scope = format!("user:{}", session.user);
        let from = network(&session.remote);
        let is_new = matches!(
            self.sources
                .observe(&[&scope], b"logs in from", from.as_bytes(), event.time.0),
            Opinion::Surprise(_)
        );
        let login = Login {
            user: session.user.clone(),
            program: session.program.clone(),
            remote: session.remote.clone(),
            is_new,
            failures,
        };
        let number = event
            .process
            .as_ref()
            .and_then(|process| process.credentials.session_id);
        if let Some(number) = number {
            self.logins.put(number, login);
        }
    }

    /// Where `process` comes from. `processes` is asked for its ancestors.
    #[must_use]
    pub fn of(&self, process: &Arc<Process>, processes: &Tree) -> Origin {
        self.conclude(process, processes, Vec::new())
    }

    /// The same of who is behind `event`: somebody who fails to log in has not come in.
    #[must_use]
    pub fn behind(&self, event: &Event, process: &Arc<Process>, processes: &Tree) -> Origin {
        let mut evidence = Vec::new();
        if let Body::Session(session) = &event.body
            && !session.remote.is_empty()
            && matches!(session.signal, Signal::AuthFailure | Signal::Login)
        {
            evidence.push(Evidence {
                side: Side::External,
                weight: 2.0,
                reason: format!(
                    "it began at {}, from where somebody tries to log in",
                    session.remote
                ),
            });
        }
        self.conclude(process, processes, evidence)
    }

    fn conclude(&self, process: &Arc<Process>, processes: &Tree, mut evidence: Vec<Evidence>) -> Origin {
        let entry = self.entry(process, processes);
        self.weigh_entry(&entry, &mut evidence);
        self.weigh_identity(process, &mut evidence);
        evidence.sort_by(|left: &Evidence, right| right.weight.total_cmp(&left.weight));
        let sum = |side| {
            let of_side = evidence.iter().filter(|one| one.side == side);
            of_side.map(|one| one.weight).sum::<f64>()
        };
        let side = match sum(Side::External) - sum(Side::Insider) {
            more if more >= 0.5 => Side::External,
            less if less <= -0.5 => Side::Insider,
            _ => Side::Unclear,
        };
        Origin {
            entry,
            side,
            reasons: evidence.into_iter().map(|one| (one.side, one.reason)).collect(),
        }
    }

    fn login(&self, process: &Process) -> Option<&Login> {
        self.logins.peek(&process.credentials.session_id?)
    }

    fn entry(&self, process: &Arc<Process>, processes: &Tree) -> Entry {
        let mut at = Arc::clone(process);
        for _ in 0..ANCESTORS {
            let name = program(&at);
            match kind(&name) {
                // Before anybody has logged in it is a service like others.
                Some(Kind::Login) if process.credentials.login_uid.is_some() => {
                    let login = self.login(process);
                    return Entry::Login {
                        program: name,
                        remote: login.map(|login| login.remote.clone()).unwrap_or_default(),
                    };
                }
                Some(Kind::Schedule) => return Entry::Scheduled(name),
                Some(Kind::Packages) => return Entry::Packages(name),
                Some(Kind::Login) | None => {}
            }
            match at.parent.and_then(|parent| processes.get(parent)) {
                Some(parent) => at = Arc::clone(parent),
                None => break,
            }
        }
        let workload = &process.workload;
        match SubjectKind::of(workload) {
            Some(SubjectKind::Container) => Entry::Container(workload.name.clone()),
            Some(SubjectKind::Unit) => {
                let port = self.listeners.peek(&workload.name).copied();
                Entry::Service(workload.name.clone(), port)
            }
            _ => match self.login(process) {
                Some(login) => Entry::Login {
                    program: login.program.clone(),
                    remote: login.remote.clone(),
                },
                // Nobody recorded the login, but the kernel knows that there was one.
                None if process.credentials.login_uid.is_some() => Entry::Login {
                    program: Box::default(),
                    remote: Box::default(),
                },
                None => Entry::Unknown,
            },
        }
    }

    fn weigh_entry(&self, entry: &Entry, evidence: &mut Vec<Evidence>) {
        let mut add = |side, weight, reason| evidence.push(Evidence { side, weight, reason });
        match entry {
            Entry::Login { program, .. } if program.is_empty() => add(
                Side::Insider,
                0.8,
                "it belongs to the session of somebody who has logged in".to_owned(),
            ),
            Entry::Login { program, remote } if remote.is_empty() => add(
                Side::Insider,
                1.0,
                format!("it began with a login by {program} on this host"),
            ),
            Entry::Login { program, remote } => add(
                Side::Insider,
                1.0,
                format!("it began with a login by {program} from {remote}"),
            ),
            Entry::Service(name, Some(port)) => add(
                Side::External,
                2.0,
                format!("it began in {name}, which listens at port {port}: nobody logged in"),
            ),
            Entry::Service(name, None) => add(
                Side::External,
                1.0,
                format!("it began in {name}, where nobody logs in"),
            ),
            Entry::Container(name) => add(
                Side::External,
                1.0,
                format!("it began in {name}, where nobody logs in"),
            ),
            Entry::Scheduled(program) => add(
                Side::Insider,
                0.4,
                format!("{program} began it, as somebody who may write its table has told it to"),
            ),
            Entry::Packages(program) => add(
                Side::Insider,
                0.4,
                format!("{program} began it, while it installed software"),
            ),
            Entry::Unknown => {}
        }
    }

    fn weigh_identity(&self, process: &Process, evidence: &mut Vec<Evidence>) {
        if let Some(login) = self.login(process) {
            let Login {
                user,
                remote,
                is_new,
                failures,
                ..
            } = login;
            if *is_new {
                evidence.push(Evidence {
                    side: Side::External,
                    weight: 1.5,
                    reason: format!("{user} has never logged in from {remote} before"),
                });
            } else if !remote.is_empty() {
                evidence.push(Evidence {
                    side: Side::Insider,
                    weight: 0.5,
                    reason: format!("{user} logs in from there"),
                });
            }
            if *failures >= FAILURES {
                evidence.push(Evidence {
                    side: Side::External,
                    weight: 2.0,
                    reason: format!("{failures} logins from {remote} failed before this one did not"),
                });
            }
        }
        let credentials = &process.credentials;
        if let Some(login_uid) = credentials.login_uid
            && login_uid != credentials.uid
        {
            evidence.push(Evidence {
                side: Side::Insider,
                weight: 0.3,
                reason: format!(
                    "who logged in as user {login_uid} acts as user {}",
                    credentials.uid
                ),
            });
        }
    }
}

enum Kind {
    Login,
    Schedule,
    Packages,
}

/// What kind of beginning a program is.
fn kind(name: &str) -> Option<Kind> {
    match name {
        "sshd" | "sshd-session" | "login" | "dropbear" | "gdm-session-worker" | "sddm-helper" | "lightdm"
        | "in.telnetd" | "agetty" => Some(Kind::Login),
        "cron" | "crond" | "anacron" | "atd" | "fcron" => Some(Kind::Schedule),
        "apt" | "apt-get" | "dpkg" | "unattended-upgr" | "unattended-upgrade" | "dnf" | "dnf5" | "yum"
        | "rpm" | "zypper" | "apk" | "pacman" | "snapd" => Some(Kind::Packages),
        _ => None,
    }
}

/// Name of what a process runs.
fn program(process: &Process) -> Box<str> {
    let name = process.image.executable.rsplit(|byte| *byte == b'/').next();
    String::from_utf8_lossy(name.unwrap_or_default()).into()
}

/// The network that an address is in, as far as an account usually stays in one: 24 bits of IPv4, 48 of IPv6. A name is itself.
pub(super) fn network(remote: &str) -> String {
    match remote.parse() {
        Ok(std::net::IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        Ok(std::net::IpAddr::V6(address)) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
        Err(_) if remote.is_empty() => "this host".to_owned(),
        Err(_) => remote.to_owned(),
    }
}

#[cfg(test)]
mod tests;
