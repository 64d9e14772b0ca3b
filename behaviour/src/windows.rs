//! Windows of system calls that workloads are known to have: what kernel programs have learned, as it outlives them.
//!
//! A window is a number that stands for some calls in their order; what it is made of is no matter here. Bounds: [`WORKLOADS_MAX`] workloads of
//! [`WINDOWS_MAX`] windows each and [`TOTAL_MAX`] together, 8 bytes for each; given up first is the workload that was seen the longest ago.
//!
//! As bytes, after the envelope's head: number of workloads (4); for each, by name, its name (length 2), whether it is settled (1), how long
//! it has shown nothing new (8) and when it was seen last (8), in seconds, its windows in their order (number 4; 8 each).

use std::collections::BTreeMap;

use crate::snapshot::{self, Kind, Reader, SnapshotError};

/// Workloads that are kept.
pub const WORKLOADS_MAX: usize = 1_024;
/// Windows of one.
pub const WINDOWS_MAX: usize = 16_384;
/// Windows of all.
pub const TOTAL_MAX: usize = 262_144;
/// Bytes of a workload's name; one with a longer name is not kept.
pub const NAME_MAX: usize = 4_096;

/// A window is smaller.
const WINDOW_END: u64 = 1 << 54;

const VERSION: u16 = 1;

/// What is known of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// In ascending order.
    windows: Vec<u64>,
    /// It counts as learned: what is new to it is worth a word.
    pub settled: bool,
    /// For how many seconds it has shown nothing new.
    pub quiet_seconds: u64,
    /// When it was seen last, in seconds since the Unix epoch.
    pub seen_unix_seconds: u64,
}

/// What is known of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    workloads: BTreeMap<Box<str>, Known>,
    total: usize,
}

impl Known {
    /// Nothing but these windows. If they are too many, the workload is never settled.
    #[must_use]
    pub fn new(mut windows: Vec<u64>) -> Self {
        windows.retain(|window| *window < WINDOW_END);
        windows.sort_unstable();
        windows.dedup();
        windows.truncate(WINDOWS_MAX);
        Self {
            windows,
            ..Self::default()
        }
    }

    /// Its windows, in ascending order.
    #[must_use]
    pub fn windows(&self) -> &[u64] {
        &self.windows
    }

    /// What two hosts, or two times, know of the same workload: every window of both. It is settled if it is so in both: where
    /// it is still learned there may be more to come.
    fn merged(&self, other: &Self) -> Self {
        let windows = [self.windows(), other.windows()].concat();
        let merged = Self::new(windows);
        let fits = merged.windows.len() < WINDOWS_MAX;
        Self {
            settled: self.settled && other.settled && fits,
            quiet_seconds: self.quiet_seconds.min(other.quiet_seconds),
            seen_unix_seconds: self.seen_unix_seconds.max(other.seen_unix_seconds),
            ..merged
        }
    }
}

impl Windows {
    /// Keeps this of a workload, instead of what was kept before.
    pub fn put(&mut self, workload: &str, known: Known) {
        if workload.is_empty() || workload.len() > NAME_MAX {
            return;
        }
        self.total += known.windows.len();
        if let Some(before) = self.workloads.insert(workload.into(), known) {
            self.total -= before.windows.len();
        }
        while self.workloads.len() > WORKLOADS_MAX || self.total > TOTAL_MAX {
            let oldest = self
                .workloads
                .iter()
                .min_by_key(|(_, known)| known.seen_unix_seconds);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else {
                return;
            };
            self.take(&name);
        }
    }

    /// What is known of a workload, which is then no longer kept.
    pub fn take(&mut self, workload: &str) -> Option<Known> {
        let known = self.workloads.remove(workload)?;
        self.total -= known.windows.len();
        Some(known)
    }

