//! What rules say of events, as signals.
//!
//! A rule that a process matches again and again, by the same program, speaks once in [`BURST`]. Bounds: [`TOLD`] of these are known.

use std::{num::NonZeroUsize, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc, time::Duration};

use lru::LruCache;

use super::{
    Severity, Signal,
    incident::stable_hash,
    lineage::{printable, printable_within, subject_in_words},
};
use crate::{
    export::Users,
    host::{Event, Operation, Process, Tree},
    rules::{Channels, Hit, RuleSet, View},
    time::BootTime,
};

const BURST: Duration = Duration::from_secs(60);
const TOLD: NonZeroUsize = NonZeroUsize::new(8_192).unwrap();

/// Fields that are shown of what matched.
const SHOWN: usize = 4;

/// Characters of each: a command line, as a rule, with what matched in it.
const SHOWN_OF_EACH: usize = 400;

/// What a rule says of an event.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) signal: Arc<Signal>,
    /// Of the incident that it opens; `None`: it is evidence.
    pub(super) severity: Option<Severity>,
    /// Whom it is about.
    pub(super) process: Arc<Process>,
}

/// The rules that are in use.
#[derive(Debug)]
pub(super) struct Ruled {
    set: RuleSet,
    users: Option<Arc<Users>>,
    told: LruCache<u64, BootTime>,
}

impl Default for Ruled {
    fn default() -> Self {
        Self {
            set: RuleSet::build(&[], &[]),
            users: None,
            told: LruCache::new(TOLD),
        }
    }
}

impl Ruled {
    pub(super) fn set_users(&mut self, users: Arc<Users>) {
        self.users = Some(users);
    }

    pub(super) fn replace(&mut self, mut set: RuleSet) {
        if let Some(memory) = self.set.engine.memory() {
            set.engine.recall(&memory);
        }
        self.set = set;
    }

    pub(super) fn judge(&mut self, event: &Arc<Event>, processes: &Tree) -> Vec<Found> {
        let channels = Channels::of_event(event).common(self.set.channels);
        let Some(process) = event.process.as_ref().filter(|_| !channels.is_empty()) else {
            return Vec::new();
        };
        let view = View::new(event, Some(processes), self.users.as_deref());
        let seconds = (event.wall.0 / 1_000_000_000) as i64;
        let hits = self.set.engine.evaluate(&view, channels, seconds);
        let fresh = hits
            .into_iter()
            .filter(|hit| !self.was_told(hit, process, event.time));
        fresh.map(|hit| found(&hit, event, process)).collect()
    }

    /// What a rule that names `path` would have found, had the kernel let `process` run it.
    pub(super) fn denied(&mut self, process: &Arc<Process>, path: &Path) -> Option<Found> {
        let (_, rule) = self.set.named().find(|(named, _)| *named == path)?;
        let name = path.as_os_str().as_bytes();
        let event = Arc::new(Event::found_out(process, Operation::refused(name)?));
        let hit = Hit {
            rule: Arc::clone(rule),
            matched: vec![("Image".to_owned(), String::from_utf8_lossy(name).into_owned())],
        };
        if self.was_told(&hit, process, event.time) {
            return None;
        }
        let mut found = found(&hit, &event, process);
        let signal = Arc::make_mut(&mut found.signal);
        signal
            .reasons
            .insert(1, format!("The kernel refused it: {} never ran", printable(name)));
        Some(found)
    }

    fn was_told(&mut self, hit: &Hit, process: &Process, now: BootTime) -> bool {
        let key = stable_hash(&[
            hit.rule.id.as_bytes(),
            &process.id.tgid.to_le_bytes(),
            &process.id.start.0.to_le_bytes(),
            &process.image.executable,
        ]);
        let last = self.told.get_or_insert_mut(key, || BootTime(0));
        let told = last.0 != 0 && now.since(*last) < BURST;
        if !told {
            *last = now;
        }
        told
    }
}

fn found(hit: &Hit, event: &Arc<Event>, process: &Arc<Process>) -> Found {
    let rule = &hit.rule;
    let who = printable(&process.image.executable);
    let of = subject_in_words(&process.workload);
    let mut reasons = vec![format!("{} ({who} of {of})", printable(rule.title.as_bytes()))];
    if !rule.description.is_empty() {
        reasons.push(rule.description.to_string());
    }
    let matched: Vec<_> = hit
        .matched
        .iter()
        .take(SHOWN)
        .map(|(field, value)| format!("{field}: {}", printable_within(value.as_bytes(), SHOWN_OF_EACH)))
        .collect();
    if !matched.is_empty() {
        reasons.push(format!("Matched by {}", matched.join("; ")));
    }
    Found {
        signal: Arc::new(Signal {
            subject: process.workload.name.clone(),
            source: "rule",
            p_value: rule.level.p_value(),
            reasons,
            techniques: rule.techniques.clone(),
            cause: stable_hash(&[b"rule", rule.id.as_bytes()]),
            rule: Some(Arc::clone(rule)),
            event: Arc::clone(event),
        }),
        severity: rule.level.severity(),
        process: Arc::clone(process),
    }
}

#[cfg(test)]
mod tests;
