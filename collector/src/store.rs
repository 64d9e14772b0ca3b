//! What the collector knows, on disk: one SQLite database in the data directory.
//!
//! Every entry has a position: 1 for the first that was ever stored, and no gaps. A batch has the position of its first entry.
//! The batches here are the *fresh* part of what was stored; older ones have become [`runs`](lake) of the lake. Each position is
//! in exactly one of three: taken by retention (below the floor), in a run, or in a batch, in this order. What moves between them
//! moves in one transaction.
//!
//! `collector.lock` keeps a second collector out. A database that is corrupt is set aside under a new name,
//! never deleted, and a new one is begun: hosts that are watched matter more than history that cannot be read.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sensor_proto::v1::{
    Approval, Batch, Entry, Host, HostIncident, Incident, ListApprovalsRequest, ListFleetIncidentsRequest,
    entry,
};
use sensor_storage::{Opened, Plan, StorageError, now};

use crate::{
    lake::{folder, found},
    session::{StreamId, TakenBatch},
};

mod approvals;
mod incidents;
mod lake;
mod reader;
mod tables;

pub use lake::{Change, LakeFile, Run};
pub use reader::{Extent, Reader, StoredBatch};

/// What the database is to be.
const PLAN: Plan = Plan {
    probe,
    ..Plan::new(&tables::MIGRATIONS)
};

/// Version of the schema, kept in SQLite's `user_version`.
pub const SCHEMA: i64 = PLAN.schema();

/// Place of an entry among all that were ever stored here, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The numbering of what the collector itself says of a host. An agent draws its own at random; one that drew this would be in nobody's way but its own.
const COLLECTOR_EPOCH: u64 = 0;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made or written.
    #[error("cannot use {} as data directory: {cause}; name another with --data, or mend its permissions", path.display())]
    Directory {
        /// The file or directory that it failed at.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Another collector has it.
    #[error("another collector uses {}; stop it, or name another directory with --data", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A newer collector wrote it.
    #[error("{} has schema {found}, this collector knows {SCHEMA}; use a newer collector, or another --data", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// SQLite failed.
    #[error("database {}: {cause}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
    /// SQLite has rolled back what was under way, because of what failed before.
    #[error("database {}: what was to be stored with something that failed is not stored either; the first error says why", path.display())]
    GivenUp {
        /// The database.
        path: PathBuf,
    },
    /// The lake cannot be looked at, and must not be taken for empty.
    #[error("cannot tell which files of the lake belong to it: {0}; nothing of it was changed")]
    Lake(String),
    /// A number was left out: what would be stored does not continue what is.
    #[error(
        "batch {sequence} does not continue the {stored} that are stored; another stream of this host wrote too"
    )]
    Gap {
        /// The number that came.
        sequence: u64,
        /// The highest number that is stored.
        stored: u64,
    },
}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::File { path, cause } => Self::Directory { path, cause },
            StorageError::Newer { path, found, .. } => Self::Newer { path, found },
            StorageError::Database { path, cause } => Self::Database { path, cause },
        }
    }
}

/// Reads what every later write needs, so that damage there shows now. Reading all would take too long.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row(
        "SELECT count(*) FROM hosts, streams WHERE host = hosts.id",
        [],
        |_| Ok(()),
    )?;
    let latest = connection.query_row(
        "SELECT length(body) FROM batches ORDER BY position DESC LIMIT 1",
        [],
        |_| Ok(()),
    );
    latest.optional().map(|_| ())
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is new, and its first entry has this position.
    New(Position),
    /// It was there already, as were all up to this sequence.
    Already(u64),
}

