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

/// What a database is to be. `Plan { schema, tables, ..Plan::default() }` is one that others may read while it is written.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Version of the schema, in SQLite's `user_version`; above 0.
    pub schema: i64,
    /// What makes the tables of a new one.
    pub tables: &'static str,
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

impl Default for Plan {
    fn default() -> Self {
        Self {
            schema: 1,
            tables: "",
            durability: Durability::Full,
            cache_kib: 2_048,
            busy: Duration::from_secs(5),
            exclusive: false,
            shrinks: false,
            probe: |_| Ok(()),
        }
    }
}
