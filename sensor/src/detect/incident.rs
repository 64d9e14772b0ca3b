//! Signals that belong together.

use std::{hash::Hasher, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{Entry, Origin, Side, Signal, detector::Suspicion, stakes::Weight};
use crate::{
    host::{Body, Event, Flow, Process, Tree},
    privacy::is_public,
    time::{BootTime, WallTime},
};

/// Signals that an incident keeps as evidence: the first ones.
pub(super) const EVIDENCE: usize = 16;

/// Processes that an incident keeps, and how many of them at most are those that one comes from.
const PROCESSES: usize = 48;
const ANCESTORS: usize = 12;

/// How bad it would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// One step worse, where there is one.
    pub(super) const fn worse(self) -> Self {
        match self {
            Self::Low => Self::Medium,
            Self::Medium => Self::High,
            Self::High | Self::Critical => Self::Critical,
        }
    }

    /// One step milder, where there is one.
    pub(super) const fn milder(self) -> Self {
        match self {
            Self::Critical => Self::High,
            Self::High => Self::Medium,
            Self::Medium | Self::Low => Self::Low,
        }
    }
}

/// Signals that belong together, told as one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// The same recording gives the same id.
    pub id: Box<str>,
    /// When its first event happened.
    pub opened: WallTime,
    /// When its latest event happened, for people and for the order.
    pub updated: WallTime,
    /// The same in boot time: what latencies are measured from.
    pub updated_boot: BootTime,
    /// How bad it would be.
    pub severity: Severity,
    /// How bad the latest of it is by itself: what is done about its process goes by that.
    pub acute: Severity,
    /// What the operator has said of what is at stake, by its name in the configuration, where that made it worse or milder.
    pub at_stake: Option<Arc<str>>,
    /// One sentence: what happened, to what, why it is unusual.
    pub summary: String,
    /// What the worst of it is unusual for.
    pub subject: Box<str>,
    /// The process at the heart of it.
    pub process: Arc<Process>,
    /// The processes of its evidence with those that they come from, the latest last; bounded.
    pub processes: Vec<Arc<Process>>,
    /// How whoever it is came in, as it was known when the incident was opened, or once that was clear.
    pub origin: Arc<Origin>,
    /// The evidence, bounded; the first is the one that opened it.
    pub signals: Vec<Arc<Signal>>,
    /// How often the same was seen since it was opened.
    pub count: u64,
    /// By what it is found while it is open.
    pub key: u64,
    /// Why it goes on no more; `None` while it does.
    pub ended: Option<Ended>,
}

/// Why an incident goes on no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It was a part of this one.
    Merged(Box<str>),
    /// Nothing more of it was seen for as long as an incident may pause, or there were too many others.
    Quiet,
    /// Somebody has looked at it.
    Closed,
}

impl Incident {
    /// Where its process connects to, as the latest evidence of that has it. Whom it asks for names is not who is meant.
    #[must_use]
    pub fn destination(&self) -> Option<IpAddr> {
        let events = self.signals.iter().rev().map(|signal| &signal.event);
        let mut own = events.filter(|event| {
            let process = event.process.as_ref();
            process.is_some_and(|process| process.id == self.process.id)
        });
        own.find_map(|event| flow(event).filter(|flow| !flow.inbound))
            .map(|flow| flow.remote.ip().to_canonical())
    }

    /// Whether somebody from this address is behind it, or its evidence has it as the other end.
    pub(super) fn is_about(&self, address: IpAddr) -> bool {
        let came_from = intruder(&self.origin).and_then(|remote| remote.parse().ok());
        let mut events = self.signals.iter().map(|signal| &signal.event);
        came_from == Some(address) || events.any(|event| outside(event) == Some(address))
    }

    /// Adds a process, and those that it comes from in what is known.
    pub(super) fn involve(&mut self, process: &Arc<Process>, processes: &Tree) {
        let mut lineage = vec![process];
        while lineage.len() < ANCESTORS
            && let Some(parent) = lineage.last().and_then(|last| last.parent)
            && let Some(parent) = processes.get(parent)
        {
            lineage.push(parent);
        }
        for process in lineage.into_iter().rev() {
            self.involve_one(process);
        }
    }

    /// What a process has become since is as much a part of the story as what it was.
    fn involve_one(&mut self, process: &Arc<Process>) {
        let is_it = |known: &&mut Arc<Process>| known.id == process.id && known.image == process.image;
        if let Some(known) = self.processes.iter_mut().find(is_it) {
            *known = Arc::clone(process);
            return;
        }
        if self.processes.len() >= PROCESSES {
            self.processes.remove(1);
        }
        self.processes.push(Arc::clone(process));
    }