/// The database. Whoever has it is the only writer.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl Store {
    /// Opens the database in `directory`, which is made with mode 0700 where it is missing.
    ///
    /// # Errors
    /// If the directory cannot be used, another collector uses it, or the database is of a newer collector.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let lock = lock(directory)?;
        let path = directory.join("collector.db");
        let Opened { connection, aside } = sensor_storage::open_or_renew(&path, &PLAN)?;
        if let Some((aside, cause)) = aside {
            tracing::error!(
                "database {} is corrupt ({cause}): set aside as {}, a new one is begun",
                path.display(),
                aside.display()
            );
        }
        let mut store = Self {
            connection,
            path,
            _lock: lock,
        };
        store.find_runs(&folder(directory))?;
        Ok(store)
    }

    /// Lists files of the lake that this database cannot know of, because it is new, or older than they are.
    fn find_runs(&mut self, lake: &Path) -> Result<(), StoreError> {
        let path = self.path.clone();
        let failed = |cause| StoreError::Database {
            path: path.clone(),
            cause,
        };
        let next = self
            .connection
            .query_row("SELECT next FROM positions", [], |row| row.get::<_, i64>(0));
        let next = Position(next.map_err(failed)?.cast_unsigned());
        let runs = found::runs(lake, next).map_err(|error| StoreError::Lake(error.to_string()))?;
        if runs.is_empty() {
            return Ok(());
        }
        let entries: u64 = runs.iter().map(Run::entries).sum();
        tracing::warn!(
            "the database knew nothing of {} stretches of the lake with {entries} entries: it is new, or older than they are; they are listed again",
            runs.len()
        );
        let transaction = self.connection.transaction().map_err(failed)?;
        for run in &runs {
            lake::adopt(&transaction, run).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    /// Incidents, the latest first.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn incidents(&self, request: &ListFleetIncidentsRequest) -> Result<Vec<HostIncident>, StoreError> {
        incidents::list(&self.connection, request).map_err(|cause| StoreError::Database {
            path: self.path.clone(),
            cause,
        })
    }

    /// What waits for a person on hosts, the latest first.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn approvals(&self, request: &ListApprovalsRequest) -> Result<Vec<Approval>, StoreError> {
        approvals::list(&self.connection, request).map_err(|cause| StoreError::Database {
            path: self.path.clone(),
            cause,
        })
    }

    /// Runs `work` and makes all of it durable at once, or none of it.
    ///
    /// # Errors
    /// If SQLite fails: then nothing that `work` did is kept.
    pub fn commit<T>(&mut self, work: impl FnOnce(&Writing<'_>) -> T) -> Result<T, StoreError> {
        let path = &self.path;
        let failed = |cause| StoreError::Database {
            path: path.clone(),
            cause,
        };
        let transaction = self
            .connection
            // Taken for writing from the start: a reader that becomes a writer is not waited for by SQLite.
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let result = work(&Writing {
            transaction: &transaction,
            path,
        });
        transaction.commit().map_err(failed)?;
        Ok(result)
    }

    /// Every host that ever reported, by name; whether it is connected is for the caller to say.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn hosts(&self) -> Result<Vec<KnownHost>, StoreError> {
        hosts(&self.connection).map_err(|cause| StoreError::Database {
            path: self.path.clone(),
            cause,
        })
    }
}

/// A host that has reported.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownHost {
    /// What is on record of it.
    pub host: Host,
    /// Its agent has last ended in order.
    pub stopped: bool,
}

fn hosts(connection: &Connection) -> rusqlite::Result<Vec<KnownHost>> {
    let sql = "SELECT name, last_seen_ns, entries, agent_version, stopped FROM hosts ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let hosts = statement.query_map([], |row| {
        let host = Host {
            name: row.get(0)?,
            last_seen_ns: row.get::<_, i64>(1)?.cast_unsigned(),
            entries: row.get::<_, i64>(2)?.cast_unsigned(),
            agent_version: row.get(3)?,
            ..Host::default()
        };
        Ok(KnownHost {
            host,
            stopped: row.get(4)?,
        })
    })?;
    hosts.collect()
}

/// Work in progress on the database.
#[derive(Debug)]
pub struct Writing<'a> {
    transaction: &'a Transaction<'a>,
    path: &'a Path,
}

