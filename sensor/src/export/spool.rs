//! What waits for the collector.
//!
//! **The oldest is kept** when there is no room, and what comes is shed. Numbers are given to batches as they are
//! appended, so shedding leaves no gap in them; and the beginning of an outage is kept, which an attacker
//! who cuts the line and then makes noise would want to push out. The last quarter of the room is
//! reserved for batches that hold a conclusion or an action, so that noise cannot keep those out either.

use std::collections::VecDeque;

use prost::bytes::Bytes;

/// What a batch costs in memory beside its bytes.
const OVERHEAD: usize = 64;

/// Entries on their way to the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The entries as field 2 of an encoded `Batch`, without its sequence: that is given at the end.
    pub body: Bytes,
    /// It holds a signal, an incident or an outcome.
    pub important: bool,
}

/// A package that has its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// From 1, without gaps within an epoch.
    pub sequence: u64,
    /// The entries.
    pub package: Package,
}

/// How full a spool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Batches that wait.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Batches that were acknowledged since it was made.
    pub acknowledged: u64,
}

/// Why a package was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// There is no room for it.
    #[error("the spool is full with {0} bytes; what comes is shed until the collector takes what waits")]
    Full(usize),
}

/// Keeps batches, numbered, until the collector has them. Bounded in bytes.
pub trait Spool: Send {
    /// What the numbers are unique within, with the host.
    fn epoch(&self) -> u64;

    /// Takes a package and gives it the next number.
    ///
    /// # Errors
    /// If there is no room for it.
    fn append(&mut self, package: Package) -> Result<(), SpoolError>;

    /// The batch after `sequence`, if there is one.
    fn next(&self, sequence: u64) -> Option<Numbered>;

    /// Everything up to `sequence` is stored by the collector, and let go here.
    fn acknowledge(&mut self, sequence: u64);

    /// The collector says that it has everything up to `stored`. Returns false, and does nothing, where that cannot be
    /// continued from here, as after the collector lost its data: then [`renumber`](Self::renumber).
    fn resume(&mut self, stored: u64) -> bool;

    /// Begins a new epoch, in which what waits is numbered from 1.
    fn renumber(&mut self);

    /// How full it is.
    fn usage(&self) -> Usage;
}

/// A spool that lives as long as the agent.
#[derive(Debug)]
pub struct MemorySpool {
    epoch: u64,
    limit: usize,
    bytes: usize,
    /// Highest number that was acknowledged: the first that waits has one more.
    acknowledged: u64,
    waiting: VecDeque<Package>,
    /// The same, over all epochs.
    acknowledged_ever: u64,
}

impl MemorySpool {
    /// An empty spool for up to `limit` bytes. `epoch` must be one that this host never used before.
    #[must_use]
    pub fn new(epoch: u64, limit: usize) -> Self {
        Self {
            epoch,
            limit,
            bytes: 0,
            acknowledged: 0,
            waiting: VecDeque::new(),
            acknowledged_ever: 0,
        }
    }
}

impl Spool for MemorySpool {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn append(&mut self, package: Package) -> Result<(), SpoolError> {
        let limit = if package.important {
            self.limit
        } else {
            self.limit / 4 * 3
        };
        let bytes = package.body.len() + OVERHEAD;
        if self.bytes + bytes > limit {
            return Err(SpoolError::Full(self.bytes));
        }
        self.bytes += bytes;
        self.waiting.push_back(package);
        Ok(())
    }

    fn next(&self, sequence: u64) -> Option<Numbered> {
        let index = usize::try_from(sequence.checked_sub(self.acknowledged)?).ok()?;
        let package = self.waiting.get(index)?.clone();
        Some(Numbered {
            sequence: sequence + 1,
            package,
        })
    }

    fn acknowledge(&mut self, sequence: u64) {
        while self.acknowledged < sequence
            && let Some(package) = self.waiting.pop_front()
        {
            self.bytes -= package.body.len() + OVERHEAD;
            self.acknowledged += 1;
            self.acknowledged_ever += 1;
        }
    }

    fn resume(&mut self, stored: u64) -> bool {
        let fits = (self.acknowledged..=self.acknowledged + self.waiting.len() as u64).contains(&stored);
        if fits {
            self.acknowledge(stored);
        }
        fits
    }

    fn renumber(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.acknowledged = 0;
    }

    fn usage(&self) -> Usage {
        Usage {
            batches: self.waiting.len() as u64,
            bytes: self.bytes as u64,
            acknowledged: self.acknowledged_ever,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn package(length: usize, important: bool) -> Package {
        Package {
            body: vec![7; length].into(),
            important,
        }
    }

    #[test]
    fn the_oldest_is_kept_and_a_quarter_is_reserved() {
        let mut spool = MemorySpool::new(1, 4 * (100 + OVERHEAD));
        for _ in 0..3 {
            spool.append(package(100, false)).expect("has room");
        }
        assert!(spool.append(package(100, false)).is_err());
        spool
            .append(package(100, true))
            .expect("has room for what is important");
        assert!(spool.append(package(100, true)).is_err());
        assert_eq!(spool.usage().batches, 4);
        assert_eq!(spool.next(0).map(|batch| batch.sequence), Some(1));
        assert!(spool.next(4).is_none());
    }

    #[test]
    fn it_resumes_only_what_it_can_continue() {
        let mut spool = MemorySpool::new(1, 10_000);
        (0..5).for_each(|_| spool.append(package(10, false)).expect("has room"));
        assert!(spool.resume(2));
        assert!(!spool.resume(1), "the collector forgot what it had acknowledged");
        assert!(!spool.resume(6), "the collector knows what was never sent");
        spool.renumber();
        assert_eq!((spool.epoch(), spool.usage().batches), (2, 3));
        assert_eq!(spool.next(0).map(|batch| batch.sequence), Some(1));
    }

    proptest! {
        /// Whatever is appended and acknowledged: numbers have no gaps, and the bound holds.
        #[test]
        fn numbers_have_no_gaps_and_the_bound_holds(steps: Vec<(u8, bool, bool)>) {
            let (mut spool, mut sent) = (MemorySpool::new(1, 1000), 0);
            for (length, important, acknowledge) in steps {
                let _ = spool.append(package(usize::from(length), important));
                prop_assert!(spool.usage().bytes <= 1000);
                if let Some(batch) = spool.next(sent) {
                    prop_assert_eq!(batch.sequence, sent + 1);
                    sent = batch.sequence;
                }
                if acknowledge {
                    spool.acknowledge(sent);
                    prop_assert_eq!(spool.usage().acknowledged, sent);
                }
            }
        }
    }
}
