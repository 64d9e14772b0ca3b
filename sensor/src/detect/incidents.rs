//! The incidents that are open.

use std::{sync::Arc, time::Duration};

use lru::LruCache;

use super::{
    Incident, Origin, Severity, Side, Signal,
    detector::Suspicion,
    incident::{EVIDENCE, Ended, intruder, outside, stable_hash, summary},
    stakes::{Stakes, Weight},
};
use crate::{
    config,
    host::{Event, Process, Tree},
    time::BootTime,
};

/// The incidents that are open, a bounded number of them.
///
/// What has the same cause, or happens to somebody on whom an incident is open, is one incident for as long as it recurs within the window, so
/// that a shell started every minute is one line for the analyst, and every one of the shells for the response.
#[derive(Debug)]
pub struct Incidents {
    host: Box<str>,
    window: Duration,
    limit: usize,
    stakes: Stakes,
    /// By key; the one that grew the longest ago first.
    open: LruCache<u64, Open>,
    /// Those that had to make room or have ended, whose last state was not told.
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
            stakes: Stakes::new(&config.stakes),
            open: LruCache::unbounded(),
            left: Vec::new(),
        }
    }

    /// Goes on with one that was open when an agent before this one ended.
    pub(super) fn resume(&mut self, incident: Incident) {
        let open = Open {
            told: incident
                .signals
                .last()
                .map(|signal| (incident.severity, Arc::clone(signal))),
            incident: Arc::new(incident),
            has_grown: false,
        };
        self.put(open);
    }

    /// Adds to the incident that is open, or opens one. An event without a process opens none.
    /// `origin` is asked where an incident is opened.
    pub(super) fn join(
        &mut self,
        suspicion: &Suspicion,
        processes: &Tree,
        origin: impl FnOnce(&Arc<Process>) -> Origin,
    ) -> Option<Arc<Incident>> {
        let event = &suspicion.signal.event;
        let process = event.process.clone()?;
        let weight = self.stakes.weigh(suspicion.severity, event, &process);
        if let Some(incident) = self.grow(suspicion.key, suspicion, &weight, &process, processes) {
            // Whoever it is may have logged in since, or be known by another of their processes.
            return Some(match incident.origin.side {
                Side::Unclear => self.learn_origin(suspicion.key, incident, origin(&process)),
                _ => incident,
            });
        }
        let origin = origin(&process);
        if let Some(key) = self.of_address(&origin, event)
            && let Some(incident) = self.grow(key, suspicion, &weight, &process, processes)
        {
            return Some(incident);
        }
        let Suspicion {
            signal,
            evidence,
            key,
            ..
        } = suspicion;
        let mut incident = Incident {
            id: self.id(signal, *key, &process).into(),
            opened: event.wall,
            updated: event.wall,
            updated_boot: event.time,
            severity: weight.severity,
            acute: weight.severity,
            at_stake: weight.at_stake,
            summary: summary(signal, evidence),
            subject: signal.subject.clone(),
            origin: Arc::new(origin),
            process: Arc::clone(&process),
            processes: Vec::new(),
            signals: std::iter::once(signal)
                .chain(evidence)
                .take(EVIDENCE)
                .cloned()
                .collect(),
            count: 1,
            key: *key,
            ended: None,
        };
        incident.involve(&process, processes);
        let incident = Arc::new(incident);
        self.put(Open {
            incident: Arc::clone(&incident),
            told: None,
            has_grown: true,
        });
        Some(incident)
    }

    /// Now it is clear who it is, if `origin` says so.
    fn learn_origin(&mut self, key: u64, incident: Arc<Incident>, origin: Origin) -> Arc<Incident> {
        match self.open.peek_mut(&key) {
            Some(open) if origin.side != Side::Unclear => {
                drop(incident);
                open.told = None;
                Arc::make_mut(&mut open.incident).origin = Arc::new(origin);
                Arc::clone(&open.incident)
            }
            _ => incident,
        }
    }

    fn grow(
        &mut self,
        key: u64,
        suspicion: &Suspicion,
        weight: &Weight,
        process: &Arc<Process>,
        processes: &Tree,
    ) -> Option<Arc<Incident>> {
        let open = self.open.get_mut(&key)?;
        let paused = suspicion.signal.event.time.since(open.incident.updated_boot);
        if paused >= self.window {
            return None;
        }
        open.has_grown = true;
        Arc::make_mut(&mut open.incident).grow(suspicion, weight, Arc::clone(process), processes);
        Some(Arc::clone(&open.incident))
    }

    /// The incident that has to do with the same address: of somebody from outside who came from there, or with evidence that somebody connected to
    /// it, or from it. An address that insiders come from, as that of a jump host, would make one of many.
    fn of_address(&self, origin: &Origin, event: &Event) -> Option<u64> {
        let name = intruder(origin);
        let addresses = [name.and_then(|name| name.parse().ok()), outside(event)];
        if name.is_none() && addresses == [None; 2] {
            return None;
        }
        let is_same = |open: &Open| {
            let incident = &open.incident;
            event.time.since(incident.updated_boot) < self.window
                && (name.is_some() && intruder(&incident.origin) == name
                    || addresses
                        .into_iter()
                        .flatten()
                        .any(|address| incident.is_about(address)))
        };
        let found = self.open.iter().find(|(_, open)| is_same(open));
        found.map(|(key, _)| *key)
    }

    fn put(&mut self, open: Open) {
        let closed = self.open.push(open.incident.key, open);
        self.leave(closed.map(|(_, closed)| closed), Ended::Quiet);
        while self.open.len() > self.limit {
            let oldest = self.open.pop_lru().map(|(_, oldest)| oldest);
            self.leave(oldest, Ended::Quiet);
        }
    }

    fn leave(&mut self, open: Option<Open>, why: Ended) {
        if let Some(mut open) = open.filter(|_| self.left.len() < self.limit) {
            Arc::make_mut(&mut open.incident).ended = Some(why);
            self.left.push(open.incident);
        }
    }

    /// Makes one of two that turned out to be the same; the one that was opened first stays. By which key it is found from now on; `None` if
    /// they are not both open.
    pub(super) fn merge(&mut self, keys: [u64; 2]) -> Option<u64> {
        let [first, second] = keys.map(|key| self.open.peek(&key).map(|open| open.incident.opened));
        let [stays, goes] = match first? <= second? {
            true => keys,
            false => [keys[1], keys[0]],
        };
        let gone = self.open.pop(&goes)?;
        let open = self.open.get_mut(&stays)?;
        open.has_grown = true;
        open.told = None;
        let incident = Arc::make_mut(&mut open.incident);
        incident.absorb(&gone.incident);
        let into = incident.id.clone();
        self.leave(Some(gone), Ended::Merged(into));
        Some(stays)
    }

    /// Ends those of which nothing was seen for as long as an incident may pause: nothing could be added to them.
    pub(super) fn settle(&mut self, now: BootTime) {
        while let Some((_, oldest)) = self.open.peek_lru()
            && now.since(oldest.incident.updated_boot) >= self.window
        {
            let oldest = self.open.pop_lru().map(|(_, oldest)| oldest);
            self.leave(oldest, Ended::Quiet);
        }
    }

    /// Whether this state of it is to be told at once: it is new, worse than when it was told last, or there is other evidence. That the
    /// same went on is told by [`untold`](Self::untold).
    pub(super) fn is_news(&mut self, incident: &Incident) -> bool {
        let open = self.open.peek_mut(&incident.key);
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

    /// Those that have grown or ended since they were told, as they are now. To be asked for about once a second.
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

    /// Somebody has looked at it, and it is over.
    pub(super) fn close(&mut self, id: &str) {
        let key = self.open.iter().find(|(_, open)| *open.incident.id == *id);
        if let Some(key) = key.map(|(key, _)| *key) {
            let closed = self.open.pop(&key);
            self.leave(closed, Ended::Closed);
        }
    }

    fn id(&self, signal: &Signal, key: u64, process: &Process) -> String {
        let parts: [&[u8]; 5] = [
            self.host.as_bytes(),
            signal.subject.as_bytes(),
            &key.to_le_bytes(),
            &signal.event.time.0.to_le_bytes(),
            &process.id.tgid.to_le_bytes(),
        ];
        format!("{:016x}", stable_hash(&parts))
    }
}

/// What an incident of this cause is found by.
pub(super) fn key_of(signal: &Signal, cause: u64) -> u64 {
    stable_hash(&[signal.subject.as_bytes(), &cause.to_le_bytes()])
}

#[cfg(test)]
mod tests;
