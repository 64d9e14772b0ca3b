//! What a database is to be.

use std::time::Duration;

use rusqlite::Connection;

/// When a commit returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk.
    Full,
    /// Before: what was committed last may be lost with the host's power, and nothing else.
    Normal,
}

impl Durability {
    pub(crate) fn pragma(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

/// What a database is to be. [`Plan::new`] is one that others may read while it is written.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What makes each version of the schema of the one before; the first makes the tables of a new one.
    pub steps: &'static [&'static str],
    /// When a commit returns.
    pub durability: Durability,
    /// Pages that are held in memory, in KiB.
    pub cache_kib: i64,
    /// How long to wait for somebody else who reads or backs it up.
    pub busy: Duration,
    /// Whether nobody else may open it as long as it is open.
    pub exclusive: bool,
    /// Whether pages that are not needed any more can be given back to the file system by `PRAGMA incremental_vacuum`.
    pub shrinks: bool,
    /// Reads what every later write needs, so that damage there shows at the start.
    pub probe: fn(&Connection) -> rusqlite::Result<()>,
}

impl Plan {
    /// One that is made by these steps; a commit of it is on disk.
    #[must_use]
    pub const fn new(steps: &'static [&'static str]) -> Self {
        Self {
            steps,
            durability: Durability::Full,
            cache_kib: 2_048,
            busy: Duration::from_secs(5),
            exclusive: false,
            shrinks: false,
            probe: |_| Ok(()),
        }
    }

    /// Version of the schema that the steps lead to, kept in SQLite's `user_version`.
    #[must_use]
    pub const fn schema(&self) -> i64 {
        self.steps.len() as i64
    }
}
