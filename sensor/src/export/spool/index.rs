//! What waits, without its bytes: some 50 bytes of memory for each batch.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
};

use super::Class;

/// What a batch is charged beside its bytes: its row, its places in the index, and the rest of its last page.
pub(super) const OVERHEAD: u64 = 1024;

/// A batch that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) class: Class,
    pub(super) entries: u32,
    /// Of its body.
    pub(super) length: u32,
}

impl Slot {
    /// What of the room it takes.
    pub(super) fn charge(&self) -> u64 {
        u64::from(self.length) + OVERHEAD
    }
}

/// What waits, by position: a number that only grows, over all epochs.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: BTreeMap<u64, Slot>,
    by_class: [BTreeSet<u64>; Class::ALL.len()],
    bytes: u64,
}

impl Index {
    pub(super) fn insert(&mut self, position: u64, slot: Slot) {
        self.remove(position);
        self.bytes += slot.charge();
        self.by_class[slot.class as usize].insert(position);
        self.slots.insert(position, slot);
    }

    pub(super) fn remove(&mut self, position: u64) -> Option<Slot> {
        let slot = self.slots.remove(&position)?;
        self.by_class[slot.class as usize].remove(&position);
        self.bytes -= slot.charge();
        Some(slot)
    }

    pub(super) fn get(&self, position: u64) -> Option<&Slot> {
        self.slots.get(&position)
    }

    /// What is let go for a batch of `class`: the newest of the lowest class below it, at `from` or after.
    pub(super) fn victim(&self, class: Class, from: u64) -> Option<u64> {
        let lower = Class::ALL.iter().take_while(|lower| **lower < class);
        let newest = |lower: &Class| self.by_class[*lower as usize].last().copied();
        lower.filter_map(newest).find(|position| *position >= from)
    }

    pub(super) fn range(&self, positions: Range<u64>) -> impl DoubleEndedIterator<Item = (u64, &Slot)> {
        self.slots
            .range(positions)
            .map(|(position, slot)| (*position, slot))
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.slots.first_key_value().map(|(position, _)| *position)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.slots.last_key_value().map(|(position, _)| *position)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// What all of it is charged.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The batches of one run of an agent: their epoch, and how far they are.
///
/// Sequences are given in the order of positions. What has one is *bound*: it may have been sent, so it is neither shed nor changed. What
/// has none can be let go without leaving a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbering {
    /// Position of its first batch, by which the database knows it.
    pub(super) first: u64,
    pub(super) epoch: u64,
    /// Highest sequence that the collector has; the first batch that waits has one more.
    pub(super) acknowledged: u64,
    /// Highest sequence that was given.
    pub(super) bound: u64,
    /// The database says something else.
    pub(super) changed: bool,
}

impl Numbering {
    pub(super) fn new(first: u64, epoch: u64) -> Self {
        Self {
            first,
            epoch,
            acknowledged: 0,
            bound: 0,
            changed: true,
        }
    }

    /// How many wait that have a sequence.
    pub(super) fn waiting(&self) -> usize {
        usize::try_from(self.bound - self.acknowledged).unwrap_or(usize::MAX)
    }
}

/// Where the batches of numbering number `at` are.
pub(super) fn span(numberings: &VecDeque<Numbering>, at: usize) -> Range<u64> {
    let end = numberings.get(at + 1).map_or(u64::MAX, |next| next.first);
    numberings[at].first..end
}
