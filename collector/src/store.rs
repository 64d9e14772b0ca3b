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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use sensor_proto::v1::{Outcome, Result as Became};

    use super::*;

    fn stream(epoch: u64) -> StreamId {
        StreamId {
            host: "web1".into(),
            epoch,
        }
    }

    fn batch(sequence: u64) -> TakenBatch {
        let entry = Entry {
            host: "web1".into(),
            body: None,
        };
        let batch = Batch {
            sequence,
            entries: vec![entry; 2],
            processes: Vec::new(),
        };
        TakenBatch {
            encoded: batch.encode_to_vec().into(),
            batch,
        }
    }

    fn greet(store: &mut Store, epoch: u64) -> u64 {
        store
            .commit(|writing| writing.greet(&stream(epoch), "1"))
            .expect("commits")
            .expect("greets")
    }

    fn put(store: &mut Store, epoch: u64, sequence: u64) -> Result<Stored, StoreError> {
        store
            .commit(|writing| writing.store(&stream(epoch), &batch(sequence)))
            .expect("commits")
    }

    #[test]
    fn batches_are_kept_once_and_in_order_within_their_epoch() {
        let home = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(home.path()).expect("opens");
        assert_eq!((greet(&mut store, 1), greet(&mut store, u64::MAX)), (0, 0));
        let new = |position| Stored::New(Position(position));
        assert_eq!(put(&mut store, 1, 1).expect("stores"), new(1));
        assert_eq!(put(&mut store, 1, 2).expect("stores"), new(3));
        assert_eq!(put(&mut store, 1, 1).expect("knows it"), Stored::Already(2));
        assert!(matches!(
            put(&mut store, 1, 4),
            Err(StoreError::Gap {
                sequence: 4,
                stored: 2
            })
        ));
        assert_eq!(put(&mut store, u64::MAX, 1).expect("stores"), new(5));
        drop(store);

        let mut store = Store::open(home.path()).expect("opens again");
        assert_eq!((greet(&mut store, 1), greet(&mut store, u64::MAX)), (2, 1));
        let hosts = store.hosts().expect("lists");
        assert_eq!(
            (hosts.len(), hosts[0].host.name.as_str(), hosts[0].host.entries),
            (1, "web1", 6)
        );
    }

    /// Has SQLite fail as `how` says when a certain batch is stored, which is the last thing but two of its job.
    fn fails(store: &Store, sequence: u64, how: &str) {
        let trigger = format!(
            "DROP TRIGGER IF EXISTS temp.failure;
             CREATE TEMP TRIGGER failure AFTER INSERT ON main.batches WHEN NEW.sequence = {sequence}
             BEGIN SELECT RAISE({how}, 'as wanted'); END"
        );
        store.connection.execute_batch(&trigger).expect("makes it");
    }

    /// Three streams' next batches in one commit.
    fn together(
        store: &mut Store,
        sequences: [u64; 3],
    ) -> Result<[Result<Stored, StoreError>; 3], StoreError> {
        store.commit(|writing| {
            [0, 1, 2].map(|at| writing.store(&stream(at as u64 + 1), &batch(sequences[at])))
        })
    }

    #[test]
    fn a_job_that_fails_leaves_nothing_behind_and_takes_nobody_with_it() {
        let home = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(home.path()).expect("opens");
        for epoch in 1..=3 {
            greet(&mut store, epoch);
            put(&mut store, epoch, 1).expect("stores");
        }
        for _ in 0..6 {
            let next = greet(&mut store, 2) + 1;
            put(&mut store, 2, next).expect("stores");
        }
        fails(&store, 8, "FAIL");
        let [one, two, three] = together(&mut store, [2, 8, 2]).expect("commits");
        assert_eq!(one.expect("stores"), Stored::New(Position(19)));
        assert!(two.expect_err("fails").to_string().contains("as wanted"));
        assert_eq!(
            three.expect("stores"),
            Stored::New(Position(21)),
            "there is no gap"
        );
        assert_eq!(
            (greet(&mut store, 1), greet(&mut store, 2), greet(&mut store, 3)),
            (2, 7, 2)
        );
    }

    #[test]
    fn what_sqlite_gives_up_is_given_up_whole() {
        let home = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(home.path()).expect("opens");
        for epoch in 1..=3 {
            greet(&mut store, epoch);
        }
        fails(&store, 1, "ROLLBACK");
        assert!(together(&mut store, [1, 1, 1]).is_err());
        let stored = [1, 2, 3].map(|epoch| greet(&mut store, epoch));
        assert_eq!(stored, [0; 3]);
        fails(&store, 9, "ROLLBACK");
        for epoch in 1..=3 {
            put(&mut store, epoch, 1).expect("stores");
        }
    }

    #[test]
    fn it_is_for_its_owner_only() {
        let home = tempfile::tempdir().expect("a directory");
        let data = home.path().join("new/data");
        let _store = Store::open(&data).expect("opens");
        let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join("collector.db")), 0o600);
        assert_eq!(mode(&data.join("collector.db-wal")), 0o600);
    }

    #[test]
    fn no_agent_speaks_for_the_collector_or_from_the_future() {
        let home = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(home.path()).expect("opens");
        greet(&mut store, 1);
        let incident = |id: &str, updated_ns| Entry {
            host: String::new(),
            body: Some(entry::Body::Incident(Incident {
                id: id.to_owned(),
                updated_ns,
                ..Incident::default()
            })),
        };
        let batch = Batch {
            sequence: 1,
            entries: vec![incident("collector-1", 1), incident("a", u64::MAX)],
            processes: Vec::new(),
        };
        let taken = TakenBatch {
            encoded: batch.encode_to_vec().into(),
            batch,
        };
        let stored = store.commit(|writing| writing.store(&stream(1), &taken));
        stored.expect("commits").expect("stores");
        let told = store.commit(|writing| {
            writing.tell(
                &stream(1).host,
                Incident {
                    id: "collector-2".to_owned(),
                    updated_ns: 2,
                    ..Incident::default()
                },
            )
        });
        told.expect("commits").expect("is told");
        let listed = store
            .incidents(&ListFleetIncidentsRequest::default())
            .expect("lists");
        let ids: Vec<String> = listed
            .into_iter()
            .filter_map(|one| Some(one.incident?.id))
            .collect();
        assert_eq!(ids, ["a", "collector-2"]);
        let latest: i64 = store
            .connection
            .query_row("SELECT max(updated_ns) FROM incidents", [], |row| row.get(0))
            .expect("is there");
        assert!(latest <= now(), "{latest}");
    }

    /// What `host` says of a number; `asks` or has come to an end.
    fn says(store: &mut Store, host: &str, sequence: u64, number: u64, asks: bool, length: usize) {
        let stream = StreamId {
            host: host.to_owned(),
            epoch: 1,
        };
        let outcome = Outcome {
            result: if asks { Became::Asked } else { Became::Denied }.into(),
            detail: "x".repeat(length),
            time_ns: sequence,
            number,
            ..Outcome::default()
        };
        let batch = Batch {
            sequence,
            entries: vec![Entry {
                host: String::new(),
                body: Some(entry::Body::Outcome(outcome)),
            }],
            processes: Vec::new(),
        };
        let taken = TakenBatch {
            encoded: batch.encode_to_vec().into(),
            batch,
        };
        let stored = store.commit(|writing| {
            writing.greet(&stream, "1")?;
            writing.store(&stream, &taken)
        });
        stored.expect("commits").expect("stores");
    }

    fn asked(store: &Store) -> Vec<(String, u64)> {
        let listed = store.approvals(&ListApprovalsRequest::default()).expect("lists");
        let number = |one: Approval| Some((one.host, one.asked?.number));
        listed.into_iter().filter_map(number).collect()
    }

    #[test]
    fn who_asks_under_a_lower_number_has_begun_anew() {
        let home = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(home.path()).expect("opens");
        for (sequence, number, asks) in [(1, 1, true), (2, 2, true), (3, 3, true), (4, 2, false)] {
            says(&mut store, "web1", sequence, number, asks, 1);
        }
        says(&mut store, "web2", 1, 7, true, 1);
        let web = |host: &str, number| (host.to_owned(), number);
        assert_eq!(asked(&store), [web("web1", 3), web("web2", 7), web("web1", 1)]);
        says(&mut store, "web1", 5, 1, true, 1);
        assert_eq!(asked(&store), [web("web1", 1), web("web2", 7)]);
    }

    #[test]
    fn what_a_host_asks_for_is_bounded_and_hides_nothing_of_others() {
        let home = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(home.path()).expect("opens");
        says(&mut store, "web1", 1, 1, true, 1);
        for number in 1..=300 {
            says(&mut store, "web2", number, number, true, 16_000);
        }
        says(&mut store, "web2", 301, 301, true, 17_000);
        let listed = store.approvals(&ListApprovalsRequest::default()).expect("lists");
        let bytes: usize = listed.iter().map(Approval::encoded_len).sum();
        assert!(bytes <= ANSWER_BYTES_MAX && listed.len() < 300, "{bytes}");
        let details: Vec<&str> = listed
            .iter()
            .filter_map(|one| Some(one.asked.as_ref()?.detail.as_str()))
            .collect();
        assert_eq!(
            (details[0], details[details.len() - 1]),
            ("it is too long to be listed; the host itself tells it", "x")
        );
    }

    #[test]
    fn a_second_collector_is_kept_out() {
        let home = tempfile::tempdir().expect("a directory");
        let _first = Store::open(home.path()).expect("opens");
        assert!(matches!(Store::open(home.path()), Err(StoreError::Locked { .. })));
    }

    #[test]
    fn a_corrupt_database_is_set_aside_whole() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("collector.db");
        fs::write(&path, b"this is not a database, whatever its name says").expect("writes");
        let mut store = Store::open(home.path()).expect("begins anew");
        assert_eq!(greet(&mut store, 1), 0);
        let aside: Vec<_> = fs::read_dir(home.path())
            .expect("lists")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.to_string_lossy().contains(".corrupt-"))
            .collect();
        let contents = fs::read(&aside[0]).expect("is there");
        assert!(contents.starts_with(b"this is not"), "{aside:?}");
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        drop(Store::open(home.path()).expect("opens"));
        let connection = Connection::open(home.path().join("collector.db")).expect("opens");
        connection.pragma_update(None, "user_version", 9).expect("sets");
        drop(connection);
        assert!(matches!(
            Store::open(home.path()),
            Err(StoreError::Newer { found: 9, .. })
        ));
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("file");
        fs::write(&file, b"").expect("writes");
        let error = Store::open(&file).expect_err("is no directory").to_string();
        assert!(
            error.contains(&file.display().to_string()) && error.contains("--data"),
            "{error}"
        );
    }
}
