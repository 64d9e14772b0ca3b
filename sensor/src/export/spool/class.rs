//! What is let go first when there is no room.

use crate::export::Entry;

/// What a batch is worth when there is no room for all: the lowest is let go first. Each batch is of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Events of files, networks and system calls.
    Bulk = 0,
    /// Events of processes, credentials, logins and the kernel.
    Critical = 1,
    /// Conclusions, what was done about them, and what is known to be missing.
    Important = 2,
}

impl Class {
    /// The lowest first.
    pub const ALL: [Self; 3] = [Self::Bulk, Self::Critical, Self::Important];

    /// The class of an entry: of an event, that of the ring it travelled on.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Event(event) => match event.body.signal().class() {
                sensor_common::Class::Bulk => Self::Bulk,
                sensor_common::Class::Critical => Self::Critical,
            },
            Entry::Signal(_) | Entry::Incident(_) | Entry::Outcome(_) | Entry::Loss(_) => Self::Important,
        }
    }

    /// The class that a row of the database says; what says nothing sensible is kept the longest.
    pub(super) fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Bulk,
            1 => Self::Critical,
            _ => Self::Important,
        }
    }
}
