//! The account of events: what the kernel saw and what became of it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Counters of one signal in one [context](crate::context) of one CPU, in a per-CPU array: one block for each context, indexed by
/// [`Signal`](crate::Signal).
///
/// `seen = submitted + muted + aggregated + lost + throttled`; what was submitted is derived, never stored, so the sum cannot
/// drift. Nobody else is in the context, so plain additions are enough; only where there was no context are they single instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Account {
    /// Occurrences that the kernel offered.
    pub seen: u64,
    /// Left out on purpose: switched off, the agent's own, a muted subject.
    pub muted: u64,
    /// Folded into another event.
    pub aggregated: u64,
    /// The ring had no room.
    pub lost: u64,
    /// The ring was filling up, and the process had used up its share of it.
    pub throttled: u64,
}

impl Account {
    /// Events that were put into a ring.
    #[must_use]
    pub const fn submitted(&self) -> u64 {
        self.seen
            .wrapping_sub(self.muted)
            .wrapping_sub(self.aggregated)
            .wrapping_sub(self.lost)
            .wrapping_sub(self.throttled)
    }

    /// The sum of two accounts, as of two CPUs.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            seen: self.seen.wrapping_add(other.seen),
            muted: self.muted.wrapping_add(other.muted),
            aggregated: self.aggregated.wrapping_add(other.aggregated),
            lost: self.lost.wrapping_add(other.lost),
            throttled: self.throttled.wrapping_add(other.throttled),
        }
    }
}
