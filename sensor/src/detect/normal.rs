//! What is normal for whom, beside the programs that services start ([`Lineage`](super::Lineage)): where they connect and what they listen at, what comes back
//! like clockwork, which files they touch, what they ask the kernel for; and of people when they are at work, where from, with which programs.
//!
//! Each fact has a p-value from the subject's own past, backing off to others that run the same program and to the host, or from a person to everybody. A fact of a subject
//! counts once in [`BURST`], and is told once in [`AGAIN`]. What is new is not learned at once: it waits for [`PROBATION`], and is forgotten instead if
//! meanwhile an incident was opened on whom it belongs to.
//!
//! Nothing is allocated for what was looked at a moment ago: one hash of the fact decides.
//!
//! Bounds: the model by `detect.max_model_bytes` and [`FACTS`] of a scope, [`Recent`] by its size; [`WAITING`] facts on probation.

use std::{collections::VecDeque, fmt::Write as _, sync::Arc, time::Duration};

use sensor_behaviour::{
    SnapshotError,
    novelty::{Learning, Limits, News, Novelty, Surprise},
    sentences,
};
use siphasher::sip::SipHasher13;

use super::{
    SubjectKind,
    beacons::Beacons,
    dossier::{BELONGS, Dossiers, Keys, NOTABLE, Notice},
    facts::{self, Kind},
    lineage::{self, printable, subject_in_words},
    people,
    recent::Recent,
};
use crate::{
    config,
    host::{Body, Event, Exec, Process, Tree},
    time::BootTime,
};

const BURST: Duration = Duration::from_secs(60);
/// What is new is told again only after that.
const AGAIN: Duration = Duration::from_secs(600);
const PROBATION: Duration = BELONGS;
const FACTS: usize = 2_048;
const WAITING: usize = 4_096;

/// Of what nothing normal does.
const FORGED: f64 = 1e-9;

/// The scopes that are wider than all others: of the host, and of its people.
pub(super) const WIDEST: [&str; 2] = ["host", "people"];

/// Whose past a fact is looked for in.
#[derive(Clone, Copy, Debug)]
enum Whose {
    /// The workload's, then that of what else runs the same program, then the host's, then other hosts'.
    Workload,
    /// That of who logged in, then everybody's, then everybody's on other hosts.
    Person(u32),
}

/// The model, and what waits to be learned by it.
#[derive(Debug)]
pub(super) struct Normal {
    model: Novelty,
    limits: Limits,
    learning: Learning,
    asked: Recent,
    /// What was said to be new.
    told: Recent,
    beacons: Beacons,
    /// Kinds of workload whose programs [`Lineage`](super::Lineage) speaks of.
    flagged: Vec<SubjectKind>,
    probation: VecDeque<Probation>,
    /// Kept for their memory: the fact, its context, the names of the scopes.
    fact: Vec<u8>,
    context: Vec<u8>,
    scopes: [String; 3],
}

/// A new fact that is not learned yet.
#[derive(Debug)]
struct Probation {
    since: BootTime,
    cause: u64,
    process: Arc<Process>,
    whose: Whose,
    context: Box<[u8]>,
    fact: Box<[u8]>,
    keys: Keys,
}

/// Who asks, and where what is found goes.
pub(super) struct Asking<'a> {
    pub(super) event: &'a Event,
    pub(super) process: &'a Arc<Process>,
    pub(super) processes: &'a Tree,
    pub(super) dossiers: &'a mut Dossiers,
    pub(super) notices: &'a mut Vec<Notice>,
}

impl Normal {
    pub(super) fn new(config: &config::Detect) -> Self {
        let limits = Limits {
            bytes: config.max_model_bytes,
            facts: FACTS,
            ..Limits::default()
        };
        Self {
            model: Novelty::new(limits, config.learning()),
            limits,
            learning: config.learning(),
            asked: Recent::new(BURST),
            told: Recent::new(AGAIN),
            beacons: Beacons::default(),
            flagged: config.flag.clone(),
            probation: VecDeque::new(),
            fact: Vec::new(),
            context: Vec::new(),
            scopes: Default::default(),
        }
    }

    /// What was learned.
    pub(super) fn model(&self) -> &Novelty {
        &self.model
    }

