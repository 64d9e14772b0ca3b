//! What the agent may change while the kernel programs run.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Signal;

/// The single value of the `SETTINGS` map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// Bit *n* set: signal number *n* is reported; clear: it is counted as muted.
    pub enabled: u64,
    /// Bit *n* set: a better hook reports signal *n*, the program on the lower rung leaves it alone.
    pub taken_over: u64,
    /// Bytes waiting in a ring at which its reader is woken.
    pub watermark: u64,
    /// The agent's own process id in the initial pid namespace; its own doings are muted.
    pub agent_tgid: u32,
    /// Fills the record to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

impl Settings {
    /// Whether a higher rung reports `signal`.
    #[must_use]
    #[inline(always)]
    pub const fn is_taken_over(&self, signal: Signal) -> bool {
        self.taken_over & (1 << signal as u64) != 0
    }
}
