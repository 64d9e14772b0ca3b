//! People against themselves and against each other: who logged in, by what they do, when, and from where.
//!
//! That somebody is at work at this hour, comes from this network, runs this program are facts, looked for in what this person did and then in what anybody
//! did. And each [`BLOCK`] programs that somebody runs are a block for [`Habits`], which says whether they look more like somebody else's.
//!
//! Hours are UTC's, so that a recording means the same everywhere.
//!
//! Bounds: those of [`Habits`]; an unfinished block of each of [`PEOPLE`] people.

use std::num::NonZeroUsize;

use lru::LruCache;
use sensor_behaviour::{
    SnapshotError,
    habits::{Bounds, Habits},
    rates::HourOfWeek,
    sentences,
};
use sensor_common::Signal;

use super::{
    dossier::{NOTABLE, Notice},
    facts::{self, Kind},
    incident::stable_hash,
    lineage::printable,
};
use crate::host::{Body, Event, Process};

const PEOPLE: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Programs of a block, and blocks of a person that are learned before one is judged.
const BLOCK: usize = 100;
const LEARNED: u32 = 8;

/// Commands that a sentence names.
const NAMED: usize = 3;

/// Names of programs that are kept, for sentences.
const NAMES: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// What people do.
#[derive(Debug)]
pub(super) struct People {
    habits: Habits,
    blocks: LruCache<u32, Block>,
    names: LruCache<u32, Box<[u8]>>,
}

#[derive(Debug, Default)]
struct Block {
    programs: Vec<u32>,
    learned: u32,
}

/// Habits of nobody.
pub(super) fn unlearned() -> Habits {
    Habits::new(bounds())
}

/// Those of a snapshot.
pub(super) fn read(bytes: &[u8]) -> Result<Habits, SnapshotError> {
    Habits::from_snapshot(bytes, bounds())
}

fn bounds() -> Bounds {
    Bounds {
        people: PEOPLE.get(),
        ..Bounds::default()
    }
}

/// When it is, and from where, as facts of a person. The fact is in `fact`.
pub(super) fn circumstances(event: &Event, fact: &mut Vec<u8>) -> Option<Kind> {
    match &event.body {
        Body::Exec(_) => {
            let at = HourOfWeek::at((event.wall.0 / 1_000_000_000) as i64, 0);
            let day = if at.day() < 5 { "a weekday" } else { "the weekend" };
            fact.extend_from_slice(format!("{:02}:00 on {day}", at.hour()).as_bytes());
            Some(facts::HOUR)
        }
        Body::Session(session) if session.signal == Signal::Login => {
            fact.extend_from_slice(super::origin::network(&session.remote).as_bytes());
            Some(facts::LOGIN_SOURCE)
        }
        _ => None,
    }
}

impl Default for People {
    fn default() -> Self {
        Self {
            habits: unlearned(),
            blocks: LruCache::new(PEOPLE),
            names: LruCache::new(NAMES),
        }
    }
}

impl People {
    /// What was learned.
    pub(super) fn model(&self) -> &Habits {
        &self.habits
    }

    pub(super) fn resume(&mut self, habits: Habits) {
        self.habits = habits;
    }

    pub(super) fn merge(&mut self, habits: &Habits) {
        self.habits.merge(habits);
    }

    /// Whether the programs that `process`'s user ran of late are like theirs.
    pub(super) fn judge(&mut self, event: &Event, process: &Process) -> Option<Notice> {
        let (Body::Exec(_), Some(user)) = (&event.body, process.credentials.login_uid) else {
            return None;
        };
        let program = stable_hash(&[&process.image.executable]) as u32;
        self.names
            .get_or_insert(program, || process.image.executable.clone());
        let block = self.blocks.get_or_insert_mut(user, Block::default);
        block.programs.push(program);
        if block.programs.len() < BLOCK {
            return None;
        }
        let programs = std::mem::take(&mut block.programs);
        let name = format!("user:{user}");
        // Who was known before the agent started again does not have to be learned anew.
        if block.learned == 0 && self.habits.knows(&name) {
            block.learned = LEARNED;
        }
        if block.learned < LEARNED {
            block.learned += 1;
            self.habits.learn(&name, &programs);
            if block.learned == LEARNED {
                self.habits.settle();
            }
            return None;
        }
        let reasons = self.habits.reasons(&name, &programs, NAMED);
        let judgement = self.habits.observe(&name, &programs);
        if judgement.p_value > NOTABLE {
            return None;
        }
        let named = |symbol: u32| {
            let name = self.names.peek(&symbol);
            name.map_or_else(|| "a program".to_owned(), |name| printable(name))
        };
        Some(Notice {
            source: "habits",
            subject: process.workload.name.clone(),
            cause: stable_hash(&[b"habits", name.as_bytes()]),
            p_value: judgement.p_value,
            reason: sentences::habits(&format!("user {user}"), named, &judgement, &reasons),
            techniques: vec!["T1078"],
            grave: false,
        })
    }
}

#[cfg(test)]
mod tests;
