//! Contexts: what one run of a program has to itself on a CPU, numbers of accounts and of scratch memory.
//!
//! Programs of tracepoints run with preemption off, before Linux 7.0; since then the kernel skips a run of a program that is running on that
//! CPU. Two of them can interrupt each other, but none itself, and each signal is counted by one of them: they share context 0, and plain
//! additions are enough there. The same goes for what is attached to a function and alone in counting its signals.
//!
//! Programs of security hooks and of cgroups stay on their CPU but can be preempted, by a task that then runs the same program, and the
//! kernel does not check for that. Each of their runs claims a context that nobody else on the CPU is in: its account and its scratch
//! memory are its own until it leaves. So do programs that count the same signal as others do, as twins do. A context is claimed by adding one to
//! its counter and looking at the sum, which needs no atomic that returns a value: who sees 1 is alone, since whoever comes later sees at
//! least 2 until the first has left, and goes away again.
//!
//! As many tasks of a CPU as a class has contexts can be in such programs at the same time; what comes beyond that is counted as lost, in
//! an account of its own, by single instructions. The classes have contexts of their own, so that a flood of file events that is
//! preempted again and again costs no critical event.

use crate::Class;

/// Contexts of programs that can be preempted, for critical signals.
pub const CRITICAL: u32 = 2;

/// The same for bulk signals.
pub const BULK: u32 = 4;

/// All contexts of a CPU, the one of programs that cannot be preempted included.
pub const CONTEXTS: u32 = 1 + CRITICAL + BULK;

/// The context of programs that cannot be preempted.
pub const UNPREEMPTED: u32 = 0;

/// Where it is counted what no context was free for: whoever does so may be interrupted by the next.
pub const NO_CONTEXT: u32 = CONTEXTS;

/// Blocks of accounts: one for each context, and that one.
pub const ACCOUNT_BLOCKS: u32 = CONTEXTS + 1;

/// The first context of a class, and how many it has.
#[must_use]
#[inline(always)]
pub const fn of_class(class: u32) -> (u32, u32) {
    if class == Class::Critical as u32 {
        (1, CRITICAL)
    } else {
        (1 + CRITICAL, BULK)
    }
}

/// Bits of a record's sequence number that count; those above are the context.
pub const SEQUENCE_BITS: u32 = 56;
