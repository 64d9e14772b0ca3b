//! A process's share of a ring that is filling up: a flood by one, from however many threads, leaves room for the others.

use aya_ebpf::{macros::map, maps::LruHashMap};

/// Tokens of a process, in billionths of an event: they grow with time, and each event takes one.
#[repr(C)]
#[derive(Clone, Copy)]
struct Bucket {
    tokens: u64,
    time: u64,
}

/// By process id. The longest unused is pushed out, and has a full bucket when it comes back.
#[map]
static SHARES: LruHashMap<u32, Bucket> = LruHashMap::with_max_entries(8192, 0);

/// A billionth of an event for each nanosecond and event a second.
const EVENT: u64 = 1_000_000_000;
/// A bucket holds what its rate gives in this part of a second.
const BURST: u64 = 10;
/// Longest time that is counted, so that nothing overflows.
const LONG: u64 = EVENT;

/// Takes an event out of the bucket of `tgid`, which is filled by `rate` events a second. False if it is empty.
///
/// Two CPUs may take the same token at once: a share is a measure, not an account.
#[inline(always)]
pub fn take(tgid: u32, rate: u64, now: u64) -> bool {
    let full = rate.wrapping_mul(EVENT / BURST);
    let Some(bucket) = SHARES.get_ptr_mut(tgid) else {
        let bucket = Bucket {
            tokens: full.wrapping_sub(EVENT),
            time: now,
        };
        let _ = SHARES.insert(tgid, &bucket, 0);
        return true;
    };
    // SAFETY: map memory is valid while the program runs.
    unsafe {
        let mut elapsed = now.wrapping_sub((*bucket).time);
        if elapsed > LONG {
            elapsed = LONG;
        }
        let mut tokens = (*bucket).tokens.wrapping_add(elapsed.wrapping_mul(rate));
        if tokens > full {
            tokens = full;
        }
        (*bucket).time = now;
        if tokens < EVENT {
            (*bucket).tokens = tokens;
            return false;
        }
        (*bucket).tokens = tokens - EVENT;
    }
    true
}