    pub(super) fn model_mut(&mut self) -> &mut Novelty {
        &mut self.model
    }

    /// A model with the same bounds that knows nothing.
    pub(super) fn unlearned(&self) -> Novelty {
        Novelty::new(self.limits, self.learning)
    }

    /// The same of a snapshot.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Novelty, SnapshotError> {
        Novelty::from_snapshot(bytes, self.limits, self.learning)
    }

    /// Somebody says that these are normal: what waits to be learned of them waits no longer.
    pub(super) fn accept(&mut self, causes: &[u64], now: BootTime) {
        let (accepted, waiting): (VecDeque<_>, _) = std::mem::take(&mut self.probation)
            .into_iter()
            .partition(|waiting: &Probation| causes.contains(&waiting.cause));
        self.probation = waiting;
        accepted.iter().for_each(|waiting| self.learn(waiting, now));
    }

    /// What is new in an event.
    pub(super) fn judge(&mut self, asking: &mut Asking<'_>) {
        let Asking { event, process, .. } = *asking;
        self.fact.clear();
        if let Some(kind) = facts::of(event, &mut self.fact) {
            self.consider(asking, kind, Whose::Workload, &process.image.executable, || {
                facts::in_words(event)
            });
        }
        if let Some(beacon) = self.beacons.judge(event, process, &mut self.fact) {
            let edge = format!("came back to {}", printable(&self.fact));
            self.consider(
                asking,
                facts::REGULAR,
                Whose::Workload,
                &process.image.executable,
                || sentences::beacon(&edge, &beacon).replacen("came back every", "every", 1),
            );
        }
        if let Body::Exec(exec) = &event.body {
            self.consider_program(asking, exec);
        }
        if let Some(user) = process.credentials.login_uid {
            self.fact.clear();
            if let Some(kind) = people::circumstances(event, &mut self.fact) {
                let fact = printable(&self.fact);
                self.consider(asking, kind, Whose::Person(user), b"", || match kind {
                    facts::HOUR => format!("is at work at {fact}, UTC,"),
                    _ => format!("logged in from {fact}"),
                });
            }
        }
    }

    /// A program, of a person or of the host: what services start is told by the lineage.
    fn consider_program(&mut self, asking: &mut Asking<'_>, exec: &Exec) {
        let process = asking.process;
        if SubjectKind::of(&process.workload).is_none_or(|kind| self.flagged.contains(&kind)) {
            return;
        }
        self.fact.clear();
        facts::program(&process.image.executable, &mut self.fact);
        let did = || format!("ran {}", printable(&process.image.executable));
        match process.credentials.login_uid {
            Some(user) => self.consider(asking, facts::PROGRAM, Whose::Person(user), b"", did),
            None => {
                let before = lineage::context(exec, asking.event.parent.as_deref());
                self.consider(asking, facts::PROGRAM, Whose::Workload, before, did);
            }
        }
    }

    /// The fact is looked for in the past of `whose`, in the context of `program`; `did` says it in words.
    fn consider(
        &mut self,
        asking: &mut Asking<'_>,
        kind: Kind,
        whose: Whose,
        program: &[u8],
        did: impl FnOnce() -> String,
    ) {
        let cause = cause(
            asking.process,
            whose,
            kind,
            program,
            &self.fact,
            &mut self.context,
        );
        let Asking { event, process, .. } = *asking;
        if self.asked.holds_back(cause, event.time) {
            return;
        }
        self.end_probations(event.time, asking.dossiers);
        self.context.clear();
        self.context.extend_from_slice(kind.source.as_bytes());
        self.context.push(b' ');
        self.context.extend_from_slice(program);
        let number = self.name_scopes(whose, process);
        let scopes = &self.scopes.each_ref().map(String::as_str)[..number];
        let keys = asking.dossiers.keys(process, asking.processes);
        let surprise = match self
            .model
            .news(scopes, &self.context, &self.fact, event.time.0, NOTABLE)
        {
            News::Surprise(surprise) => surprise,
            // What is known is no news, however rare.
            News::None => return asking.dossiers.count(&keys, kind.source, event.time),
            News::Learned => return,
        };
        if self.told.holds_back(cause, event.time) {
            return;
        }
        self.put_on_probation(event.time, cause, process, whose, &keys);
        if surprise.p_value > NOTABLE && !kind.is_forged() {
            return asking.dossiers.count(&keys, kind.source, event.time);
        }
        asking.notices.push(Notice {
            source: kind.source,
            subject: process.workload.name.clone(),
            cause,
            p_value: if kind.is_forged() {
                FORGED
            } else {
                surprise.p_value
            },
            reason: reason(whose, process, program, &did(), &surprise),
            techniques: kind.techniques.to_vec(),
            grave: kind.is_grave(),
        });
    }

    /// Names of the scopes, into [`Self::scopes`]; how many there are.
    fn name_scopes(&mut self, whose: Whose, process: &Process) -> usize {
        self.scopes.iter_mut().for_each(String::clear);
        let [first, second, third] = &mut self.scopes;
        match whose {
            Whose::Workload => {
                first.push_str(&process.workload.name);
                second.push_str("image:");
                printable_into(&process.image.executable, second);
                third.push_str(WIDEST[0]);
                3
            }
            Whose::Person(user) => {
                let _ = write!(first, "user:{user}");
                second.push_str(WIDEST[1]);
                2
            }
        }
    }

    fn put_on_probation(
        &mut self,
        since: BootTime,
        cause: u64,
        process: &Arc<Process>,
        whose: Whose,
        keys: &Keys,
    ) {
        if self.probation.len() == WAITING {
            self.probation.pop_front();
        }
        self.probation.push_back(Probation {
            since,
            cause,
            process: Arc::clone(process),
            whose,
            context: (*self.context).into(),
            fact: (*self.fact).into(),
            keys: *keys,
        });
    }

    /// What has been there for long enough without an incident is normal.
    fn end_probations(&mut self, now: BootTime, dossiers: &Dossiers) {
        let over = |waiting: &mut Probation| now.since(waiting.since) >= PROBATION;
        while let Some(waiting) = self.probation.pop_front_if(over) {
            if !dossiers.is_guilty(&waiting.keys, waiting.since) {
                self.learn(&waiting, now);
            }
        }
    }

    fn learn(&mut self, waiting: &Probation, now: BootTime) {
        let number = self.name_scopes(waiting.whose, &waiting.process);
        let scopes = &self.scopes.each_ref().map(String::as_str)[..number];
        self.model.accept(scopes, &waiting.context, &waiting.fact, now.0);
    }
}

