//! What was learned, as a whole: looked at, forgotten, and as bytes that outlive the agent or move to another host.
//!
//! Bytes: `SNSD`, the version (2), then for each model a number (1), a length (4) and its own snapshot, and at the end the CRC-32 of everything before. A model
//! that is missing is one that knows nothing; one that is damaged makes the whole of no use, since the models speak of the same subjects.
//!
//! What is not in it, on purpose: what waits to be learned, and evidence. An agent that starts again has nothing against anybody.

use std::collections::{BTreeSet, VecDeque};

use sensor_behaviour::{
    Budget, SNAPSHOT_MAX, SnapshotError, Tails,
    edges::Edges,
    habits::Habits,
    novelty::{Novelty, Veil},
    rates::Rates,
};
use thiserror::Error;

use super::{Detector, Signal};
use crate::time::{BootTime, WallTime};

const MAGIC: [u8; 4] = *b"SNSD";
const VERSION: u16 = 1;
const HEAD: usize = 6;
const SUM: usize = 4;

/// Surprises of a subject that are remembered, and subjects that have any.
const SURPRISES: usize = 8;
pub(super) const SURPRISED: usize = 512;

/// Facts that are shown of a subject.
const SHOWN: usize = 20;

/// Why bytes are not what was learned.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// Something else.
    #[error("this is not what an agent has learned: it does not begin with \"SNSD\"")]
    Foreign,
    /// Of another version of Sensor.
    #[error("version {0} of the format, where this version of Sensor reads {VERSION}: export it again")]
    Version(u16),
    /// Changed on the way, or cut off.
    #[error("the checksum is wrong: it was damaged or cut off; copy it again")]
    Checksum,
    /// More than is read.
    #[error("{0} bytes are more than models may have")]
    TooLarge(usize),
    /// A model in it is of no use.
    #[error("{model} is of no use: {why}")]
    Model {
        /// Which.
        model: &'static str,
        /// What is wrong with it.
        why: SnapshotError,
    },
}

/// What is known of a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// A workload, a person, a program, the host.
    pub subject: Box<str>,
    /// Facts that were observed, each time.
    pub observations: u64,
    /// Different ones.
    pub facts: usize,
    /// The chance that the next is one never seen.
    pub unseen: f64,
    /// What is new of it is news.
    pub is_ready: bool,
    /// What is normal: what was observed most, with how often.
    pub usual: Vec<(Box<[u8]>, u64)>,
    /// What was not, the latest last.
    pub surprises: Vec<Surprising>,
}

/// Something that was surprising.
#[derive(Clone, Debug, PartialEq)]
pub struct Surprising {
    /// When.
    pub at: WallTime,
    /// How much.
    pub p_value: f64,
    /// In words.
    pub reason: String,
}

impl Surprising {
    fn of(signal: &Signal) -> Self {
        Self {
            at: signal.event.wall,
            p_value: signal.p_value,
            reason: signal.reasons.first().cloned().unwrap_or_default(),
        }
    }
}

/// All models of the detector, by the numbers that they have in a file.
pub(super) struct Models {
    pub(super) lineage: Novelty,
    pub(super) normal: Novelty,
    pub(super) logins: Novelty,
    pub(super) rates: Rates,
    pub(super) volumes: Tails,
    pub(super) edges: Edges,
    pub(super) reach: Tails,
    pub(super) habits: Habits,
    pub(super) budget: Budget,
    pub(super) exceptions: Vec<u8>,
}

/// The parts of what was learned, checked as far as their envelope goes.
pub(super) fn parts(bytes: &[u8]) -> Result<Vec<(u8, &[u8])>, StateError> {
    if bytes.len() > SNAPSHOT_MAX {
        return Err(StateError::TooLarge(bytes.len()));
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(StateError::Foreign);
    }
    let (Some(version), Some(end)) = (bytes.get(4..HEAD), bytes.len().checked_sub(SUM)) else {
        return Err(StateError::Checksum);
    };
    let version = u16::from_le_bytes([version[0], version[1]]);
    if version != VERSION {
        return Err(StateError::Version(version));
    }
    let (content, sum) = bytes.split_at(end);
    if end < HEAD || sum != crc32fast::hash(content).to_le_bytes() {
        return Err(StateError::Checksum);
    }
    let mut rest = &content[HEAD..];
    let mut parts = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (part, after) = after.split_at_checked(length).ok_or(StateError::Checksum)?;
        parts.push((head[0], part));
        rest = after;
    }
    if rest.is_empty() {
        Ok(parts)
    } else {
        Err(StateError::Checksum)
    }
}

