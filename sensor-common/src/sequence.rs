//! Orders of system calls: what kernel programs and agent share to tell new ones from known ones.
//!
//! A thread of a profiled workload has a history, its last [`LENGTH`] call numbers, packed into one number: the window. With the number
//! of the workload it is a key, exact, of the set of known windows. The set is a table of buckets, each a line of the cache; a key is
//! in one of two buckets or it is not known. Everything has a fixed size: [`THREADS`], [`WORKLOADS`], [`BUCKETS`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Calls in a window.
pub const LENGTH: usize = 6;

/// Bits of a call's number in a window.
const CALL_BITS: u32 = 9;
const WINDOW_BITS: u32 = CALL_BITS * LENGTH as u32;
const WINDOW: u64 = (1 << WINDOW_BITS) - 1;
const CALL: u64 = (1 << CALL_BITS) - 1;

/// No call yet, as a number in a window.
const NONE: u64 = CALL;
/// A call whose number does not fit.
pub const OTHER: u16 = CALL as u16 - 1;

/// The history of a thread that has made no call.
pub const NO_HISTORY: u64 = WINDOW;

/// Threads are told apart by as many of the lowest bits of their id as this has; it is a power of two. Of two live ones that share
/// those bits, the later is not profiled.
pub const THREADS: usize = 65_536;
/// Threads that are seen at first sight not to be profiled, by the lowest bits of their stacks' numbers; a power of two.
pub const PASSES: usize = 16_384;
/// The kernel aligns the stacks of threads to so many bits: what is above is the number of a stack.
pub const STACK_BITS: u32 = 14;
/// Workloads, of which number 0 is nobody: what a byte holds.
pub const WORKLOADS: usize = 256;
/// Buckets of the set, a power of two.
pub const BUCKETS: usize = 32_768;
/// Keys of a bucket.
pub const BUCKET: usize = 8;
/// Windows that are kept of one workload.
pub const WINDOWS_MAX: u32 = 16_384;
/// New windows of a workload that are reported in a second; what is beyond is counted.
pub const REPORTS_MAX: u32 = 64;
/// Cgroups of profiled workloads; the one that was not needed for the longest time goes first.
pub const CGROUPS_MAX: u32 = 4_096;

/// In a key: it was not learned but reported.
pub const REPORTED: u64 = 1 << 63;

/// Where the number of the workload is in a key.
const WORKLOAD_SHIFT: u32 = WINDOW_BITS;

/// Who is profiled.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Marks {
    /// Another number whenever the agent has marked a thread: no earlier pass holds any more.
    pub generation: u64,
    /// What threads that are not profiled leave behind, by their stacks; see [`pass`].
    pub passes: [u64; PASSES],
    /// The number of the workload that a thread belongs to, by its id; 0: it is not profiled.
    pub marks: [u8; THREADS],
}

/// What is remembered of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ThreadState {
    /// Its last calls.
    pub history: u64,
    /// Its id in the initial pid namespace; 0: nobody's.
    pub tid: u32,
    /// Fills the state to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

/// Part of the set: keys, 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Bucket {
    /// The keys.
    pub keys: [u64; BUCKET],
}

/// How it is with a workload. All CPUs write it without a lock: a count may miss one where two counted at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WorkloadState {
    /// When its last window was learned: nanoseconds of `CLOCK_BOOTTIME`.
    pub learned_at: u64,
    /// Begin of the second that reports are counted in.
    pub second: u64,
    /// Reports in that second.
    pub reports: u32,
    /// 1: what is new is reported; 0: it is learned.
    pub enforced: u32,
    /// Its windows in the set.
    pub windows: u32,
    /// Fills the state to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

/// Counters of a workload on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WorkloadCounts {
    /// New windows that were withheld since this CPU's last report of it, because there were too many.
    pub withheld: u64,
    /// Windows that the set had no room for, each time.
    pub unstored: u64,
}

/// What says that the thread with this stack is not profiled: exact for the stack, and never 0. (Of the generation there is room for some
/// bits; a thread that is profiled takes a former pass of its stack away, so that none comes to hold again.)
#[must_use]
#[inline(always)]
pub const fn pass(stack: u64, generation: u64) -> u64 {
    stack << STACK_BITS | generation & ((1 << STACK_BITS) - 1)
}

