//! The spool's database.
//!
//! ```text
//! spool       one row: which machine it is of, and whether its agent ended well
//! numberings  a row for each run of an agent of which something waits: epoch, what is acknowledged, what has sequences
//! batches     position → class, entries, CRC-32 of the body, body (Zstandard)
//! losses      what was lost and is still to be said
//! ```
//!
//! All that belongs together is in one transaction: batches, what of them has sequences, what of those is gone, and what was lost instead.

use std::{collections::VecDeque, path::Path, time::Duration};

use prost::bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use sensor_storage::{Plan, StorageError};

use super::{
    Class, Package,
    index::{Index, Numbering, Slot},
    losses::{Losses, Tally},
};
use crate::time::WallTime;

/// A commit returns when it is on disk: what is sent must be there whatever happens. Several batches share one.
const PLAN: Plan = Plan {
    cache_kib: 512,
    busy: Duration::from_secs(2),
    exclusive: true,
    shrinks: true,
    probe,
    ..Plan::new(&[TABLES])
};

const TABLES: &str = "
CREATE TABLE spool (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    machine TEXT NOT NULL,
    ended INTEGER NOT NULL
) STRICT;
CREATE TABLE numberings (
    first INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    bound INTEGER NOT NULL
) STRICT;
CREATE TABLE batches (
    position INTEGER PRIMARY KEY,
    class INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE losses (
    signal TEXT NOT NULL,
    reason TEXT NOT NULL,
    count INTEGER NOT NULL,
    from_ns INTEGER NOT NULL,
    to_ns INTEGER NOT NULL,
    PRIMARY KEY (signal, reason)
) STRICT, WITHOUT ROWID;
";

/// The log is not kept longer than this, in bytes.
const LOG_BYTES: i64 = 8 << 20;

/// Pages that nothing is in any more, at which half of them are given back to the file system.
const FREE_PAGES: i64 = 4_096;

/// Bytes that are left free on the file system: for others, and for the log, without which nothing could be deleted.
pub(super) const LEFT_FREE: u64 = 16 << 20;

/// The database.
#[derive(Debug)]
pub(super) struct Disk {
    connection: Connection,
}

/// What was in the database.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The machine that wrote it; "" for none.
    pub(super) machine: String,
    /// Its agent ended well, or there was none.
    pub(super) ended: bool,
    pub(super) index: Index,
    pub(super) numberings: VecDeque<Numbering>,
    pub(super) losses: Losses,
}

/// What is to become of the database.
pub(super) struct Changes<'a> {
    /// Positions of batches that are gone.
    pub(super) gone: &'a [u64],
    /// Batches that are new, or have another body.
    pub(super) put: &'a mut dyn Iterator<Item = (u64, &'a Package)>,
    pub(super) numberings: &'a VecDeque<Numbering>,
    /// What is still to be said, where that has changed.
    pub(super) losses: Option<&'a Losses>,
}

/// Why a batch is not given back.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error("a batch is not what was written")]
    Changed,
}

impl Disk {
    /// Opens the database, or makes it, with room for `limit` bytes. What was damaged was set aside under the name that comes with it.
    pub(super) fn open(path: &Path, limit: u64) -> Result<(Self, Option<String>), StorageError> {
        let opened = sensor_storage::open_or_renew(path, &PLAN)?;
        let disk = Self {
            connection: opened.connection,
        };
        disk.bound(limit).map_err(|cause| StorageError::Database {
            path: path.to_owned(),
            cause,
        })?;
        let aside = opened
            .aside
            .map(|(aside, why)| format!("{} ({why})", aside.display()));
        Ok((disk, aside))
    }

    /// A quarter more than may wait, for what pages waste.
    fn bound(&self, limit: u64) -> rusqlite::Result<()> {
        let page: i64 = self
            .connection
            .pragma_query_value(None, "page_size", |row| row.get(0))?;
        let bytes = limit.saturating_add(limit / 4).saturating_add(4 << 20);
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        let set = format!("PRAGMA max_page_count = {pages}");
        self.connection.query_row(&set, [], |_| Ok(()))?;
        let set = format!("PRAGMA journal_size_limit = {LOG_BYTES}");
        self.connection.query_row(&set, [], |_| Ok(()))
    }

