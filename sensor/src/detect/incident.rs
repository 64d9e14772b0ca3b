//! Signals that belong together.

use std::{hash::Hasher, sync::Arc, time::Duration};

use lru::LruCache;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{Origin, Signal, detector::Suspicion};
use crate::{
    config,
    host::Process,
    time::{BootTime, WallTime},
};

/// Signals that an incident keeps as evidence: the first ones.
const EVIDENCE: usize = 16;

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

/// Signals that belong together, told as one thing.
#[derive(Clone, Debug, PartialEq)]
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
    /// One sentence: what happened, to what, why it is unusual.
    pub summary: String,
    /// What it is unusual for.
    pub subject: Box<str>,
    /// The process at the heart of it.
    pub process: Arc<Process>,
    /// How whoever it is came in, as it was known when the incident was opened.
    pub origin: Arc<Origin>,
    /// The evidence, bounded; the first is the one that opened it.
    pub signals: Vec<Arc<Signal>>,
    /// How often the same was seen since it was opened.
    pub count: u64,
    /// What makes two of them the same.
    pub cause: u64,
}

/// The incidents that are open, a bounded number of them.
///
/// What has the same subject and the same cause is one incident for as long as it recurs within the window, so
/// that a shell started every minute is one line for the analyst, and every one of the shells for the response.
#[derive(Debug)]
pub struct Incidents {
    host: Box<str>,
    window: Duration,
    limit: usize,
    /// By subject and cause; the one that grew the longest ago first.
    open: LruCache<u64, Open>,
    /// Those that had to make room before their last state was told.
    left: Vec<Arc<Incident>>,
}

/// An open incident, and what of it was told.
#[derive(Debug)]
struct Open {
    incident: Arc<Incident>,
    /// How bad it was then, and the latest evidence.
    told: Option<(Severity, Arc<Signal>)>,
    /// Whether it has grown since.
    has_grown: bool,
}

impl Incidents {
    /// None are open.
    #[must_use]
    pub fn new(host: &str, config: &config::Detect) -> Self {
        Self {
            host: host.into(),
            window: config.incident_window,
            limit: config.max_incidents,
            open: LruCache::unbounded(),
            left: Vec::new(),
        }
    }

    /// Adds to the open incident of this subject and cause, or opens one. An event without a process opens none.
    /// `origin` is asked where an incident is opened.
    pub(super) fn join(
        &mut self,
        suspicion: Suspicion,
        origin: impl FnOnce(&Arc<Process>) -> Origin,
    ) -> Option<Arc<Incident>> {
        let Suspicion {
            signal,
            evidence,
            severity,
            cause,
        } = suspicion;
        let event = &signal.event;
        let process = event.process.clone()?;
        let key = key(&signal.subject, cause);
        if let Some(open) = self.open.get_mut(&key)
            && event.time.since(open.incident.updated_boot) < self.window
        {
            open.has_grown = true;
            let grown = Arc::make_mut(&mut open.incident);
            let is_same_event = grown
                .signals
                .last()
                .is_some_and(|last| Arc::ptr_eq(&last.event, event));
            grown.count += u64::from(!is_same_event);
            grown.acute = if is_same_event {
                grown.acute.max(severity)
            } else {
                severity
            };
            if severity > grown.severity {
                grown.summary = summary(&signal, &evidence);
            }
            grown.updated = grown.updated.max(event.wall);
            grown.updated_boot = grown.updated_boot.max(event.time);
            grown.severity = grown.severity.max(severity);
            grown.process = process;
            keep(&mut grown.signals, &signal);
            return Some(Arc::clone(&open.incident));
        }
        let incident = Arc::new(Incident {
            id: self.id(&signal, cause, &process).into(),
            opened: event.wall,
            updated: event.wall,
            updated_boot: event.time,
            severity,
            acute: severity,
            summary: summary(&signal, &evidence),
            subject: signal.subject.clone(),
            origin: Arc::new(origin(&process)),
            process,
            signals: std::iter::once(Arc::clone(&signal))
                .chain(evidence)
                .take(EVIDENCE)
                .collect(),
            count: 1,
            cause,
        });
        let open = Open {
            incident: Arc::clone(&incident),
            told: None,
            has_grown: true,
        };
        let closed = self.open.push(key, open).map(|(_, closed)| closed);
        self.leave(closed);
        while self.open.len() > self.limit {
            let oldest = self.open.pop_lru().map(|(_, oldest)| oldest);
            self.leave(oldest);
        }
        Some(incident)
    }

    fn leave(&mut self, open: Option<Open>) {
        if let Some(open) = open.filter(|open| open.has_grown && self.left.len() < self.limit) {
            self.left.push(open.incident);
        }
    }

    /// Whether this state of it is to be told at once: it is new, worse than when it was told last, or there is other evidence. That the
    /// same went on is told by [`untold`](Self::untold).
    pub(super) fn is_news(&mut self, incident: &Incident) -> bool {
        let open = self.open.peek_mut(&key(&incident.subject, incident.cause));
        let Some(open) = open.filter(|open| open.incident.id == incident.id) else {
            return true;
        };
        let (severity, evidence) = (incident.severity, incident.signals.last());
        let is_known = open.told.as_ref().is_some_and(|(told, latest)| {
            severity <= *told && evidence.is_some_and(|signal| Arc::ptr_eq(signal, latest))
        });
        if !is_known {
            open.told = evidence.map(|signal| (severity, Arc::clone(signal)));
            open.has_grown = false;
        }
        !is_known
    }

    /// Those that have grown since they were told, as they are now. To be asked for about once a second.
    pub(super) fn untold(&mut self) -> Vec<Arc<Incident>> {
        let mut untold = std::mem::take(&mut self.left);
        // What grew lately comes first.
        let grown = self.open.iter_mut().filter(|(_, open)| open.has_grown);
        untold.extend(grown.map(|(_, open)| {
            open.has_grown = false;
            Arc::clone(&open.incident)
        }));
        untold
    }

    /// The open incident of that id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Incident>> {
        let mut open = self.open.iter().map(|(_, open)| &open.incident);
        open.find(|incident| *incident.id == *id).cloned()
    }

    /// It was none.
    pub(super) fn close(&mut self, id: &str) {
        let key = self.open.iter().find(|(_, open)| *open.incident.id == *id);
        if let Some(key) = key.map(|(key, _)| *key) {
            self.open.pop(&key);
        }
    }

    fn id(&self, signal: &Signal, cause: u64, process: &Process) -> String {
        let parts: [&[u8]; 5] = [
            self.host.as_bytes(),
            signal.subject.as_bytes(),
            &cause.to_le_bytes(),
            &signal.event.time.0.to_le_bytes(),
            &process.id.tgid.to_le_bytes(),
        ];
        format!("{:016x}", stable_hash(&parts))
    }
}

/// What incidents are found by.
fn key(subject: &str, cause: u64) -> u64 {
    stable_hash(&[subject.as_bytes(), &cause.to_le_bytes()])
}

/// Adds to the evidence. Where there is no room, what says the same as another gives way to what is said for the first time.
fn keep(evidence: &mut Vec<Arc<Signal>>, signal: &Arc<Signal>) {
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
fn summary(signal: &Signal, evidence: &[Arc<Signal>]) -> String {
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
