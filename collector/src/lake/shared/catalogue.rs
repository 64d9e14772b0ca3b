//! What the lake consists of now, and how that changes.

use std::sync::atomic::{AtomicU64, Ordering};

use object_store::ObjectMeta;
use serde::de::DeserializeOwned;
use tokio::{sync::Mutex, time::Instant};

use super::{
    Commit, Coverage, Listed, Place, PlaceError,
    commit::{FORMAT, State},
};
use crate::{
    session::StreamId,
    store::{Position, Run},
};

const COMMITS: &str = "commits";
const CHECKPOINTS: &str = "checkpoints";

/// After so many commits there is a checkpoint: so many objects are read, at most, to open a lake, and a few more.
const CHECKPOINT_EVERY: u64 = 64;

/// Checkpoints that are kept, in case the last one is damaged.
const CHECKPOINTS_KEPT: usize = 3;

/// Positions that one commit takes.
pub const STRETCH: u64 = 1 << 24;

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is made.
    Made,
    /// Others were first. What they changed is known now; some of what this one would have added may be there.
    Late,
}

/// The state of a shared lake. It is as new as its last [`refresh`](Self::refresh).
#[derive(Debug)]
pub struct Catalogue {
    place: Place,
    current: Mutex<Current>,
    commits: AtomicU64,
    conflicts: AtomicU64,
}

#[derive(Debug)]
struct Current {
    state: State,
    /// When the last look at the log began that came to its end.
    looked: Option<Instant>,
}

impl Catalogue {
    /// Reads what the lake at `place` consists of. One that is not there yet is empty.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn open(place: Place) -> Result<Self, PlaceError> {
        let state = newest(&place).await?;
        let catalogue = Self {
            place,
            current: Mutex::new(Current { state, looked: None }),
            commits: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
        };
        catalogue.refresh().await?;
        Ok(catalogue)
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Commits that were made by this.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Times that others were first.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Reads what was committed before now.
    ///
    /// # Errors
    /// If a commit cannot be read: nothing after it is looked at.
    pub async fn refresh(&self) -> Result<(), PlaceError> {
        let asked = Instant::now();
        let mut current = self.current.lock().await;
        // Many ask at the same time; who looked after this one asked has looked for it.
        if current.looked.is_none_or(|looked| looked < asked) {
            self.follow(&mut current).await?;
        }
        Ok(())
    }

    async fn follow(&self, current: &mut Current) -> Result<(), PlaceError> {
        let begun = Instant::now();
        while let Some(commit) = self.read(current.state.number + 1).await? {
            current.state.apply(&commit);
        }
        current.looked = Some(begun);
        Ok(())
    }

    async fn read(&self, number: u64) -> Result<Option<Commit>, PlaceError> {
        let name = name(COMMITS, number);
        let Some(body) = self.place.get(&name).await? else {
            return Ok(None);
        };
        let commit: Commit = parse(&self.place, &name, &body)?;
        Ok(Some(commit))
    }

    /// The highest sequence that is stored of a numbering, by all that was committed before now.
    ///
    /// # Errors
    /// If a commit cannot be read.
    pub async fn standing(&self, stream: &StreamId) -> Result<u64, PlaceError> {
        self.refresh().await?;
        let current = self.current.lock().await;
        Ok(current.state.stored(stream).map_or(0, Coverage::highest))
    }

