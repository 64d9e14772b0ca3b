//! Which files the lake consists of. A file that is not listed here is not part of it.

use rusqlite::{Connection, Transaction, params};

use super::{Position, StoreError, Writing};
use crate::lake::{Class, Day};

/// Entries of one day that follow each other, in a file for each class that is among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Position of the first.
    pub first: Position,
    /// Position after the last.
    pub past: Position,
    /// Day on which they arrived.
    pub day: Day,
    /// How often it was put together from smaller ones.
    pub level: u32,
    /// Its files.
    pub files: Vec<LakeFile>,
}

/// A file of the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeFile {
    /// Of what its entries are.
    pub class: Class,
    /// Its path below the lake's folder.
    pub name: String,
    /// Entries in it.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
}

/// How the list of files changes.
#[derive(Clone, Debug)]
pub enum Change {
    /// Fresh batches have become a run; they go.
    Add(Run),
    /// Runs that follow each other have become one.
    Replace {
        /// Positions of the first entries of those that go.
        old: Vec<Position>,
        /// What they have become.
        new: Run,
    },
    /// Retention takes the oldest runs: all entries before this position.
    Take(Position),
    /// The file of this name cannot be read any more.
    Damaged(String),
}

impl Run {
    /// Entries in it.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.past.0 - self.first.0
    }

    /// Length of its files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Writing<'_> {
    /// Changes the list; false if what was to be taken off was not on it.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn change_lake(&self, change: &Change) -> Result<bool, StoreError> {
        self.attempt(|transaction| match change {
            Change::Add(run) => {
                transaction.execute(
                    "DELETE FROM batches WHERE position >= ?1 AND position < ?2",
                    [run.first.signed(), run.past.signed()],
                )?;
                insert(transaction, run)?;
                Ok(true)
            }
            Change::Replace { old, new } => {
                for first in old {
                    transaction.execute("DELETE FROM files WHERE run = ?1", [first.signed()])?;
                    transaction.execute("DELETE FROM runs WHERE first = ?1", [first.signed()])?;
                }
                insert(transaction, new)?;
                Ok(true)
            }
            Change::Take(floor) => {
                let floor = floor.signed();
                transaction.execute(
                    "DELETE FROM files WHERE run IN (SELECT first FROM runs WHERE past <= ?1)",
                    [floor],
                )?;
                transaction.execute("DELETE FROM runs WHERE past <= ?1", [floor])?;
                transaction.execute("UPDATE positions SET floor = max(floor, ?1)", [floor])?;
                Ok(true)
            }
            Change::Damaged(name) => {
                let taken = transaction.execute("DELETE FROM files WHERE name = ?1", [name])?;
                Ok(taken > 0)
            }
        })
    }
}

impl Position {
    /// As SQLite holds it. Positions count entries, and stay far from the end of an `i64`.
    pub(super) fn signed(self) -> i64 {
        self.0.cast_signed()
    }
}

/// Lists a run that was found. It takes the place of what is listed or fresh and lies within it.
pub(super) fn adopt(transaction: &Transaction<'_>, run: &Run) -> rusqlite::Result<()> {
    let stretch = [run.first.signed(), run.past.signed()];
    transaction.execute(
        "DELETE FROM files WHERE run IN (SELECT first FROM runs WHERE first >= ?1 AND past <= ?2)",
        stretch,
    )?;
    transaction.execute("DELETE FROM runs WHERE first >= ?1 AND past <= ?2", stretch)?;
    transaction.execute(
        "DELETE FROM batches WHERE position >= ?1 AND position < ?2",
        stretch,
    )?;
    transaction.execute("UPDATE positions SET next = max(next, ?1)", [run.past.signed()])?;
    insert(transaction, run)
}

fn insert(transaction: &Transaction<'_>, run: &Run) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO runs (first, past, day, level) VALUES (?1, ?2, ?3, ?4)",
        params![run.first.signed(), run.past.signed(), run.day.0, run.level],
    )?;
    for file in &run.files {
        transaction.execute(
            "INSERT INTO files (run, class, name, rows, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                run.first.signed(),
                file.class.name(),
                file.name,
                file.rows.cast_signed(),
                file.bytes.cast_signed()
            ],
        )?;
    }
    Ok(())
}

/// All runs, the oldest first.
pub(super) fn runs(connection: &Connection) -> rusqlite::Result<Vec<Run>> {
    let mut statement = connection.prepare_cached(
        "SELECT first, past, day, level, class, name, rows, bytes
         FROM runs LEFT JOIN files ON run = first ORDER BY first, class",
    )?;
    let mut rows = statement.query([])?;
    let mut runs: Vec<Run> = Vec::new();
    while let Some(row) = rows.next()? {
        let first = Position(row.get::<_, i64>(0)?.cast_unsigned());
        if runs.last().is_none_or(|run| run.first != first) {
            runs.push(Run {
                first,
                past: Position(row.get::<_, i64>(1)?.cast_unsigned()),
                day: Day(row.get(2)?),
                level: row.get(3)?,
                files: Vec::new(),
            });
        }
        let class: Option<String> = row.get(4)?;
        if let (Some(run), Some(class)) = (runs.last_mut(), class) {
            run.files.push(LakeFile {
                class: Class::named(&class).unwrap_or(Class::Other),
                name: row.get(5)?,
                rows: row.get::<_, i64>(6)?.cast_unsigned(),
                bytes: row.get::<_, i64>(7)?.cast_unsigned(),
            });
        }
    }
    Ok(runs)
}
