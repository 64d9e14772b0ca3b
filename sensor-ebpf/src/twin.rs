//! What must not be missed stands twice at its hook.
//!
//! Since Linux 7.0 a program of a tracepoint can be preempted, and as long as it is on a CPU the kernel skips its other runs there. No
//! process may begin, change or end unseen for that. So its program has a twin behind it: the first leaves word on its CPU of what it is about, and
//! the second, which finds there the word of another, does what the first was skipped for, in a [context](crate::context) of its own.
//!
//! Both would be skipped only where two tasks were preempted, one in each. Both would report only where a task is preempted just between
//! the two, and another one passes the first meanwhile.

use aya_ebpf::{macros::map, maps::PerCpuArray};

use crate::kernel::Address;

/// A pair.
#[derive(Clone, Copy)]
pub enum Twin {
    Exec = 0,
    Fork = 1,
    Exit = 2,
    Credential = 3,
}

#[map]
static WORDS: PerCpuArray<u64> = PerCpuArray::with_max_entries(4, 0);

/// Leaves word that the first program of the pair runs, about this task: before anything else it does.
#[inline(always)]
pub fn first(twin: Twin, task: Address) {
    if let Some(word) = WORDS.get_ptr_mut(twin as u32) {
        // SAFETY: the entry is this CPU's.
        unsafe { core::ptr::write_volatile(word, task as u64) };
    }
}

/// Whether the first program of the pair was skipped.
#[inline(always)]
pub fn was_skipped(twin: Twin, task: Address) -> bool {
    // SAFETY: the entry is this CPU's.
    WORDS
        .get_ptr(twin as u32)
        .is_some_and(|word| unsafe { core::ptr::read_volatile(word) } != task as u64)
}
