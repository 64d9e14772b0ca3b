//! What the agent may change while the kernel programs run.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Class, MuteKind, Signal};

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
    /// Bytes waiting in a ring of each class at which a process that has used up its share is turned away.
    pub pressure: [u64; Class::COUNT],
    /// Events a second that a process may report while there is pressure.
    pub share: u64,
    /// For how long, in nanoseconds, repetitions are folded into one event; 0: each is reported.
    pub fold_window: u64,
    /// How often an open connection is reported, in nanoseconds.
    pub flow_interval: u64,
    /// The agent's own process id in the initial pid namespace; its own doings are muted.
    pub agent_tgid: u32,
    /// Bit *n* set: there are mutes of [kind](crate::MuteKind) *n*.
    pub mutes: u32,
    /// Not zero: there are watched files.
    pub watches: u32,
    /// Another number whenever the mutes have changed: what was decided by the former ones is decided anew.
    pub generation: u32,
}

impl Settings {
    /// Whether a higher rung reports `signal`.
    #[must_use]
    #[inline(always)]
    pub const fn is_taken_over(&self, signal: Signal) -> bool {
        self.taken_over & (1 << signal as u64) != 0
    }
    /// Whether there are mutes of this kind.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, kind: MuteKind) -> bool {
        self.mutes & (1 << kind as u32) != 0
    }
}
