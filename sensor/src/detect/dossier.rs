//! What is notable of a process tree, a login session, a user: everything that any model has found, and whether that is an incident.
//!
//! Each finding is a p-value with a cause. What falls on the same key is added up and fades; an incident is opened when so much is rarer than the
//! alert budget allows ([`Correlation`]). So a single new address is one line of evidence, and five new things in ten minutes are an incident.
//! What is notable on whom an incident was opened within [`BELONGS`] belongs to that.
//!
//! Bounds: the correlation by its own; [`ROOTS`] processes whose root is known, [`EVIDENCE`] signals of each of [`KEYS`] keys.

use std::{collections::VecDeque, num::NonZeroUsize, ops::Deref, sync::Arc, time::Duration};

use lru::LruCache;
use sensor_behaviour::{
    Budget,
    correlation::{Bounds, Correlation, Key, Opened},
    sentences,
};

use super::{Incident, Severity, Signal, detector::Suspicion, incident::stable_hash, incidents::key_of};
use crate::{
    config,
    host::{Event, Process, ProcessId, Tree, proc::TICK_NS},
    time::BootTime,
};

/// For how long what is notable belongs to an incident that was opened before.
pub(super) const BELONGS: Duration = Duration::from_secs(3_600);

const ROOTS: NonZeroUsize = NonZeroUsize::new(8_192).unwrap();
const KEYS: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
const EVIDENCE: usize = 16;
const ANCESTORS: usize = 64;

/// What is less rare than this is no evidence; the same as in [`Correlation`].
pub(super) const NOTABLE: f64 = 0.05;

/// What a model found.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    /// The model.
    pub(super) source: &'static str,
    pub(super) subject: Box<str>,
    /// What makes two of them the same.
    pub(super) cause: u64,
    pub(super) p_value: f64,
    pub(super) reason: String,
    pub(super) techniques: Vec<&'static str>,
    /// Bad whoever does it, so that an incident with it is.
    pub(super) grave: bool,
}

/// Whom an event belongs to, the narrowest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    keys: [Key; 3],
    number: usize,
}

impl Deref for Keys {
    type Target = [Key];

    fn deref(&self) -> &[Key] {
        &self.keys[..self.number]
    }
}

/// What there is to say of an event.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// It is notable.
    pub(super) signal: Option<Arc<Signal>>,
    /// With what came before it is an incident.
    pub(super) incident: Option<Suspicion>,
}

/// All that is notable of everybody.
#[derive(Debug)]
pub(super) struct Dossiers {
    correlation: Correlation,
    /// What a process tree is known by.
    roots: LruCache<ProcessId, u64>,
    /// What was notable of late, by whom it belongs to.
    evidence: LruCache<Key, VecDeque<Evidence>>,
    /// Whom an incident was opened on, when, and by which key it is found.
    open: LruCache<Key, (BootTime, u64)>,
}

#[derive(Clone, Debug)]
struct Evidence {
    signal: Arc<Signal>,
    cause: u64,
    grave: bool,
}

impl Notice {
    pub(super) fn signal(self, event: &Arc<Event>) -> Signal {
        Signal {
            subject: self.subject,
            source: self.source,
            p_value: self.p_value,
            reasons: vec![self.reason],
            techniques: self.techniques.into_iter().map(Into::into).collect(),
            cause: self.cause,
            rule: None,
            event: Arc::clone(event),
        }
    }
}

impl Dossiers {
    pub(super) fn new(config: &config::Detect) -> Self {
        Self {
            correlation: Correlation::new(Bounds::default(), Budget::new(config.alert_budget)),
            roots: LruCache::new(ROOTS),
            evidence: LruCache::new(KEYS),
            open: LruCache::new(KEYS),
        }
    }

    /// How often incidents are opened by chance.
    pub(super) fn budget(&self) -> &Budget {
        self.correlation.budget()
    }

    pub(super) fn resume(&mut self, budget: Budget) {
        self.correlation.resume(budget);
    }