    /// All that are kept, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Known)> {
        self.workloads.iter().map(|(name, known)| (&**name, known))
    }

    /// Windows of all together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Adds what another host knows.
    pub fn merge(&mut self, other: &Self) {
        for (name, theirs) in other.iter() {
            let merged = match self.workloads.get(name) {
                Some(ours) => ours.merged(theirs),
                None => theirs.clone(),
            };
            self.put(name, merged);
        }
    }

    /// As bytes: at most 10 MiB.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.total * 8 + self.workloads.len() * 64);
        out.extend((self.workloads.len() as u32).to_le_bytes());
        for (name, known) in self.iter() {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name.as_bytes());
            out.push(known.settled.into());
            out.extend(known.quiet_seconds.to_le_bytes());
            out.extend(known.seen_unix_seconds.to_le_bytes());
            out.extend((known.windows.len() as u32).to_le_bytes());
            for window in &known.windows {
                out.extend(window.to_le_bytes());
            }
        }
        snapshot::seal(Kind::Windows, VERSION, &out)
    }

    /// What [`Windows::to_snapshot`] wrote.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut reader = Reader(snapshot::open(Kind::Windows, VERSION, bytes)?);
        let number = reader
            .u32()
            .ok_or(SnapshotError::Inside("it ends before its first workload"))?;
        let mut all = Self::default();
        let mut last = "";
        for _ in 0..number {
            let (name, known) =
                decode(&mut reader).ok_or(SnapshotError::Inside("a workload is cut off or damaged"))?;
            if name <= last {
                return Err(SnapshotError::Inside("its workloads are not in order"));
            }
            last = name;
            all.put(name, known);
        }
        if all.workloads.len() != number as usize {
            return Err(SnapshotError::Inside("more workloads or windows than are kept"));
        }
        if reader.0.is_empty() {
            Ok(all)
        } else {
            Err(SnapshotError::Inside("more after the last workload"))
        }
    }
}