/// The stack of a pass.
#[must_use]
#[inline(always)]
pub const fn stack_of(pass: u64) -> u64 {
    pass >> STACK_BITS
}

/// The history after one more call.
#[must_use]
#[inline(always)]
pub const fn push(history: u64, call: u64) -> u64 {
    let call = if call >= OTHER as u64 { OTHER as u64 } else { call };
    (history << CALL_BITS | call) & WINDOW
}

/// Whether a history is a whole window.
#[must_use]
#[inline(always)]
pub const fn is_whole(history: u64) -> bool {
    history >> (WINDOW_BITS - CALL_BITS) != NONE
}

/// The key of a workload's window.
#[must_use]
#[inline(always)]
pub const fn key(history: u64, workload: u8) -> u64 {
    (workload as u64) << WORKLOAD_SHIFT | history
}

/// The workload of a key.
#[must_use]
#[inline(always)]
pub const fn workload(key: u64) -> u8 {
    (key >> WORKLOAD_SHIFT) as u8
}

/// The window of a key, without its workload.
#[must_use]
#[inline(always)]
pub const fn window(key: u64) -> u64 {
    key & WINDOW
}

/// The calls of a key's window, the first first.
#[must_use]
#[inline(always)]
pub const fn calls(key: u64) -> [u16; LENGTH] {
    [
        call(key, 5),
        call(key, 4),
        call(key, 3),
        call(key, 2),
        call(key, 1),
        call(key, 0),
    ]
}

#[inline(always)]
const fn call(key: u64, before: u32) -> u16 {
    (key >> (before * CALL_BITS) & CALL) as u16
}

/// The bucket where a key is usually. (The multipliers are odd numbers without a pattern: the golden ratio's, and one of
/// SplitMix64's.)
#[must_use]
#[inline(always)]
pub const fn bucket(key: u64) -> u32 {
    let mixed = (key & !REPORTED).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - BUCKETS.ilog2())) as u32
}

/// Where it is if that was full.
#[must_use]
#[inline(always)]
pub const fn other_bucket(key: u64) -> u32 {
    let key = key & !REPORTED;
    let mixed = (key ^ key >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> (u64::BITS - BUCKETS.ilog2())) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_whole_after_six_calls_and_says_which() {
        let mut history = NO_HISTORY;
        for call in [0, 1, 2, 3, 700] {
            history = push(history, call);
            assert!(!is_whole(history));
        }
        history = push(history, 5);
        assert!(is_whole(history));
        assert_eq!(calls(key(history, 255)), [0, 1, 2, 3, OTHER, 5]);
        assert_eq!(calls(key(push(history, 6), 1)), [1, 2, 3, OTHER, 5, 6]);
    }

    #[test]
    fn a_key_names_its_workload_and_is_never_empty() {
        for workload_number in 1..=255 {
            let key = key(0, workload_number);
            assert_ne!(key, 0);
            assert_eq!(key & REPORTED, 0);
            assert_eq!(workload(key), workload_number);
            assert_eq!(workload(key | REPORTED), workload_number);
            assert_eq!(window(key | REPORTED), 0);
        }
    }

    /// How many of `count` keys find both of their buckets full. They are all alike: two workloads, small numbers.
    fn without_a_place(count: usize) -> usize {
        let mut fill = [0_u8; BUCKETS];
        let keys = (0..count as u64).map(|number| {
            let history = (0..6).fold(NO_HISTORY, |history, digit| {
                push(history, number >> (digit * 3) & 7)
            });
            key(history, 1 + (number & 1) as u8)
        });
        keys.filter(|key| {
            let places = [bucket(*key), other_bucket(*key)].map(|place| place as usize);
            match places
                .into_iter()
                .find(|place| usize::from(fill[*place]) < BUCKET)
            {
                Some(place) => {
                    fill[place] += 1;
                    false
                }
                None => true,
            }
        })
        .count()
    }

    #[test]
    fn keys_spread_over_the_buckets() {
        let size = BUCKETS * BUCKET;
        let half = without_a_place(size / 2);
        assert!(half < size / 1_000, "{half} at a half");
        let three_quarters = without_a_place(size * 3 / 4);
        assert!(three_quarters < size / 50, "{three_quarters} at three quarters");
    }
}
