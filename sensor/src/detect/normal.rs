//! What is normal for whom, beside the programs that they start ([`Lineage`](super::Lineage)): where they connect, what they listen at, which files they
//! touch, what they ask the kernel for. And what all that amounts to.
//!
//! Each fact has a p-value from the subject's own past, backing off to others that run the same program and to the host. What falls
//! on the same process tree, login session or user is added up and fades; an incident is opened when so much is rarer than the alert budget
//! allows. So a single new address is one line of evidence, and five new things in ten minutes are an incident.
//!
//! A fact of a subject counts once in [`BURST`]. What is new is not learned at once: it waits for [`PROBATION`], and is forgotten instead if
//! meanwhile an incident was opened on whom it belongs to.
//!
//! Bounds: the model by `detect.max_model_bytes`, the correlation by its keys; [`ASKED`] facts of late, [`ROOTS`] processes whose root is known, [`WAITING`]
//! facts on probation, [`EVIDENCE`] signals of each of [`KEYS`] keys.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc, time::Duration};

use lru::LruCache;
use sensor_behaviour::{
    Budget,
    correlation::{Bounds, Correlation, Key, Opened},
    novelty::{Limits, Novelty, Opinion, Surprise},
    sentences,
};

use super::{
    Severity, Signal, SubjectKind,
    detector::Suspicion,
    facts::{self, Kind},
    incident::stable_hash,
    lineage::{printable, subject_in_words},
};
use crate::{
    config,
    host::{Event, Process, ProcessId, Tree},
    time::BootTime,
};

const BURST: Duration = Duration::from_secs(60);
const PROBATION: Duration = Duration::from_secs(3_600);
const ASKED: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
const ROOTS: NonZeroUsize = NonZeroUsize::new(8_192).unwrap();
const KEYS: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
const WAITING: usize = 4_096;
const EVIDENCE: usize = 16;
const ANCESTORS: usize = 64;

/// What is less rare than this is no evidence; the same as in [`Correlation`].
const NOTABLE: f64 = 0.05;

/// The models and what they add up to.
#[derive(Debug)]
pub(super) struct Normal {
    model: Novelty,
    correlation: Correlation,
    /// When a fact of a subject was last looked at, by a hash of both.
    asked: LruCache<u64, BootTime>,
    /// What a process tree is known by.
    roots: LruCache<ProcessId, u64>,
    /// What was notable of late, by whom it belongs to.
    evidence: LruCache<Key, VecDeque<Arc<Signal>>>,
    /// Whom an incident was opened on, when, and by which cause it is known.
    open: LruCache<Key, (BootTime, u64)>,
    probation: VecDeque<Probation>,
    fact: Vec<u8>,
}

/// A new fact that is not learned yet.
#[derive(Debug)]
struct Probation {
    since: BootTime,
    scopes: [Box<str>; 3],
    context: Box<[u8]>,
    fact: Box<[u8]>,
    keys: Vec<Key>,
}

/// What there is to say of an event.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// It is notable.
    pub(super) signal: Option<Arc<Signal>>,
    /// With what came before it is an incident.
    pub(super) incident: Option<Suspicion>,
}

impl Normal {
    pub(super) fn new(config: &config::Detect) -> Self {
        let limits = Limits {
            bytes: config.max_model_bytes,
            ..Limits::default()
        };
        Self {
            model: Novelty::new(limits, config.learning()),
            correlation: Correlation::new(Bounds::default(), Budget::new(config.alert_budget)),
            asked: LruCache::new(ASKED),
            roots: LruCache::new(ROOTS),
            evidence: LruCache::new(KEYS),
            open: LruCache::new(KEYS),
            probation: VecDeque::new(),
            fact: Vec::new(),
        }
    }