    /// Reads all but bodies.
    pub(super) fn contents(&self) -> rusqlite::Result<Contents> {
        let about = "SELECT machine, ended FROM spool";
        let about = self
            .connection
            .query_row(about, [], |row| Ok((row.get(0)?, row.get(1)?)));
        let (machine, ended) = about.optional()?.unwrap_or((String::new(), true));
        let mut contents = Contents {
            machine,
            ended,
            ..Contents::default()
        };
        let mut rows = self
            .connection
            .prepare("SELECT position, class, entries, length(body) FROM batches")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let slot = Slot {
                class: Class::from_number(row.get(1)?),
                entries: row.get(2)?,
                length: row.get(3)?,
            };
            contents.index.insert(counted(row.get(0)?)?, slot);
        }
        let mut rows = self
            .connection
            .prepare("SELECT first, epoch, acknowledged, bound FROM numberings ORDER BY first")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (first, epoch) = (counted(row.get(0)?)?, row.get::<_, i64>(1)?.cast_unsigned());
            let (acknowledged, bound) = (counted(row.get(2)?)?, counted(row.get(3)?)?);
            contents.numberings.push_back(Numbering {
                first,
                epoch,
                acknowledged,
                bound: bound.max(acknowledged),
                changed: false,
            });
        }
        let mut rows = self
            .connection
            .prepare("SELECT signal, reason, count, from_ns, to_ns FROM losses")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let [count, from, to] = [2, 3, 4].map(|column| row.get::<_, i64>(column).map(i64::cast_unsigned));
            let kind = (row.get::<_, String>(0)?.into(), row.get::<_, String>(1)?.into());
            let (from, to) = (WallTime(from?), WallTime(to?));
            contents.losses.merge(
                kind,
                Tally {
                    count: count?,
                    from,
                    to,
                },
            );
        }
        Ok(contents)
    }

    /// Says whose it is from now on, and whether its agent ended well.
    pub(super) fn sign(&self, machine: &str, ended: bool) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO spool (id, machine, ended) VALUES (1, ?1, ?2)";
        self.connection.execute(sql, params![machine, ended])?;
        Ok(())
    }

    /// The body of the batch at `position`.
    pub(super) fn body(&self, position: u64) -> Result<Bytes, ReadError> {
        let sql = "SELECT crc, body FROM batches WHERE position = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let (crc, body): (u32, Vec<u8>) =
            statement.query_row([position.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if crc32fast::hash(&body) != crc {
            return Err(ReadError::Changed);
        }
        Ok(body.into())
    }

    /// Makes all of it durable at once, or none of it.
    pub(super) fn write(&mut self, changes: &mut Changes<'_>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        put(&transaction, changes)?;
        transaction.commit()?;
        if !changes.gone.is_empty() {
            self.give_back()?;
        }
        Ok(())
    }

    fn give_back(&self) -> rusqlite::Result<()> {
        let free: i64 = self
            .connection
            .pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free < FREE_PAGES {
            return Ok(());
        }
        let mut vacuum = self
            .connection
            .prepare(&format!("PRAGMA incremental_vacuum({})", free / 2))?;
        // A page for each step.
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        Ok(())
    }

    /// Says that the agent ended well, and leaves one file.
    pub(super) fn end(self, machine: &str) -> rusqlite::Result<()> {
        self.sign(machine, true)?;
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

/// A number that only grows, from 0: no agent comes near the end of them, so what does is damage.
fn counted(number: i64) -> rusqlite::Result<u64> {
    u64::try_from(number)
        .ok()
        .filter(|number| *number < 1 << 60)
        .ok_or_else(|| {
            rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                Some(format!("{number} is no position and no sequence")),
            )
        })
}

/// Whether there is room on the file system of `path` for more. What cannot be asked is tried.
pub(super) fn has_room(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    rustix::fs::statvfs(folder).map_or(true, |about| {
        about.f_bavail.saturating_mul(about.f_frsize) >= LEFT_FREE
    })
}

/// Removes a database of which nothing waits any more, where its own bytes are all that is left to free.
pub(super) fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

fn put(transaction: &Transaction<'_>, changes: &mut Changes<'_>) -> rusqlite::Result<()> {
    let mut delete = transaction.prepare_cached("DELETE FROM batches WHERE position = ?1")?;
    for position in changes.gone {
        delete.execute([position.cast_signed()])?;
    }
    let sql =
        "INSERT OR REPLACE INTO batches (position, class, entries, crc, body) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = transaction.prepare_cached(sql)?;
    for (position, package) in &mut *changes.put {
        insert.execute(params![
            position.cast_signed(),
            package.class as i64,
            package.entries().cast_signed(),
            crc32fast::hash(&package.body),
            &package.body[..],
        ])?;
    }
    put_numberings(transaction, changes.numberings)?;
    if let Some(losses) = changes.losses {
        put_losses(transaction, losses)?;
    }
    Ok(())
}

fn put_numberings(transaction: &Transaction<'_>, numberings: &VecDeque<Numbering>) -> rusqlite::Result<()> {
    let first = numberings.front().map_or(0, |numbering| numbering.first);
    let mut delete = transaction.prepare_cached("DELETE FROM numberings WHERE first < ?1")?;
    delete.execute([first.cast_signed()])?;
    let sql = "INSERT OR REPLACE INTO numberings (first, epoch, acknowledged, bound) VALUES (?1, ?2, ?3, ?4)";
    let mut insert = transaction.prepare_cached(sql)?;
    for numbering in numberings.iter().filter(|numbering| numbering.changed) {
        let Numbering {
            first,
            epoch,
            acknowledged,
            bound,
            ..
        } = numbering;
        insert.execute([first, epoch, acknowledged, bound].map(|number| number.cast_signed()))?;
    }
    Ok(())
}

fn put_losses(transaction: &Transaction<'_>, losses: &Losses) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM losses", [])?;
    let sql = "INSERT INTO losses (signal, reason, count, from_ns, to_ns) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = transaction.prepare_cached(sql)?;
    for ((signal, reason), tally) in losses.iter() {
        let [count, from, to] = [tally.count, tally.from.0, tally.to.0].map(u64::cast_signed);
        insert.execute(params![signal, reason, count, from, to])?;
    }
    Ok(())
}

/// Looks at what every later write needs.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("SELECT count(*) FROM spool, numberings", [], |_| Ok(()))?;
    let last = "SELECT length(body) FROM batches ORDER BY position DESC LIMIT 1";
    connection.query_row(last, [], |_| Ok(())).optional()?;
    Ok(())
}