    /// Which of these batches are not stored yet, as far as is known.
    pub async fn missing<'a>(&self, batches: impl Iterator<Item = (&'a StreamId, u64)>) -> Vec<bool> {
        let current = self.current.lock().await;
        let is_missing = |(stream, sequence)| {
            let stored = current.state.stored(stream);
            stored.is_none_or(|stored| !stored.contains(sequence))
        };
        batches.map(is_missing).collect()
    }

    /// Takes [`STRETCH`] positions, or more if `least` is more, and returns the first.
    ///
    /// # Errors
    /// If no commit can be made.
    pub async fn reserve(&self, least: u64) -> Result<(Position, u64), PlaceError> {
        let reserve = least.max(STRETCH);
        let commit = Commit {
            reserve,
            ..Commit::new()
        };
        loop {
            if let Some(first) = self.attempt(&commit).await? {
                return Ok((first, reserve));
            }
        }
    }

    /// Makes a commit after those that are known, unless it takes a file off the list that is not on it: it is late then. Where the answer to an attempt was lost, the same commit may be tried again: it is made once.
    ///
    /// # Errors
    /// If nobody knows whether it was made, or one of others cannot be read.
    pub async fn commit(&self, commit: &Commit) -> Result<Outcome, PlaceError> {
        let made = self.attempt(commit).await?;
        Ok(made.map_or(Outcome::Late, |_| Outcome::Made))
    }

    async fn attempt(&self, commit: &Commit) -> Result<Option<Position>, PlaceError> {
        let body = serde_json::to_vec(commit).map_err(|error| self.place.work(error))?;
        let mut current = self.current.lock().await;
        if !commit.remove.iter().all(|name| current.state.lists(name)) {
            return Ok(None);
        }
        let number = current.state.number + 1;
        if !self.place.create(&name(COMMITS, number), body).await? {
            // A request that was sent again after its answer was lost finds what it made itself.
            let name = name(COMMITS, number);
            let theirs = self.read(number).await?;
            let theirs = theirs.ok_or_else(|| self.place.damaged(&name, "it was there and is gone"))?;
            if theirs.id != commit.id {
                self.conflicts.fetch_add(1, Ordering::Relaxed);
                self.follow(&mut current).await?;
                return Ok(None);
            }
        }
        let state = &mut current.state;
        state.apply(commit);
        self.commits.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(CHECKPOINT_EVERY)
            && let Err(error) = checkpoint(&self.place, state).await
        {
            tracing::warn!("no checkpoint was made, opening the lake takes longer: {error}");
        }
        Ok(Some(state.reserved(commit.reserve)))
    }

    /// The files of the lake, as queries see them, by all that was committed before now.
    ///
    /// # Errors
    /// If a commit cannot be read.
    pub async fn runs(&self) -> Result<Vec<Run>, PlaceError> {
        self.refresh().await?;
        Ok(self.current.lock().await.state.runs())
    }

    /// The same as they are listed.
    ///
    /// # Errors
    /// If a commit cannot be read.
    pub async fn files(&self) -> Result<Vec<Listed>, PlaceError> {
        self.refresh().await?;
        Ok(self.current.lock().await.state.files().cloned().collect())
    }

    /// Those of `found` that are no part of the lake.
    pub(super) async fn unlisted(&self, found: Vec<ObjectMeta>) -> Vec<ObjectMeta> {
        let current = self.current.lock().await;
        let is_unlisted = |object: &ObjectMeta| !current.state.lists(object.location.as_ref());
        found.into_iter().filter(is_unlisted).collect()
    }

    #[cfg(test)]
    pub(super) async fn state(&self) -> State {
        self.current.lock().await.state.clone()
    }
}

fn name(folder: &str, number: u64) -> String {
    format!("{folder}/{number:020}.json")
}

/// What is written in `format` 1, or the reason why it is not understood.
fn parse<T: DeserializeOwned>(place: &Place, name: &str, body: &[u8]) -> Result<T, PlaceError> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }
    let head: Head = serde_json::from_slice(body).map_err(|error| place.damaged(name, error))?;
    if head.format != FORMAT {
        let cause = format!(
            "it has format {}, this collector knows {FORMAT}: use a newer one",
            head.format
        );
        return Err(place.work(format!("{name}: {cause}")));
    }
    serde_json::from_slice(body).map_err(|error| place.damaged(name, error))
}

/// The last checkpoint that can be read, or the beginning.
async fn newest(place: &Place) -> Result<State, PlaceError> {
    for name in checkpoints(place).await?.into_iter().rev() {
        let Some(body) = place.get(&name).await? else {
            continue;
        };
        match parse::<State>(place, &name, &body) {
            Ok(state) => return Ok(state),
            Err(error) => tracing::warn!("{error}; an earlier checkpoint is used, and the commits since"),
        }
    }
    Ok(State::empty())
}

/// Names of the checkpoints, the oldest first.
async fn checkpoints(place: &Place) -> Result<Vec<String>, PlaceError> {
    let found = place.list(Some(CHECKPOINTS)).await?;
    let mut names: Vec<_> = found
        .into_iter()
        .map(|object| object.location.to_string())
        .collect();
    names.sort_unstable();
    Ok(names)
}

async fn checkpoint(place: &Place, state: &State) -> Result<(), PlaceError> {
    let body = serde_json::to_vec(state).map_err(|error| place.work(error))?;
    place.create(&name(CHECKPOINTS, state.number), body).await?;
    let names = checkpoints(place).await?;
    for old in names.iter().rev().skip(CHECKPOINTS_KEPT) {
        place.remove(old).await?;
    }
    Ok(())
}
