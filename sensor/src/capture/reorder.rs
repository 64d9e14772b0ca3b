//! Records in the order of their time.
//!
//! Rings are shared by CPUs, so that records come out nearly in order. A record is held until nothing earlier can be on its
//! way any more: until every ring has been read up to where it was reserved at a later time. Only a record that is
//! still being written makes others wait, for a *window* at most. What comes later still is passed on at once and counted.
//!
//! Records are copied once, into one buffer that is reused, and are handed out in place. They come as a few runs, each in order but for
//! its last records, which a stable sort merges in little more than a look at each.

use zerocopy::IntoBytes;

use crate::time::BootTime;

/// Records waiting to be released.
#[derive(Debug, Default)]
pub struct Reorder {
    /// Records one behind the other, each beginning on a multiple of eight bytes.
    buffer: Vec<u64>,
    /// In the order in which they came, behind those that are sorted.
    waiting: Vec<Entry>,
    latest_released: BootTime,
    late: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    time: BootTime,
    word: usize,
    length: usize,
}

impl Reorder {
    /// Takes a copy of `record`, which happened at `time`.
    pub fn push(&mut self, time: BootTime, record: &[u8]) {
        let word = self.buffer.len();
        self.buffer
            .resize(word + record.len().div_ceil(size_of::<u64>()), 0);
        self.buffer[word..].as_mut_bytes()[..record.len()].copy_from_slice(record);
        self.waiting.push(Entry {
            time,
            word,
            length: record.len(),
        });
    }

    /// Hands out every record up to `horizon`, in order; those of the same time as they came.
    pub fn release(&mut self, horizon: BootTime, mut take: impl FnMut(&[u8])) {
        self.waiting.sort_by_key(|entry| entry.time);
        let due = self.waiting.partition_point(|entry| entry.time <= horizon);
        for entry in self.waiting.drain(..due) {
            if entry.time < self.latest_released {
                self.late += 1;
            }
            self.latest_released = self.latest_released.max(entry.time);
            take(&self.buffer[entry.word..].as_bytes()[..entry.length]);
        }
        self.compact();
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes held, records already released included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len() * size_of::<u64>()
    }

    /// Records that came after a later one had been released.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Gives up the room of released records, by moving the few that wait to the front.
    fn compact(&mut self) {
        if self.waiting.is_empty() {
            self.buffer.clear();
            self.buffer.shrink_to(SPARE_WORDS);
            return;
        }
        let held: usize = self
            .waiting
            .iter()
            .map(|entry| entry.length.div_ceil(size_of::<u64>()))
            .sum();
        if held * 2 >= self.buffer.len() {
            return;
        }
        // In the buffer's order, so that nothing is moved over what is still to be moved; then in that of time again.
        self.waiting.sort_unstable_by_key(|entry| entry.word);
        let mut end = 0;
        for entry in &mut self.waiting {
            let words = entry.length.div_ceil(size_of::<u64>());
            self.buffer.copy_within(entry.word..entry.word + words, end);
            entry.word = end;
            end += words;
        }
        self.buffer.truncate(end);
    }
}

/// Room kept when nothing waits: 256 KiB.
const SPARE_WORDS: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes in goes out once, and sorted if nothing comes later than its window.
        #[test]
        fn a_sorted_permutation_comes_out(times in prop::collection::vec(0..1000_u64, 0..200), every in 1..50_usize) {
            let mut reorder = Reorder::default();
            let mut out = Vec::new();
            let take = |out: &mut Vec<u64>, record: &[u8]| out.push(u64::from_ne_bytes(record[..8].try_into().unwrap()));
            for (index, time) in times.iter().enumerate() {
                // Length varies, so that records move differently when the buffer is compacted.
                let record = [&time.to_ne_bytes()[..], &vec![1; (*time % 23) as usize]].concat();
                reorder.push(BootTime(*time), &record);
                if index % every == 0 {
                    // Everything up to the least time that is still to come.
                    let horizon = times[index + 1..].iter().min().map_or(u64::MAX, |time| time.saturating_sub(1));
                    reorder.release(BootTime(horizon), |record| take(&mut out, record));
                }
            }
            reorder.release(BootTime(u64::MAX), |record| take(&mut out, record));
            let mut sorted = times.clone();
            sorted.sort_unstable();
            if times.iter().all(|time| *time > 0) {
                prop_assert_eq!(reorder.late(), 0);
                prop_assert_eq!(out, sorted);
            } else {
                out.sort_unstable();
                prop_assert_eq!(out, sorted);
            }
            prop_assert!(reorder.is_empty() && reorder.bytes() == 0);
        }
    }

    #[test]
    fn a_late_record_is_passed_on_and_counted() {
        let mut reorder = Reorder::default();
        let mut out = 0;
        reorder.push(BootTime(9), b"later");
        reorder.release(BootTime(9), |_| out += 1);
        reorder.push(BootTime(5), b"earlier");
        reorder.release(BootTime(9), |_| out += 1);
        assert_eq!((out, reorder.late()), (2, 1));
    }
}