/// The parts in one piece.
pub(super) fn join(parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    for (number, part) in parts {
        out.push(*number);
        out.extend((part.len() as u32).to_le_bytes());
        out.extend(part);
    }
    out.extend(crc32fast::hash(&out).to_le_bytes());
    out
}

impl Models {
    /// What `bytes` say, within the bounds of `detector`.
    pub(super) fn read(
        bytes: &[u8],
        detector: &Detector,
        now: BootTime,
        wall: WallTime,
    ) -> Result<Self, StateError> {
        let parts = parts(bytes)?;
        let part = |number: u8| {
            parts
                .iter()
                .find(|(its, _)| *its == number)
                .map(|(_, part)| *part)
        };
        let fault = |model| move |why| StateError::Model { model, why };
        let seconds = wall.0 / 1_000_000_000;
        Ok(Self {
            lineage: match part(1) {
                Some(part) => detector.lineage.read(part).map_err(fault("who starts whom"))?,
                None => detector.lineage.unlearned(),
            },
            normal: match part(2) {
                Some(part) => detector.normal.read(part).map_err(fault("what is normal"))?,
                None => detector.normal.unlearned(),
            },
            logins: match part(3) {
                Some(part) => detector
                    .origins
                    .read(part)
                    .map_err(fault("who logs in from where"))?,
                None => detector.origins.unlearned(),
            },
            rates: match part(4) {
                Some(part) => super::volumes::read(part, seconds).map_err(fault("how much is usual"))?,
                None => super::volumes::unlearned(),
            },
            volumes: tails(part(5), super::volumes::SERIES).map_err(fault("how much is usual"))?,
            edges: match part(6) {
                Some(part) => super::reach::read(part, now).map_err(fault("who reaches whom"))?,
                None => super::reach::unlearned(),
            },
            reach: tails(part(7), super::reach::SUBJECTS).map_err(fault("who reaches whom"))?,
            habits: match part(8) {
                Some(part) => super::people::read(part).map_err(fault("habits of people"))?,
                None => super::people::unlearned(),
            },
            budget: match part(9) {
                Some(part) => Budget::from_snapshot(part, detector.dossiers.budget().per_day())
                    .map_err(fault("the budget of alerts"))?,
                None => Budget::new(detector.dossiers.budget().per_day()),
            },
            exceptions: part(10).unwrap_or_default().to_vec(),
        })
    }
}

fn tails(part: Option<&[u8]>, limit: usize) -> Result<Tails, SnapshotError> {
    part.map_or_else(|| Ok(Tails::new(limit)), |part| Tails::from_snapshot(part, limit))
}

