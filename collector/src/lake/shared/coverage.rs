//! Which sequences of a numbering are stored: intervals that neither touch nor overlap.

use serde::{Deserialize, Serialize};

/// A set of sequences. Gaps close as batches come, so there are few intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage(Vec<(u64, u64)>);

impl Coverage {
    /// Whether `sequence` is stored.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        let at = self.0.partition_point(|(_, to)| *to < sequence);
        self.0.get(at).is_some_and(|(from, _)| *from <= sequence)
    }

    /// The highest that is stored; 0 for none.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.0.last().map_or(0, |(_, to)| *to)
    }

    /// Adds all from `from` to `to`, both included.
    pub fn insert(&mut self, from: u64, to: u64) {
        // Those that touch or overlap the new one become part of it.
        let first = self.0.partition_point(|(_, end)| end.saturating_add(1) < from);
        let past = self
            .0
            .partition_point(|(begin, _)| *begin <= to.saturating_add(1));
        let merged = match self.0.get(first..past) {
            Some([]) | None => (from, to),
            Some(old) => (from.min(old[0].0), to.max(old[old.len() - 1].1)),
        };
        self.0.splice(first..past.max(first), [merged]);
    }

    /// The intervals, both ends included.
    #[must_use]
    pub fn intervals(&self) -> &[(u64, u64)] {
        &self.0
    }
}

impl FromIterator<u64> for Coverage {
    fn from_iter<T: IntoIterator<Item = u64>>(sequences: T) -> Self {
        let mut coverage = Self::default();
        for sequence in sequences {
            coverage.insert(sequence, sequence);
        }
        coverage
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_close() {
        let mut coverage: Coverage = [1, 2, 5, 6, 9].into_iter().collect();
        assert_eq!(coverage.intervals(), [(1, 2), (5, 6), (9, 9)]);
        coverage.insert(3, 4);
        assert_eq!(coverage.intervals(), [(1, 6), (9, 9)]);
        coverage.insert(0, u64::MAX);
        assert_eq!(coverage.intervals(), [(0, u64::MAX)]);
    }

    proptest! {
        /// It is a set, however it came about.
        #[test]
        fn is_the_set_of_what_was_inserted(intervals: Vec<(u8, u8)>) {
            let mut coverage = Coverage::default();
            let mut set = BTreeSet::new();
            for (from, length) in intervals {
                let (from, to) = (u64::from(from), u64::from(from) + u64::from(length % 16));
                coverage.insert(from, to);
                set.extend(from..=to);
            }
            for sequence in 0..300 {
                prop_assert_eq!(coverage.contains(sequence), set.contains(&sequence));
            }
            prop_assert_eq!(coverage.highest(), set.last().copied().unwrap_or(0));
            for pair in coverage.intervals().windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0);
            }
        }
    }
}