    pub(super) fn judge(&mut self, event: &Arc<Event>, processes: &Tree) -> Judged {
        let Some(process) = &event.process else {
            return Judged::default();
        };
        self.fact.clear();
        let Some(kind) = facts::of(event, &mut self.fact) else {
            return Judged::default();
        };
        if process.kernel_thread || SubjectKind::of(&process.workload).is_none() {
            return Judged::default();
        }
        let cause = stable_hash(&[
            process.workload.name.as_bytes(),
            kind.source.as_bytes(),
            &process.image.executable,
            &self.fact,
        ]);
        if self.was_asked(cause, event.time) {
            return Judged::default();
        }
        self.end_probations(event.time);
        self.look(event, process, kind, cause, processes)
    }

    /// Takes note of what another model found.
    pub(super) fn hear(&mut self, signal: &Arc<Signal>, cause: u64, processes: &Tree) {
        let Some(process) = &signal.event.process else {
            return;
        };
        let keys = self.keys(process, processes);
        let time = signal.event.time;
        // It has opened an incident by itself; what is new here is how much there is beside it.
        let _ = self
            .correlation
            .observe(&keys, signal.source, cause, signal.p_value, time.0);
        self.keep(&keys, signal);
        // What is notable from now on belongs to that incident.
        keys.iter().for_each(|key| _ = self.open.put(*key, (time, cause)));
    }

    fn keep(&mut self, keys: &[Key], signal: &Arc<Signal>) {
        for key in keys {
            let evidence = self.evidence.get_or_insert_mut(*key, VecDeque::new);
            if evidence.len() == EVIDENCE {
                evidence.pop_front();
            }
            evidence.push_back(Arc::clone(signal));
        }
    }

    fn look(
        &mut self,
        event: &Arc<Event>,
        process: &Arc<Process>,
        kind: Kind,
        cause: u64,
        processes: &Tree,
    ) -> Judged {
        let context = &[kind.source.as_bytes(), b" ", &process.image.executable].concat();
        let image = format!("image:{}", printable(&process.image.executable));
        let scopes = [&*process.workload.name, &*image, "host"];
        let opinion = self.model.observe(&scopes, context, &self.fact, event.time.0);
        if opinion == Opinion::Learned {
            return Judged::default();
        }
        let keys = self.keys(process, processes);
        // What is known is no news, however rare; that there is much of it makes a little news less.
        let p_value = match &opinion {
            Opinion::Surprise(surprise) => surprise.p_value,
            _ => 1.0,
        };
        let opened = self
            .correlation
            .observe(&keys, kind.source, cause, p_value, event.time.0);
        let Opinion::Surprise(surprise) = opinion else {
            return Judged::default();
        };
        self.put_on_probation(event.time, scopes, context, &keys);
        if p_value > NOTABLE {
            return Judged::default();
        }
        let signal = Arc::new(Signal {
            subject: process.workload.name.clone(),
            source: kind.source,
            p_value,
            reasons: vec![reason(event, process, &surprise)],
            techniques: kind.techniques.to_vec(),
            event: Arc::clone(event),
        });
        self.keep(&keys, &signal);
        let incident = match opened {
            Some(opened) => {
                let suspicion = self.suspicion(&opened, &signal);
                let now = (event.time, suspicion.cause);
                keys.iter().for_each(|key| _ = self.open.put(*key, now));
                Some(suspicion)
            }
            None => self.more(&keys, &signal),
        };
        Judged {
            signal: Some(signal),
            incident,
        }
    }

    /// What is notable of somebody on whom an incident is open belongs to it.
    fn more(&self, keys: &[Key], signal: &Arc<Signal>) -> Option<Suspicion> {
        let (at, cause) = *keys.iter().find_map(|key| self.open.peek(key))?;
        (signal.event.time.since(at) < PROBATION).then(|| Suspicion {
            signal: Arc::clone(signal),
            evidence: Vec::new(),
            severity: Severity::Low,
            cause,
        })
    }