impl Detector {
    /// Everything that was learned, as bytes.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        let (rates, volumes) = self.volumes.models();
        let (edges, reach) = self.reach.models();
        join(&[
            (1, self.lineage.model().to_snapshot()),
            (2, self.normal.model().to_snapshot()),
            (3, self.origins.model().to_snapshot()),
            (4, rates.to_snapshot()),
            (5, volumes.to_snapshot()),
            (6, edges.to_snapshot()),
            (7, reach.to_snapshot()),
            (8, self.people.model().to_snapshot()),
            (9, self.dossiers.budget().to_snapshot()),
            (10, self.exceptions.to_bytes()),
        ])
    }

    /// Goes on with what [`Detector::state`] wrote.
    ///
    /// # Errors
    /// If the bytes are anything else; then nothing has changed.
    pub fn restore(&mut self, bytes: &[u8], now: BootTime, wall: WallTime) -> Result<(), StateError> {
        let models = Models::read(bytes, self, now, wall)?;
        *self.lineage.model_mut() = models.lineage;
        *self.normal.model_mut() = models.normal;
        *self.origins.model_mut() = models.logins;
        self.volumes.resume(models.rates, models.volumes);
        self.reach.resume(models.edges, models.reach);
        self.people.resume(models.habits);
        self.dossiers.resume(models.budget);
        self.exceptions.restore(&models.exceptions);
        Ok(())
    }

    /// Adds what another detector learned: counts add up. Its exceptions and its count of alerts are its own.
    ///
    /// # Errors
    /// If the bytes are not what [`Detector::state`] wrote; then nothing has changed.
    pub fn merge(&mut self, bytes: &[u8], now: BootTime, wall: WallTime) -> Result<(), StateError> {
        let models = Models::read(bytes, self, now, wall)?;
        self.lineage.model_mut().merge(&models.lineage);
        self.normal.model_mut().merge(&models.normal);
        self.origins.model_mut().merge(&models.logins);
        self.volumes.merge(&models.rates, &models.volumes);
        self.reach.merge(&models.edges, &models.reach);
        self.people.merge(&models.habits);
        Ok(())
    }

    /// What this host knows as normal, for other hosts to be measured by, as hashes: of the host, and of its people.
    #[must_use]
    pub fn shared(&self, veil: Option<&Veil>) -> Vec<u8> {
        let facts = self.normal.model().share(&super::normal::WIDEST, veil);
        facts.to_snapshot()
    }

    /// What other hosts, of which there are `hosts`, know as normal, by [their own accounts](Self::shared).
    pub fn hear_of_others(&mut self, others: Novelty, hosts: u32, veil: Option<Veil>) {
        self.normal.model_mut().set_prior(others, hosts, veil);
    }

    /// What is known of every subject, by name; without what is usual and what was surprising.
    #[must_use]
    pub fn models(&self) -> Vec<Model> {
        let of = |model: &Novelty| {
            let subjects = model.subjects();
            subjects.map(|(name, ..)| name.to_owned()).collect::<Vec<_>>()
        };
        let mut names: BTreeSet<String> = of(self.lineage.model()).into_iter().collect();
        names.extend(of(self.normal.model()));
        names.into_iter().filter_map(|name| self.summary(&name)).collect()
    }

    /// What is known of a subject.
    #[must_use]
    pub fn model(&self, subject: &str) -> Option<Model> {
        let mut model = self.summary(subject)?;
        model.usual = self.normal.model().facts(subject, SHOWN);
        model.usual.extend(self.lineage.model().facts(subject, SHOWN));
        model
            .usual
            .sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        model.usual.truncate(SHOWN);
        model.surprises = self
            .surprises
            .peek(subject)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        Some(model)
    }

    /// Forgets a subject: it is learned anew. Whether anything was known of it.
    pub fn forget(&mut self, subject: &str) -> bool {
        self.surprises.pop(subject);
        let known = [
            self.lineage.model_mut().forget(subject),
            self.normal.model_mut().forget(subject),
            self.volumes.forget(subject),
            self.reach.forget(subject),
        ];
        known.contains(&true)
    }

    fn summary(&self, subject: &str) -> Option<Model> {
        let models = [self.lineage.model(), self.normal.model()];
        let counts = models.map(|model| model.subjects().find(|(name, ..)| *name == subject));
        if counts.iter().all(Option::is_none) {
            return None;
        }
        let counts = counts.into_iter().flatten();
        let (observations, facts) =
            counts.fold((0, 0), |(all, facts), (_, its, kinds)| (all + its, facts + kinds));
        Some(Model {
            subject: subject.into(),
            observations,
            facts,
            unseen: self
                .normal
                .model()
                .unseen(subject)
                .min(self.lineage.model().unseen(subject)),
            is_ready: models.iter().any(|model| model.is_learned(subject)),
            usual: Vec::new(),
            surprises: Vec::new(),
        })
    }

    /// Remembers what was surprising, for whoever asks.
    pub(super) fn remember(&mut self, signal: &Signal) {
        let mut subjects = vec![signal.subject.to_string()];
        let user = signal
            .event
            .process
            .as_ref()
            .and_then(|process| process.credentials.login_uid);
        subjects.extend(user.map(|user| format!("user:{user}")));
        for subject in subjects {
            let list = self.surprises.get_or_insert_mut(subject.into(), VecDeque::new);
            if list.len() == SURPRISES {
                list.pop_front();
            }
            list.push_back(Surprising::of(signal));
        }
    }
}
