//! What was asked, so that it is done once: `remote.db` in the directory for state.
//!
//! A row is there, on disk, before what it is about is begun, and its answer before it is sent. Rows are kept [`KEPT`] past their time,
//! at most [`ROWS`] of them. Bundles that are yet to be sent are beside them.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use sensor_proto::v1::{CommandAnswer, OfferBundleRequest};
use sensor_storage::{Plan, StorageError};

use crate::time::WallTime;

/// How long a row is kept past its time: the longest that a collector asks again.
const KEPT: Duration = Duration::from_secs(8 * 86_400);

/// Most rows.
const ROWS: i64 = 20_000;

const PLAN: Plan = Plan::new(&[TABLES]);

const TABLES: &str = "
CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    expires_ns INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    begun_ns INTEGER NOT NULL,
    answer BLOB
) STRICT;
CREATE TABLE bundles (
    sha256 TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    offer BLOB NOT NULL
) STRICT;
";

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what happened")]
pub enum JournalError {
    #[error(
        "nothing that is asked by the collector is done, since it could not be done only once: {0}; remove remote.db in host.state if it is damaged"
    )]
    Database(#[from] rusqlite::Error),
    #[error(
        "nothing that is asked by the collector is done, since it could not be done only once: {0}; set host.state to where it can be kept"
    )]
    File(StorageError),
}

impl From<StorageError> for JournalError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Database { cause, .. } => Self::Database(cause),
            error => Self::File(error),
        }
    }
}

/// What is known of an id.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// Nothing: it is begun now.
    New,
    /// It was begun, and has no answer.
    Begun,
    /// It was done.
    Answered(Box<CommandAnswer>),
}

/// A bundle that is to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// Which.
    pub offer: OfferBundleRequest,
    /// Where it lies.
    pub path: String,
}

/// The journal. Its methods wait for the disk.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Mutex<Connection>>);

impl Journal {
    /// In this directory, which is made with mode 0700 where it is missing.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn open(state: &Path) -> Result<Self, JournalError> {
        let connection = sensor_storage::open(&state.join("remote.db"), &PLAN)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Notes that what has this id is begun, unless it is known.
    ///
    /// # Errors
    /// If the database fails: then it must not be begun.
    pub fn begin(&self, id: &str, expires_ns: u64, who: &str, what: &str) -> Result<Known, JournalError> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction()?;
        let known = transaction.query_row("SELECT answer FROM commands WHERE id = ?1", [id], |row| {
            row.get::<_, Option<Vec<u8>>>(0)
        });
        if let Some(answer) = known.optional()? {
            let answer = answer.and_then(|bytes| CommandAnswer::decode(&*bytes).ok());
            return Ok(answer.map_or(Known::Begun, |answer| Known::Answered(Box::new(answer))));
        }
        let now = WallTime::now().0.cast_signed();
        transaction.execute(
            "INSERT INTO commands (id, expires_ns, who, what, begun_ns) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, expires_ns.cast_signed(), who, what, now],
        )?;
        let old = now - KEPT.as_nanos() as i64;
        transaction.execute(
            "DELETE FROM commands WHERE expires_ns < ?1 OR rowid <= (SELECT max(rowid) FROM commands) - ?2",
            params![old, ROWS],
        )?;
        transaction.commit()?;
        Ok(Known::New)
    }

    /// Notes the answer.
    ///
    /// # Errors
    /// If the database fails.
    pub fn finish(&self, answer: &CommandAnswer) -> Result<(), JournalError> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sql = "UPDATE commands SET answer = ?2 WHERE id = ?1";
        connection.execute(sql, params![answer.id, answer.encode_to_vec()])?;
        Ok(())
    }

    /// Notes a bundle that is to be sent.
    ///
    /// # Errors
    /// If the database fails.
    pub fn post(&self, parcel: &Parcel) -> Result<(), JournalError> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sql = "INSERT INTO bundles (sha256, path, offer) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        connection.execute(
            sql,
            params![parcel.offer.sha256, parcel.path, parcel.offer.encode_to_vec()],
        )?;
        Ok(())
    }

    /// Bundles that are to be sent, the oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub fn parcels(&self) -> Result<Vec<Parcel>, JournalError> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare("SELECT path, offer FROM bundles ORDER BY rowid LIMIT 64")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        let mut parcels = Vec::new();
        for row in rows {
            let (path, offer) = row?;
            let offer = OfferBundleRequest::decode(&*offer).unwrap_or_default();
            parcels.push(Parcel { offer, path });
        }
        Ok(parcels)
    }

    /// It was sent, or never can be.
    ///
    /// # Errors
    /// If the database fails.
    pub fn posted(&self, sha256: &str) -> Result<(), JournalError> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection.execute("DELETE FROM bundles WHERE sha256 = ?1", [sha256])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sensor_proto::v1::command_answer::Answer;

    use super::*;

    fn answer(id: &str) -> CommandAnswer {
        CommandAnswer {
            id: id.into(),
            answer: Some(Answer::Failed("it is gone".into())),
            time_ns: 7,
            bundle: String::new(),
        }
    }

    #[test]
    fn what_was_done_is_known_to_the_next_agent() {
        let home = tempfile::tempdir().unwrap();
        let later = WallTime::now().0 + 1_000_000_000_000;
        let journal = Journal::open(home.path()).unwrap();
        assert_eq!(
            journal.begin("a", later, "responder alice", "kill").unwrap(),
            Known::New
        );
        assert_eq!(
            journal.begin("a", later, "responder alice", "kill").unwrap(),
            Known::Begun
        );
        journal.finish(&answer("a")).unwrap();
        journal.begin("b", later, "responder alice", "kill").unwrap();
        drop(journal);
        let journal = Journal::open(home.path()).unwrap();
        assert_eq!(
            journal.begin("a", later, "x", "kill").unwrap(),
            Known::Answered(Box::new(answer("a")))
        );
        assert_eq!(journal.begin("b", later, "x", "kill").unwrap(), Known::Begun);
    }

    #[test]
    fn bundles_wait_until_they_were_sent() {
        let home = tempfile::tempdir().unwrap();
        let journal = Journal::open(home.path()).unwrap();
        let parcel = |sha256: &str| Parcel {
            offer: OfferBundleRequest {
                sha256: sha256.into(),
                name: "x".into(),
                size: 1,
                command: "a".into(),
            },
            path: "/x".into(),
        };
        journal.post(&parcel("1")).unwrap();
        journal.post(&parcel("2")).unwrap();
        journal.post(&parcel("1")).unwrap();
        journal.posted("1").unwrap();
        assert_eq!(
            Journal::open(home.path()).unwrap().parcels().unwrap(),
            [parcel("2")]
        );
    }
}
