//! `trust.db`: what must be known of who may come, and what is asked of hosts. Apart from events: it is small, and must not wait for
//! them nor be lost with them. A commit is on disk (WAL, `synchronous = FULL`); one writer at a time.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use sensor_storage::{Plan, StorageError};
pub use sensor_storage::{nanoseconds, now};

const PLAN: Plan = Plan {
    probe: |connection| {
        connection.query_row("SELECT count(*) FROM revoked, certificates, tokens", [], |_| {
            Ok(())
        })
    },
    ..Plan::new(&[TABLES])
};

const TABLES: &str = "
CREATE TABLE tokens (
    digest BLOB PRIMARY KEY,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    expires_ns INTEGER NOT NULL,
    used_ns INTEGER,
    used_from TEXT
) STRICT;
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    ends_ns INTEGER NOT NULL,
    revoked_ns INTEGER
) STRICT;
CREATE INDEX certificates_of ON certificates (role, name);
CREATE TABLE revoked (
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    since_ns INTEGER NOT NULL,
    PRIMARY KEY (role, name)
) STRICT;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    time_ns INTEGER NOT NULL,
    what TEXT NOT NULL,
    who TEXT NOT NULL,
    about TEXT NOT NULL,
    detail TEXT NOT NULL,
    digest BLOB NOT NULL
) STRICT;
CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    body BLOB NOT NULL,
    asked_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    sent_ns INTEGER,
    ended_ns INTEGER,
    answer BLOB
) STRICT;
CREATE INDEX commands_of ON commands (host, ended_ns);
CREATE TABLE bundles (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    command TEXT NOT NULL,
    received INTEGER NOT NULL,
    ended_ns INTEGER
) STRICT;
";

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what happened")]
pub enum DatabaseError {
    #[error("database {}: {cause}; who may come cannot be told without it: put a copy of it back, or move it away to begin anew", path.display())]
    Open { path: PathBuf, cause: rusqlite::Error },
    #[error(transparent)]
    Unusable(StorageError),
    #[error("the database of who may come failed: {0}")]
    Failed(#[from] rusqlite::Error),
    #[error("the collector is stopping")]
    Stopping,
}

impl From<StorageError> for DatabaseError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Database { path, cause } => Self::Open { path, cause },
            error => Self::Unusable(error),
        }
    }
}

/// The database, shared.
#[derive(Clone, Debug)]
pub struct Database(Arc<Mutex<Connection>>);

impl Database {
    /// Opens it in the data directory, or begins it. One that is damaged is not set aside: it says who is revoked.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn open(data: &Path) -> Result<Self, DatabaseError> {
        let connection = sensor_storage::open(&data.join("trust.db"), &PLAN)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Does `work` in a transaction, now and here: for the start.
    ///
    /// # Errors
    /// If `work` fails, or SQLite does: then nothing of it is kept.
    pub fn now<T, E: From<DatabaseError>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| E::from(DatabaseError::Failed(error));
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let result = work(&transaction)?;
        transaction.commit().map_err(failed)?;
        Ok(result)
    }

    /// The same on a thread that may wait.
    ///
    /// # Errors
    /// As for [`Self::now`].
    pub async fn run<T, E>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let database = self.clone();
        let done = tokio::task::spawn_blocking(move || database.now(work)).await;
        done.unwrap_or_else(|_| Err(E::from(DatabaseError::Stopping)))
    }
}

/// A time as people read it, in UTC.
#[must_use]
pub fn clock(time_ns: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