    /// The incident that is found by `incident` is over, or was none: nothing more belongs to it, and it keeps nobody from being learned.
    pub(super) fn absolve(&mut self, incident: u64) {
        let of_it: Vec<Key> = self
            .open
            .iter()
            .filter(|(_, (_, its))| *its == incident)
            .map(|(key, _)| *key)
            .collect();
        of_it.iter().for_each(|key| _ = self.open.pop(key));
    }

    /// What was found by one of `incidents` is found by `one` from now on.
    pub(super) fn rename(&mut self, incidents: [u64; 2], one: u64) {
        for (_, (_, incident)) in self.open.iter_mut() {
            if incidents.contains(incident) {
                *incident = one;
            }
        }
    }

    /// An incident was open when an agent before this one ended.
    pub(super) fn reopen(&mut self, incident: &Incident, processes: &Tree) {
        let keys = self.keys(&incident.process, processes);
        let open = (incident.updated_boot, incident.key);
        keys.iter().for_each(|key| _ = self.open.put(*key, open));
    }

    /// Whom `process` belongs to.
    pub(super) fn keys(&mut self, process: &Arc<Process>, processes: &Tree) -> Keys {
        let tree = Key::Tree(self.root(process, processes));
        let mut keys = Keys {
            keys: [tree; 3],
            number: 1,
        };
        let credentials = &process.credentials;
        let session = credentials.session_id.map(|session| Key::Session(session.into()));
        let user = credentials.login_uid.map(|user| Key::User(user.into()));
        for key in [session, user].into_iter().flatten() {
            keys.keys[keys.number] = key;
            keys.number += 1;
        }
        keys
    }

    /// The oldest ancestor in the same workload. What all processes come from is nobody's root, or where there are no units, all would be one tree.
    fn root(&mut self, process: &Arc<Process>, processes: &Tree) -> u64 {
        if let Some(root) = self.roots.get(&process.id) {
            return *root;
        }
        let mut root = process;
        for _ in 0..ANCESTORS {
            let parent = root.parent.and_then(|parent| processes.get(parent));
            match parent {
                Some(parent) if parent.workload.name == process.workload.name && parent.id.tgid != 1 => {
                    root = parent;
                }
                _ => break,
            }
        }
        // To the tick: of what began before the agent, more is not known.
        let start = root.id.start.0 / TICK_NS;
        let hash = stable_hash(&[&root.id.tgid.to_le_bytes(), &start.to_le_bytes()]);
        self.roots.put(process.id, hash);
        hash
    }

    /// Takes note of something that is known: that there is much of it makes a little news less.
    pub(super) fn count(&mut self, keys: &Keys, source: &'static str, now: BootTime) {
        let _ = self.correlation.observe(keys, source, 0, 1.0, now.0);
    }

    /// Takes note of what opens an incident by itself. By which key that is found: that of one which is open on those whom the signal belongs
    /// to, or else `own`.
    pub(super) fn hear(&mut self, signal: &Arc<Signal>, own: u64, processes: &Tree) -> u64 {
        let Some(process) = &signal.event.process else {
            return own;
        };
        let keys = self.keys(process, processes);
        let time = signal.event.time;
        let incident = self.open_on(&keys, time).next().unwrap_or(own);
        // What is new here is how much there is beside it.
        let _ = self
            .correlation
            .observe(&keys, signal.source, signal.cause, signal.p_value, time.0);
        self.keep(&keys, signal, signal.cause, true);
        // What is notable from now on belongs to that incident.
        self.mark(&keys, incident, time);
        incident
    }

    /// The incident is open on these, where no other is.
    fn mark(&mut self, keys: &Keys, incident: u64, now: BootTime) {
        for key in keys.iter() {
            let incident = self.open_at(key, now).unwrap_or(incident);
            self.open.put(*key, (now, incident));
        }
    }