fn decode<'a>(reader: &mut Reader<'a>) -> Option<(&'a str, Known)> {
    let length = usize::from(reader.u16()?);
    let name = std::str::from_utf8(reader.bytes(length)?).ok()?;
    let [settled] = reader.array()?;
    let (quiet_seconds, seen_unix_seconds) = (reader.u64()?, reader.u64()?);
    let number = reader.u32()? as usize;
    if name.len() > NAME_MAX || settled > 1 || number > WINDOWS_MAX {
        return None;
    }
    let bytes = reader.bytes(number * 8)?;
    let windows: Vec<u64> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect();
    let is_proper = windows.is_sorted_by(|left, right| left < right)
        && windows.last().is_none_or(|last| *last < WINDOW_END);
    let known = Known {
        windows,
        settled: settled == 1,
        quiet_seconds,
        seen_unix_seconds,
    };
    is_proper.then_some((name, known))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn known(windows: &[u64], settled: bool, seen: u64) -> Known {
        Known {
            settled,
            quiet_seconds: seen,
            seen_unix_seconds: seen,
            ..Known::new(windows.to_vec())
        }
    }

    fn of(workloads: &[(&str, Known)]) -> Windows {
        let mut all = Windows::default();
        for (name, known) in workloads {
            all.put(name, known.clone());
        }
        all
    }

    #[test]
    fn windows_are_kept_once_and_in_order() {
        assert_eq!(Known::new(vec![7, 3, 7, WINDOW_END, 1]).windows(), [1, 3, 7]);
    }

    #[test]
    fn what_two_hosts_know_adds_up() {
        let mut ours = of(&[
            ("unit:a", known(&[1, 2], true, 10)),
            ("unit:b", known(&[5], true, 20)),
        ]);
        let theirs = of(&[
            ("unit:b", known(&[5, 6], false, 15)),
            ("unit:c", known(&[9], true, 1)),
        ]);
        ours.merge(&theirs);
        let all: Vec<_> = ours.iter().map(|(name, known)| (name, known.clone())).collect();
        let b = Known {
            quiet_seconds: 15,
            ..known(&[5, 6], false, 20)
        };
        assert_eq!(
            all,
            [
                ("unit:a", known(&[1, 2], true, 10)),
                ("unit:b", b),
                ("unit:c", known(&[9], true, 1))
            ]
        );
        assert_eq!(ours.total(), 5);
    }

    #[test]
    fn a_union_that_does_not_fit_is_not_settled() {
        let half = WINDOWS_MAX as u64 * 3 / 4;
        let low: Vec<u64> = (0..half).collect();
        let high: Vec<u64> = (half..2 * half).collect();
        let mut ours = of(&[("unit:a", known(&low, true, 1))]);
        ours.merge(&of(&[("unit:a", known(&high, true, 1))]));
        let merged = ours.take("unit:a").unwrap();
        assert_eq!(merged.windows().len(), WINDOWS_MAX);
        assert!(!merged.settled);
        assert_eq!(ours.total(), 0);
    }

    #[test]
    fn who_was_not_seen_for_the_longest_goes_first() {
        let mut all = Windows::default();
        let many: Vec<u64> = (0..WINDOWS_MAX as u64).collect();
        for number in 0..20 {
            all.put(&format!("unit:{number}"), known(&many, true, 100 - number));
        }
        let names: Vec<&str> = all.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), TOTAL_MAX / WINDOWS_MAX);
        assert!(
            names.contains(&"unit:0") && !names.contains(&"unit:19"),
            "{names:?}"
        );
        for number in 0..2_000 {
            all.put(
                &format!("unit:small-{number}"),
                known(&[number], true, 1_000 + number),
            );
        }
        assert_eq!(all.iter().count(), WORKLOADS_MAX);
        all.put(&"x".repeat(NAME_MAX + 1), known(&[1], true, 9_999));
        assert!(all.iter().all(|(name, _)| name.len() <= NAME_MAX));
    }

    #[test]
    fn what_makes_no_sense_inside_is_refused() {
        let all = of(&[
            ("unit:a", known(&[1, 2], true, 3)),
            ("unit:b", known(&[4], false, 5)),
        ]);
        let bytes = all.to_snapshot();
        let damaged = |at: usize, byte: u8| {
            let mut payload = bytes[11..bytes.len() - 4].to_vec();
            payload[at] = byte;
            Windows::from_snapshot(&snapshot::seal(Kind::Windows, VERSION, &payload))
        };
        for (at, byte, what) in [
            (0, 3, "more workloads than are there"),
            (0, 1, "fewer"),
            (6, 0xff, "a name that is no text"),
            (12, 2, "a flag that is none"),
            (29, 3, "more windows than are there"),
            (33, 2, "the same window twice"),
            (48, 1, "a window that is too large"),
            (11, b'c', "names out of order"),
        ] {
            assert!(damaged(at, byte).is_err(), "{what}");
        }
        assert!(damaged(12, 0).is_ok());
    }

    proptest! {
        #[test]
        fn a_snapshot_is_what_was_known(workloads: Vec<(String, Vec<u64>, bool, u64)>) {
            let mut all = Windows::default();
            for (name, windows, settled, seen) in &workloads {
                all.put(name, known(windows, *settled, *seen));
            }
            prop_assert_eq!(Windows::from_snapshot(&all.to_snapshot()), Ok(all));
        }

        #[test]
        fn merging_keeps_every_window(ours in vec(0..100_u64, 0..50), theirs in vec(0..100_u64, 0..50)) {
            let mut all = of(&[("unit:a", known(&ours, true, 1))]);
            all.merge(&of(&[("unit:a", known(&theirs, true, 1))]));
            let merged = all.take("unit:a").unwrap();
            prop_assert!(ours.iter().chain(&theirs).all(|window| merged.windows().contains(window)));
            prop_assert!(merged.windows().iter().all(|window| ours.contains(window) || theirs.contains(window)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(payload: Vec<u8>) {
            let _ = Windows::from_snapshot(&payload);
            let _ = Windows::from_snapshot(&snapshot::seal(Kind::Windows, VERSION, &payload));
        }
    }
}