/// What makes two facts the same: the same on every host and in every version. Each part has its length behind it.
fn cause(
    process: &Process,
    whose: Whose,
    kind: Kind,
    program: &[u8],
    fact: &[u8],
    buffer: &mut Vec<u8>,
) -> u64 {
    let user;
    let subject: &[u8] = match whose {
        Whose::Workload => process.workload.name.as_bytes(),
        Whose::Person(id) => {
            user = id.to_le_bytes();
            &user
        }
    };
    buffer.clear();
    for part in [subject, program, kind.source.as_bytes()] {
        buffer.extend_from_slice(part);
        buffer.extend_from_slice(&(part.len() as u32).to_le_bytes());
    }
    buffer.extend_from_slice(fact);
    // In one piece: many small ones would cost twice as much.
    SipHasher13::new_with_keys(0x5e05_0f1e_57ee_0003, 0).hash(buffer)
}

/// Most paths are plain, and are then only copied.
fn printable_into(path: &[u8], text: &mut String) {
    let plain = path.len() <= 120 && path.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(path) {
        Ok(path) if plain => text.push_str(path),
        _ => text.push_str(&printable(path)),
    }
}

/// A sentence for people.
fn reason(whose: Whose, process: &Process, program: &[u8], did: &str, surprise: &Surprise) -> String {
    let program = printable(program);
    match whose {
        Whose::Workload => {
            let subject = subject_in_words(&process.workload);
            let image = format!("what else runs {program}");
            let context = if program.is_empty() {
                String::new()
            } else {
                format!("by {program}")
            };
            sentences::novelty(&[&subject, &image, "the host"], did, &context, surprise)
        }
        Whose::Person(user) => {
            let subject = format!("user {user}");
            sentences::novelty(&[&subject, "the host"], did, "", surprise)
        }
    }
}

#[cfg(test)]
mod tests;
