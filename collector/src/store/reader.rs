//! Reading what is stored, beside the writer and without waiting for it: SQLite's snapshots in WAL mode.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{KnownHost, PLAN, Position, Run, StoreError, lake};
use crate::lake::Day;

/// A read-only connection.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

/// A batch as it was stored.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Position of its first entry.
    pub position: Position,
    /// The host that it is of.
    pub host: String,
    /// When it arrived, in nanoseconds since the Unix epoch.
    pub received_ns: i64,
    /// Entries in it.
    pub entries: u64,
    /// The encoded batch.
    pub body: Vec<u8>,
}

impl StoredBatch {
    /// The day on which it arrived.
    #[must_use]
    pub fn day(&self) -> Day {
        Day::of(self.received_ns)
    }

    /// Position after its last entry.
    #[must_use]
    pub fn past(&self) -> Position {
        Position(self.position.0 + self.entries)
    }
}

/// Where what is stored begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Everything before this position was taken by retention.
    pub floor: Position,
    /// Position that the next entry will have.
    pub next: Position,
}

impl Reader {
    /// Opens the database of the data directory that a [`Store`](super::Store) has open.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("collector.db");
        let open = || -> rusqlite::Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(PLAN.busy)?;
            Ok(connection)
        };
        match open() {
            Ok(connection) => Ok(Self { connection, path }),
            Err(cause) => Err(StoreError::Database { path, cause }),
        }
    }

    /// From here on everything is as it is now, whatever the writer does, until [`release`](Self::release) or the end of this
    /// reader. Changes pile up in the write-ahead log meanwhile, so it must not be for long.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn hold(&self) -> Result<(), StoreError> {
        self.attempt(|connection| {
            connection.execute_batch("BEGIN")?;
            // The snapshot is taken by the first statement that reads.
            connection.query_row("SELECT next FROM positions", [], |_| Ok(()))
        })
    }

    /// Lets go of what [`hold`](Self::hold) held.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn release(&self) -> Result<(), StoreError> {
        self.attempt(|connection| connection.execute_batch("ROLLBACK"))
    }

    /// All runs of the lake, the oldest first.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn runs(&self) -> Result<Vec<Run>, StoreError> {
        self.attempt(lake::runs)
    }

    /// Where what is stored begins and ends.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn extent(&self) -> Result<Extent, StoreError> {
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached("SELECT floor, next FROM positions")?;
            statement.query_row([], |row| {
                Ok(Extent {
                    floor: Position(row.get::<_, i64>(0)?.cast_unsigned()),
                    next: Position(row.get::<_, i64>(1)?.cast_unsigned()),
                })
            })
        })
    }

    /// Every host that ever reported, by name.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn hosts(&self) -> Result<Vec<KnownHost>, StoreError> {
        self.attempt(super::hosts)
    }

    /// How many fresh entries there are, and when the first of them arrived.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn backlog(&self) -> Result<Option<(u64, i64)>, StoreError> {
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT (SELECT next FROM positions) - position, received_ns FROM batches ORDER BY position LIMIT 1",
            )?;
            let mut rows = statement.query([])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            Ok(Some((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)))
        })
    }

    /// Hands the fresh batches that hold entries at or after `from` to `take`, in order, until it wants no more.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn batches(
        &self,
        from: Position,
        mut take: impl FnMut(StoredBatch) -> std::ops::ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT position, name, received_ns, batches.entries, body
                 FROM batches CROSS JOIN streams ON streams.id = stream CROSS JOIN hosts ON hosts.id = host
                 WHERE position >= coalesce((SELECT max(position) FROM batches WHERE position <= ?1), 0)
                 ORDER BY position",
            )?;
            let mut rows = statement.query([from.signed()])?;
            while let Some(row) = rows.next()? {
                let batch = StoredBatch {
                    position: Position(row.get::<_, i64>(0)?.cast_unsigned()),
                    host: row.get(1)?,
                    received_ns: row.get(2)?,
                    entries: row.get::<_, i64>(3)?.cast_unsigned(),
                    body: row.get(4)?,
                };
                if batch.past() > from && take(batch).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn attempt<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.connection).map_err(|cause| StoreError::Database {
            path: self.path.clone(),
            cause,
        })
    }
}