    /// Takes note of what a model found.
    pub(super) fn take(&mut self, signal: Signal, keys: &Keys, grave: bool) -> Judged {
        let time = signal.event.time;
        let opened = self
            .correlation
            .observe(keys, signal.source, signal.cause, signal.p_value, time.0);
        if signal.p_value > NOTABLE {
            return Judged::default();
        }
        let signal = Arc::new(signal);
        self.keep(keys, &signal, signal.cause, grave);
        let incident = match opened {
            Some(opened) => {
                let suspicion = self.suspicion(&opened, &signal);
                self.mark(keys, suspicion.key, time);
                Some(suspicion)
            }
            None => self.more(keys, &signal, grave),
        };
        Judged {
            signal: Some(signal),
            incident,
        }
    }

    /// Whether an incident was opened on one of `keys` at `since`, not long before, or later.
    pub(super) fn is_guilty(&self, keys: &Keys, since: BootTime) -> bool {
        let before = |at: BootTime| at.0.saturating_add(BELONGS.as_nanos() as u64) >= since.0;
        keys.iter()
            .any(|key| self.open.peek(key).is_some_and(|(at, _)| before(*at)))
    }

    /// The same again takes the place of what it was before.
    fn keep(&mut self, keys: &Keys, signal: &Arc<Signal>, cause: u64, grave: bool) {
        for key in keys.iter() {
            let evidence = self.evidence.get_or_insert_mut(*key, VecDeque::new);
            evidence.retain(|one| one.cause != cause);
            if evidence.len() == EVIDENCE {
                evidence.pop_front();
            }
            evidence.push_back(Evidence {
                signal: Arc::clone(signal),
                cause,
                grave,
            });
        }
    }

    /// What is notable of somebody on whom an incident is open belongs to it.
    fn more(&self, keys: &Keys, signal: &Arc<Signal>, grave: bool) -> Option<Suspicion> {
        let key = self.open_on(keys, signal.event.time).next()?;
        Some(Suspicion {
            signal: Arc::clone(signal),
            evidence: Vec::new(),
            severity: if grave { Severity::High } else { Severity::Low },
            key,
        })
    }

    /// By which key the incident is found that is open on `key`, if one is.
    fn open_at(&self, key: &Key, now: BootTime) -> Option<u64> {
        let open = self.open.peek(key).filter(|(at, _)| now.since(*at) < BELONGS);
        open.map(|(_, incident)| *incident)
    }

    /// By which keys the incidents are found that are open on `keys`, the narrowest first.
    pub(super) fn open_on(&self, keys: &Keys, now: BootTime) -> impl Iterator<Item = u64> + use<> {
        let mut found = [None; 3];
        for (found, key) in found.iter_mut().zip(keys.iter()) {
            *found = self.open_at(key, now);
        }
        found.into_iter().flatten()
    }

    /// Everything that was notable on the key that decided, the rarest first.
    fn suspicion(&self, opened: &Opened, signal: &Arc<Signal>) -> Suspicion {
        let all = self.evidence.peek(&opened.key).into_iter().flatten();
        let grave = all.clone().any(|one| one.grave);
        let mut evidence: Vec<_> = all
            .filter(|one| !Arc::ptr_eq(&one.signal, signal))
            .map(|one| Arc::clone(&one.signal))
            .collect();
        evidence.sort_by(|left, right| left.p_value.total_cmp(&right.p_value));
        let rare = opened.expected_per_day * 100.0 < opened.budget_per_day;
        let severity = if grave || rare {
            Severity::High
        } else {
            Severity::Medium
        };
        let own = || {
            let key = format!("{:?}", opened.key);
            key_of(signal, stable_hash(&[b"normal", key.as_bytes()]))
        };
        let mut first = Signal::clone(signal);
        first.reasons.push(sentences::opened(opened));
        Suspicion {
            signal: Arc::new(first),
            evidence,
            severity,
            key: self.open_at(&opened.key, signal.event.time).unwrap_or_else(own),
        }
    }
}
