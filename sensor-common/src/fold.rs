//! Repetitions of one event, counted in memory that kernel and agent share.
//!
//! The first event of a kind is reported at once, with the number of a slot; while the slot is its own, the next ones only count there.
//! Every window the agent reads what has come together and reports it as one event. A slot whose count was reported may be taken
//! by another; one whose count was not is left alone, and what would have needed it is reported in full.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Slots of each CPU, a power of two.
pub const SLOTS_PER_CPU: u32 = 1024;

/// One slot. The kernel programs write all of it but `reported`, each only to slots of its own CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fold {
    /// When the process began.
    pub start_time: u64,
    /// Inode number of the file; 0 for what has none.
    pub inode: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Device of the file.
    pub device: u32,
    /// Number of the signal; in bits 16 and 17 whether the file was opened for reading or writing; above, the system call.
    pub kind: u32,
    /// Changes whenever the slot is taken anew.
    pub generation: u32,
    /// Repetitions since it was taken.
    pub count: u64,
    /// The earliest of them that was not reported, in nanoseconds of `CLOCK_BOOTTIME`; written by the kernel programs when
    /// `count` equals `reported`.
    pub first: u64,
    /// The latest of them.
    pub last: u64,
    /// How many of them the agent has reported; only the agent writes it.
    pub reported: u64,
    /// The rule that mutes them, from 1; 0: none. Valid while the settings are those of `settings`.
    pub rule: u32,
    /// Which settings `rule` was found under.
    pub settings: u32,
}
