//! What a commit says, as it is written.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::Coverage;
use crate::{
    lake::{Class, Day},
    session::StreamId,
    store::{LakeFile, Position, Run},
};

/// The version of commits and checkpoints that this collector reads and writes.
pub(super) const FORMAT: u32 = 1;

/// A numbering is forgotten when nothing of it was committed for so many days: each run of an agent begins one, and an agent that was away for so long
/// begins another.
const FORGOTTEN_AFTER: u32 = 30;

/// That is looked after with every so many commits.
const LOOKED_AFTER: u64 = 64;

/// A change of the lake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Version of this format.
    pub format: u32,
    /// Different for every commit that anybody tries to make: by it one is known whose answer was lost.
    pub id: String,
    /// When it was made, in nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// Positions that are taken by whoever makes it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reserve: u64,
    /// Files that are part of the lake from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Listed>,
    /// Names of files that are no part of it any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// The batches in those that are added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<Covered>,
}

impl Commit {
    /// One that changes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            format: FORMAT,
            id: unique(),
            time_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            ..Self::default()
        }
    }
}

/// A name that nobody else has or guesses.
pub(crate) fn unique() -> String {
    let mut bytes = [0; 16];
    // The kernel has always some; without, a process's number and the time would tell commits apart.
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return format!("{}-{}", std::process::id(), since.as_nanos());
    }
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its path.
    pub name: String,
    /// Of what its entries are.
    pub class: String,
    /// The day on which they arrived, counted from 1970-01-01.
    pub day: i32,
    /// Entries in it.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
}

/// Batches of one numbering that follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The host.
    pub host: String,
    /// Its numbering.
    pub epoch: u64,
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What all commits up to one come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) format: u32,
    /// The commit.
    pub(super) number: u64,
    /// Positions that are taken.
    taken: u64,
    files: BTreeMap<String, Listed>,
    streams: BTreeMap<String, BTreeMap<u64, Stream>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stream {
    stored: Coverage,
    /// The last day on which something was.
    day: i32,
}

impl State {
    /// Before the first commit.
    pub(super) fn empty() -> Self {
        Self {
            format: FORMAT,
            ..Self::default()
        }
    }

    /// What the next commit makes of it.
    pub(super) fn apply(&mut self, commit: &Commit) {
        let today = Day::of(commit.time_ns);
        self.number += 1;
        self.taken = self.taken.saturating_add(commit.reserve);
        for name in &commit.remove {
            self.files.remove(name);
        }
        for file in &commit.add {
            self.files.insert(file.name.clone(), file.clone());
        }
        for covered in &commit.streams {
            let epochs = self.streams.entry(covered.host.clone()).or_default();
            let stream = epochs.entry(covered.epoch).or_insert(Stream {
                stored: Coverage::default(),
                day: today.0,
            });
            stream.stored.insert(covered.from, covered.to);
            stream.day = stream.day.max(today.0);
        }
        if self.number.is_multiple_of(LOOKED_AFTER) {
            self.forget(today);
        }
    }

    /// Forgets numberings that are long over.
    fn forget(&mut self, today: Day) {
        let since = today.before(FORGOTTEN_AFTER).0;
        for epochs in self.streams.values_mut() {
            epochs.retain(|_, stream| stream.day >= since);
        }
        self.streams.retain(|_, epochs| !epochs.is_empty());
    }

    pub(super) fn stored(&self, stream: &StreamId) -> Option<&Coverage> {
        let found = self.streams.get(&stream.host)?.get(&stream.epoch)?;
        Some(&found.stored)
    }

    /// The first of the positions that the last commit has reserved.
    pub(super) fn reserved(&self, reserve: u64) -> Position {
        Position(self.taken - reserve + 1)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Listed> {
        self.files.values()
    }

    pub(super) fn lists(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The files as queries see them: a run for each day.
    pub(super) fn runs(&self) -> Vec<Run> {
        let mut days: BTreeMap<i32, Vec<LakeFile>> = BTreeMap::new();
        for file in self.files.values() {
            days.entry(file.day).or_default().push(LakeFile {
                class: Class::named(&file.class).unwrap_or(Class::Other),
                name: file.name.clone(),
                rows: file.rows,
                bytes: file.bytes,
            });
        }
        let runs = days.into_iter().map(|(day, files)| Run {
            first: Position(1),
            past: Position(1 + files.iter().map(|file| file.rows).sum::<u64>()),
            day: Day(day),
            level: 0,
            files,
        });
        runs.collect()
    }
}
