//! What must not be missed stands three times at its hook.
//!
//! Since Linux 7.0 a program of a tracepoint can be preempted, and as long as it is on a CPU the kernel skips its other runs there. No
//! process may begin, change or end unseen for that. So its program has twins behind it: each leaves word on its CPU of what it is about, and
//! one that finds in none of the words before it what it is about itself does what the others were skipped for, in a
//! [context](crate::context) of its own.
//!
//! All would be skipped only where three tasks of a CPU were put aside, one in each. Two would report only where a task is put aside just between
//! two of them, and another one passes the first meanwhile.

use aya_ebpf::{macros::map, maps::PerCpuArray};

use crate::kernel::Address;

/// A hook with twins.
#[derive(Clone, Copy)]
pub enum Twin {
    Exec = 0,
    Fork = 1,
    Exit = 2,
    Credential = 3,
}

/// Programs at each of them.
const PLACES: u32 = 3;

#[map]
static WORDS: PerCpuArray<u64> = PerCpuArray::with_max_entries(4 * PLACES, 0);

/// Whether it is for the program at `place` (from 0) to do what is to be done about this task. To be asked before anything else, since it
/// leaves word.
#[inline(always)]
pub fn is_mine(twin: Twin, place: u32, task: Address) -> bool {
    let mut before = 0;
    while before < place {
        if word(twin, before) == Some(task as u64) {
            return false;
        }
        before += 1;
    }
    if let Some(word) = WORDS.get_ptr_mut(index(twin, place)) {
        // SAFETY: the entry is this CPU's.
        unsafe { core::ptr::write_volatile(word, task as u64) };
    }
    true
}

#[inline(always)]
fn word(twin: Twin, place: u32) -> Option<u64> {
    let word = WORDS.get_ptr(index(twin, place))?;
    // SAFETY: the entry is this CPU's.
    Some(unsafe { core::ptr::read_volatile(word) })
}

#[inline(always)]
fn index(twin: Twin, place: u32) -> u32 {
    twin as u32 * PLACES + place
}