    /// Everything that was notable on the key that decided, the rarest first.
    fn suspicion(&self, opened: &Opened, signal: &Arc<Signal>) -> Suspicion {
        let evidence = self.evidence.peek(&opened.key).into_iter().flatten();
        let mut evidence: Vec<_> = evidence
            .filter(|one| !Arc::ptr_eq(one, signal))
            .cloned()
            .collect();
        evidence.sort_by(|left, right| left.p_value.total_cmp(&right.p_value));
        let stakes = evidence
            .iter()
            .chain([signal])
            .any(|signal| Kind::is_coveted(signal.source));
        let rare = opened.expected_per_day * 100.0 < opened.budget_per_day;
        let severity = if stakes || rare {
            Severity::High
        } else {
            Severity::Medium
        };
        let mut first = Signal::clone(signal);
        first.reasons.push(sentences::opened(opened));
        Suspicion {
            signal: Arc::new(first),
            evidence,
            severity,
            cause: stable_hash(&[b"normal", format!("{:?}", opened.key).as_bytes()]),
        }
    }

    /// Whom an event belongs to, the narrowest first.
    fn keys(&mut self, process: &Arc<Process>, processes: &Tree) -> Vec<Key> {
        let root = self.root(process, processes);
        let mut keys = vec![Key::Tree(root)];
        let credentials = &process.credentials;
        keys.extend(credentials.session_id.map(|session| Key::Session(session.into())));
        keys.extend(credentials.login_uid.map(|user| Key::User(user.into())));
        keys
    }

    /// The oldest ancestor in the same workload.
    fn root(&mut self, process: &Arc<Process>, processes: &Tree) -> u64 {
        if let Some(root) = self.roots.get(&process.id) {
            return *root;
        }
        let mut root = process;
        for _ in 0..ANCESTORS {
            let parent = root.parent.and_then(|parent| processes.get(parent));
            match parent {
                Some(parent) if parent.workload.name == process.workload.name => root = parent,
                _ => break,
            }
        }
        let hash = stable_hash(&[&root.id.tgid.to_le_bytes(), &root.id.start.0.to_le_bytes()]);
        self.roots.put(process.id, hash);
        hash
    }

    fn was_asked(&mut self, cause: u64, now: BootTime) -> bool {
        let last = self.asked.get_or_insert_mut(cause, || BootTime(0));
        let asked = last.0 != 0 && now.since(*last) < BURST;
        if !asked {
            *last = now;
        }
        asked
    }

    fn put_on_probation(&mut self, since: BootTime, scopes: [&str; 3], context: &[u8], keys: &[Key]) {
        if self.probation.len() == WAITING {
            self.probation.pop_front();
        }
        self.probation.push_back(Probation {
            since,
            scopes: scopes.map(Box::from),
            context: context.into(),
            fact: (*self.fact).into(),
            keys: keys.to_vec(),
        });
    }

    /// What has been there for long enough without an incident is normal.
    fn end_probations(&mut self, now: BootTime) {
        while self
            .probation
            .front()
            .is_some_and(|waiting| now.since(waiting.since) >= PROBATION)
        {
            let Some(waiting) = self.probation.pop_front() else {
                return;
            };
            let opened = |key: &Key| self.open.peek(key).map(|(at, _)| *at);
            let guilty = waiting
                .keys
                .iter()
                .filter_map(opened)
                .any(|at| at.0.saturating_add(PROBATION.as_nanos() as u64) >= waiting.since.0);
            if !guilty {
                let scopes = [0, 1, 2].map(|index| &*waiting.scopes[index]);
                self.model.accept(&scopes, &waiting.context, &waiting.fact, now.0);
            }
        }
    }
}

/// A sentence for people.
fn reason(event: &Event, process: &Process, surprise: &Surprise) -> String {
    let subject = subject_in_words(&process.workload);
    let executable = printable(&process.image.executable);
    let did = facts::in_words(event);
    let image = format!("what else runs {executable}");
    let context = format!("by {executable}");
    sentences::novelty(&[&subject, &image, "the host"], &did, &context, surprise)
}

#[cfg(test)]
mod tests;