    /// Adds what was found again, or more of it.
    pub(super) fn grow(
        &mut self,
        suspicion: &Suspicion,
        weight: &Weight,
        process: Arc<Process>,
        processes: &Tree,
    ) {
        let Suspicion { signal, evidence, .. } = suspicion;
        let severity = weight.severity;
        let event = &signal.event;
        let is_same_event = self
            .signals
            .last()
            .is_some_and(|last| Arc::ptr_eq(&last.event, event));
        self.count += u64::from(!is_same_event);
        self.acute = if is_same_event {
            self.acute.max(severity)
        } else {
            severity
        };
        if severity > self.severity {
            self.at_stake.clone_from(&weight.at_stake);
            self.summary = summary(signal, evidence);
            self.subject = signal.subject.clone();
        }
        self.updated = self.updated.max(event.wall);
        self.updated_boot = self.updated_boot.max(event.time);
        self.severity = self.severity.max(severity);
        if !Arc::ptr_eq(&self.process, &process) {
            self.involve(&process, processes);
        }
        self.process = process;
        keep(&mut self.signals, signal);
    }

    /// Takes another in, of which it has turned out that it is the same story. What is worse is what it is called by.
    pub(super) fn absorb(&mut self, other: &Self) {
        if other.severity > self.severity {
            self.severity = other.severity;
            self.at_stake.clone_from(&other.at_stake);
            self.summary.clone_from(&other.summary);
            self.subject.clone_from(&other.subject);
        }
        self.opened = self.opened.min(other.opened);
        self.updated = self.updated.max(other.updated);
        self.updated_boot = self.updated_boot.max(other.updated_boot);
        self.count += other.count;
        for signal in &other.signals {
            keep(&mut self.signals, signal);
        }
        self.signals.sort_by_key(|signal| signal.event.time);
        for process in &other.processes {
            self.involve_one(process);
        }
    }
}

/// The address that somebody from outside came from, if it is known.
pub(super) fn intruder(origin: &Origin) -> Option<&str> {
    match &origin.entry {
        Entry::Login { remote, .. } if origin.side == Side::External && !remote.is_empty() => Some(remote),
        _ => None,
    }
}

/// The other end, out in the world. On networks of one's own, many have to do with the same address for many reasons; and everything is behind a
/// name server.
pub(super) fn outside(event: &Event) -> Option<IpAddr> {
    let address = flow(event)?.remote.ip().to_canonical();
    is_public(address).then_some(address)
}

/// The connection of an event, but for one that only asks for a name.
fn flow(event: &Event) -> Option<&Flow> {
    match &event.body {
        Body::Dns(..) => None,
        body => body.flow(),
    }
}

/// Adds to the evidence. Where there is no room, what says the same as another gives way to what is said for the first time.
pub(super) fn keep(evidence: &mut Vec<Arc<Signal>>, signal: &Arc<Signal>) {
    let says = |signal: &Signal| (signal.source, signal.rule.as_ref().map(|rule| rule.id.clone()));
    if evidence.len() < EVIDENCE {
        return evidence.push(Arc::clone(signal));
    }
    if evidence.iter().any(|other| says(other) == says(signal)) {
        return;
    }
    let is_repeated = |index: &usize| {
        evidence[..*index]
            .iter()
            .any(|other| says(other) == says(&evidence[*index]))
    };
    if let Some(index) = (1..evidence.len()).rev().find(is_repeated) {
        evidence.remove(index);
        evidence.push(Arc::clone(signal));
    }
}

/// The rarest of what was seen, and how much there is beside it.
pub(super) fn summary(signal: &Signal, evidence: &[Arc<Signal>]) -> String {
    let rarest = evidence
        .iter()
        .map(Arc::as_ref)
        .chain([signal])
        .min_by(|left, right| left.p_value.total_cmp(&right.p_value));
    let reason = rarest.and_then(|signal| signal.reasons.first());
    let mut summary = reason.cloned().unwrap_or_default();
    match evidence.len() {
        0 => {}
        1 => summary.push_str("; and one thing more"),
        more => summary.push_str(&format!("; and {more} things more")),
    }
    summary
}

/// SipHash-1-3 with fixed keys: the same on every host and in every version. Each part is hashed with its length,
/// so that no two lists of parts run into one another.
pub(super) fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x5e05_0f1e_57ee_0002, 0);
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish()
}