impl Writing<'_> {
    /// Notes that an agent began or resumed a numbering, and returns the highest sequence that is stored of it.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn greet(&self, stream: &StreamId, agent_version: &str) -> Result<u64, StoreError> {
        self.attempt(|transaction| {
            let host: i64 = transaction
                .prepare_cached(
                    "INSERT INTO hosts (name, agent_version, last_seen_ns, entries) VALUES (?1, ?2, ?3, 0)
                     ON CONFLICT (name) DO UPDATE SET agent_version = ?2, last_seen_ns = ?3, stopped = 0 RETURNING id",
                )?
                .query_row(params![stream.host, agent_version, now()], |row| row.get(0))?;
            let stored: i64 = transaction
                .prepare_cached(
                    "INSERT INTO streams (host, epoch, stored) VALUES (?1, ?2, 0)
                     ON CONFLICT (host, epoch) DO UPDATE SET stored = stored RETURNING stored",
                )?
                .query_row(params![host, stream.epoch.cast_signed()], |row| row.get(0))?;
            Ok(stored.cast_unsigned())
        })
    }

    /// Writes what is there already, so that a commit has something to make durable.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn probe(&self) -> Result<(), StoreError> {
        self.attempt(|transaction| {
            transaction.execute("UPDATE positions SET next = next", [])?;
            Ok(())
        })
    }

    /// Notes that the agent of a host has ended in order.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn stopped(&self, host: &str) -> Result<(), StoreError> {
        self.attempt(|transaction| {
            transaction
                .prepare_cached("UPDATE hosts SET stopped = 1 WHERE name = ?1")?
                .execute([host])?;
            Ok(())
        })
    }

    /// Stores an incident that the collector found about a host, as if the host had told it in a numbering of its own, and returns what was stored.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn tell(&self, host: &str, incident: Incident) -> Result<(Position, Batch), StoreError> {
        let stream = StreamId {
            host: host.to_owned(),
            epoch: COLLECTOR_EPOCH,
        };
        self.attempt(|transaction| {
            let (id, host, stored): (i64, i64, i64) = transaction
                .prepare_cached(
                    "INSERT INTO streams (host, epoch, stored) SELECT id, ?2, 0 FROM hosts WHERE name = ?1
                     ON CONFLICT (host, epoch) DO UPDATE SET stored = stored RETURNING id, host, stored",
                )?
                .query_row(params![host, stream.epoch.cast_signed()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?;
            incidents::put(transaction, &stream.host, &incident)?;
            let entry = Entry {
                host: String::new(),
                body: Some(entry::Body::Incident(incident)),
            };
            let batch = Batch {
                sequence: stored.cast_unsigned() + 1,
                entries: vec![entry],
                processes: Vec::new(),
            };
            let taken = TakenBatch {
                encoded: batch.encode_to_vec().into(),
                batch,
            };
            let position = insert(transaction, id, host, &taken)?;
            Ok((position, taken.batch))
        })
    }

    /// Stores a batch of a stream that was greeted.
    ///
    /// # Errors
    /// If the batch does not continue what is stored, or SQLite fails.
    pub fn store(&self, stream: &StreamId, taken: &TakenBatch) -> Result<Stored, StoreError> {
        let batch = &taken.batch;
        self.attempt(|transaction| {
            let (id, host, stored) = standing(transaction, stream)?.unwrap_or_default();
            if batch.sequence <= stored {
                return Ok(Ok(Stored::Already(stored)));
            }
            if batch.sequence != stored + 1 || id == 0 {
                let sequence = batch.sequence;
                return Ok(Err(StoreError::Gap { sequence, stored }));
            }
            incidents::note(transaction, &stream.host, &batch.entries)?;
            approvals::note(transaction, &stream.host, &batch.entries)?;
            Ok(Ok(Stored::New(insert(transaction, id, host, taken)?)))
        })?
    }

    /// Does all of `work` or nothing of it; what others did before, in the same commit, stays. Nothing is done any more once SQLite has
    /// given up all of it by itself, as it may on a full disk: what came then would be durable statement by statement.
    fn attempt<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let transaction = self.transaction;
        let failed = |cause| StoreError::Database {
            path: self.path.to_owned(),
            cause,
        };
        if transaction.is_autocommit() {
            let path = self.path.to_owned();
            return Err(StoreError::GivenUp { path });
        }
        let run = |sql| transaction.prepare_cached(sql)?.execute([]).map(drop);
        run("SAVEPOINT attempt").map_err(failed)?;
        let done = work(transaction);
        let ended = match done {
            Ok(_) => run("RELEASE attempt"),
            Err(_) if transaction.is_autocommit() => Ok(()),
            Err(_) => run("ROLLBACK TO attempt").and_then(|()| run("RELEASE attempt")),
        };
        done.and_then(|done| ended.map(|()| done)).map_err(failed)
    }
}

/// The ids of a stream and of its host, and the highest sequence that is stored of it.
fn standing(transaction: &Transaction<'_>, stream: &StreamId) -> rusqlite::Result<Option<(i64, i64, u64)>> {
    transaction
        .prepare_cached(
            "SELECT streams.id, host, stored FROM streams JOIN hosts ON hosts.id = host
             WHERE name = ?1 AND epoch = ?2",
        )?
        .query_row(params![stream.host, stream.epoch.cast_signed()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.cast_unsigned()))
        })
        .optional()
}

fn insert(
    transaction: &Transaction<'_>,
    stream: i64,
    host: i64,
    TakenBatch { batch, encoded }: &TakenBatch,
) -> rusqlite::Result<Position> {
    let (sequence, entries, now) = (batch.sequence.cast_signed(), batch.entries.len() as i64, now());
    let position: i64 = transaction
        .prepare_cached("UPDATE positions SET next = next + ?1 RETURNING next - ?1")?
        .query_row([entries], |row| row.get(0))?;
    transaction
        .prepare_cached(
            "INSERT INTO batches (position, stream, sequence, received_ns, entries, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![position, stream, sequence, now, entries, &encoded[..]])?;
    transaction
        .prepare_cached("UPDATE streams SET stored = ?2 WHERE id = ?1")?
        .execute(params![stream, sequence])?;
    transaction
        .prepare_cached("UPDATE hosts SET entries = entries + ?2, last_seen_ns = ?3 WHERE id = ?1")?
        .execute(params![host, entries, now])?;
    Ok(Position(position.cast_unsigned()))
}

/// Most bytes of an answer that lists what hosts say: more than a message could not be told at all.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// As many rows as an answer can have.
fn as_far_as_it_goes<T: prost::Message>(
    rows: impl Iterator<Item = rusqlite::Result<T>>,
) -> rusqlite::Result<Vec<T>> {
    let mut bytes = 0;
    let fits = |row: &rusqlite::Result<T>| {
        bytes += row.as_ref().map_or(0, T::encoded_len);
        bytes <= ANSWER_BYTES_MAX
    };
    rows.take_while(fits).collect()
}

/// Makes a data directory where it is missing, and keeps others out for as long as what is returned is open.
pub(crate) fn lock(directory: &Path) -> Result<File, StoreError> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |cause| StoreError::Directory { path, cause }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(refused(directory))?;
    let path = directory.join("collector.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(refused(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path }),
        Err(TryLockError::Error(cause)) => Err(StoreError::Directory { path, cause }),
    }
}

#[cfg(test)]
mod tests;
