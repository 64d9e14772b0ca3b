//! The database.

use std::path::{Path, PathBuf};

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use sensor_proto::v1;
use sensor_storage::{CORRUPT, Durability, Plan, StorageError, check, is_damaged, open_or_renew, set_aside};

use super::{page::Page, secrets};
use crate::{detect::Incident, time::WallTime};

/// What is written last may be lost with the host's power, and nothing else.
const PLAN: Plan = Plan {
    durability: Durability::Normal,
    cache_kib: 256,
    ..Plan::new(&[TABLES])
};

/// Incidents that are listed at once where nobody says.
const LISTED: u32 = 100;

const TABLES: &str = "
CREATE TABLE incidents (
    id TEXT PRIMARY KEY,
    updated_ns INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    open INTEGER NOT NULL,
    told BLOB NOT NULL,
    memory BLOB,
    version TEXT NOT NULL
) STRICT;
CREATE INDEX incidents_updated ON incidents (open, updated_ns);
";

/// Why the book cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No incident has this id.
    #[error("no incident has an id that begins with {0:?}; `sensor incidents list --all` shows them")]
    Unknown(String),
    /// More than one has.
    #[error("several incidents have an id that begins with {0:?}; give more of it")]
    Ambiguous(String),
    /// The thread that keeps it does not answer.
    #[error("the incident book does not answer: the agent is ending, or very busy; try again")]
    Busy,
    /// SQLite failed.
    #[error("the incident book {place} cannot be used: {cause}")]
    Database {
        /// Where it is.
        place: String,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
}

/// Which incidents somebody asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Those too that have ended.
    pub ended: bool,
    /// The least severity, as its number on the wire.
    pub severity: i32,
    /// At most so many; 0: [`LISTED`].
    pub limit: u32,
}

/// The database, or one in memory where there is no place for it.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    path: Option<PathBuf>,
    /// Whether the last write failed, so that it is not said each time.
    failing: bool,
}

impl Store {
    /// Opens the database at `path`; one that cannot be used is set aside or left alone, which is said, and the agent does without.
    pub(super) fn open(path: Option<&Path>) -> Self {
        if let Some(path) = path {
            match connect(path) {
                Ok(connection) => {
                    return Self {
                        connection,
                        path: Some(path.to_owned()),
                        failing: false,
                    };
                }
                Err(error) => tracing::warn!(
                    "the incident book {} cannot be used: {error}; incidents are forgotten when the agent ends",
                    path.display()
                ),
            }
        }
        Self {
            connection: in_memory(),
            path: None,
            failing: false,
        }
    }

    /// Looks whether all of it is intact; if not, it is set aside, and a new one begun. Takes the longer the more there is.
    pub(super) fn examine(&mut self) {
        let Some(path) = self.path.clone() else { return };
        let Err(error) = check(&self.connection) else {
            return;
        };
        if is_damaged(&error) {
            // No connection may be open to what is renamed.
            self.connection = in_memory();
            match set_aside(&path, CORRUPT) {
                Ok(aside) => tell_of(&path, &aside, &error.to_string()),
                Err(error) => tracing::warn!("the incident book is damaged, and {error}"),
            }
            *self = Self::open(Some(&path));
        }
    }

    /// The incident of that id.
    pub(super) fn page(&self, id: &str) -> Option<Page> {
        let sql = "SELECT told, memory, version FROM incidents WHERE id = ?1";
        let row = |row: &Row<'_>| Ok(page(row));
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([id], row).optional())
            .ok()
            .flatten()
            .flatten()
    }

    /// Writes all of these, and forgets what is too much. A disk that is full or gone stops nobody.
    pub(super) fn write(&mut self, pages: &[Page], kept: usize) {
        let result = self.try_write(pages, kept);
        let place = self.place();
        match result {
            Ok(()) if self.failing => tracing::info!("the incident book {place} can be written again"),
            Err(error) if !self.failing => {
                tracing::warn!(
                    "cannot write to the incident book {place}: {error}; what it lacks is in the stream"
                );
            }
            _ => {}
        }
    }

    fn try_write(&mut self, pages: &[Page], kept: usize) -> rusqlite::Result<()> {
        self.failing = true;
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO incidents (id, updated_ns, severity, open, told, memory, version)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for Page { told, memory } in pages {
                // What cannot be encoded cannot go on; it is shown all the same.
                let memory = memory
                    .as_ref()
                    .and_then(|incident| postcard::to_allocvec(&secrets::without(incident)).ok());
                insert.execute(params![
                    told.id,
                    told.updated_ns.cast_signed(),
                    told.severity,
                    told.ended.is_none(),
                    told.encode_to_vec(),
                    memory,
                    VERSION,
                ])?;
            }
            let sql = "DELETE FROM incidents WHERE id IN (SELECT id FROM incidents ORDER BY open DESC, updated_ns DESC LIMIT -1 OFFSET ?1)";
            transaction.prepare_cached(sql)?.execute([kept as i64])?;
        }
        transaction.commit()?;
        self.failing = false;
        Ok(())
    }

    /// What was open, the one that grew the longest ago first. What another version wrote is ended: it cannot go on.
    pub(super) fn open_incidents(&mut self) -> Vec<Incident> {
        let pages = self.select(
            "SELECT told, memory, version FROM incidents WHERE open ORDER BY updated_ns",
            [],
        );
        let mut open = Vec::new();
        let mut ended = Vec::new();
        for mut page in pages.unwrap_or_default() {
            match page.memory.take() {
                Some(incident) => open.extend(std::sync::Arc::into_inner(incident)),
                None => {
                    page.told.ended = Some(v1::Ending {
                        reason: v1::ending::Reason::Quiet.into(),
                        why: "another version of the agent began".to_owned(),
                        time_ns: WallTime::now().0,
                        ..v1::Ending::default()
                    });
                    ended.push(page);
                }
            }
        }
        if !ended.is_empty() {
            self.write(&ended, super::KEPT);
        }
        open
    }

    /// Without their stories, the latest first.
    pub(super) fn list(&self, asked: &Asked) -> Result<Vec<v1::Incident>, StoreError> {
        let limit = match asked.limit {
            0 => LISTED,
            limit => limit.min(super::KEPT as u32),
        };
        let sql = "SELECT told, NULL, version FROM incidents WHERE (open OR ?1) AND severity >= ?2
                   ORDER BY updated_ns DESC LIMIT ?3";
        let pages = self.select(sql, params![asked.ended, asked.severity, limit]);
        let pages = pages.map_err(|cause| self.failed(cause))?;
        let bare = |page: Page| v1::Incident {
            signals: Vec::new(),
            outcomes: Vec::new(),
            processes: Vec::new(),
            ..page.told
        };
        Ok(pages.into_iter().map(bare).collect())
    }

    /// The one whose id begins so.
    pub(super) fn get(&self, id: &str) -> Result<v1::Incident, StoreError> {
        let shown = || id.chars().take(64).collect();
        let sql = "SELECT told, NULL, version FROM incidents WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2";
        let mut found = self.select(sql, [id]).map_err(|cause| self.failed(cause))?;
        match (found.pop(), found.is_empty() && !id.is_empty()) {
            (Some(page), true) => Ok(page.told),
            (Some(_), false) => Err(StoreError::Ambiguous(shown())),
            (None, _) => Err(StoreError::Unknown(shown())),
        }
    }

    /// Somebody has said what it was.
    pub(super) fn close(&mut self, id: &str, ending: v1::Ending) -> Result<v1::Incident, StoreError> {
        let mut told = self.get(id)?;
        told.ended = Some(ending);
        told.next_step = String::new();
        let page = Page { told, memory: None };
        self.try_write(std::slice::from_ref(&page), super::KEPT)
            .map_err(|cause| self.failed(cause))?;
        Ok(page.told)
    }

    fn select(&self, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<Vec<Page>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let pages = statement.query_map(params, |row| Ok(page(row)))?;
        Ok(pages.filter_map(Result::ok).flatten().collect())
    }

    /// Where it is, for messages.
    fn place(&self) -> String {
        let path = self.path.as_ref();
        path.map_or_else(|| "in memory".to_owned(), |path| path.display().to_string())
    }

    fn failed(&self, cause: rusqlite::Error) -> StoreError {
        StoreError::Database {
            place: self.place(),
            cause,
        }
    }
}

/// Who can read what an incident goes on by.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn page(row: &Row<'_>) -> Option<Page> {
    let told: Vec<u8> = row.get(0).ok()?;
    let memory: Option<Vec<u8>> = row.get(1).ok()?;
    let version: String = row.get(2).ok()?;
    let memory = memory
        .filter(|_| version == VERSION)
        .and_then(|bytes| postcard::from_bytes::<Incident>(&bytes).ok());
    Some(Page {
        told: v1::Incident::decode(&told[..]).ok()?,
        memory: memory.map(Into::into),
    })
}

/// Opens it, in the place of a damaged one if need be.
fn connect(path: &Path) -> Result<Connection, StorageError> {
    let opened = open_or_renew(path, &PLAN)?;
    if let Some((aside, why)) = &opened.aside {
        tell_of(path, aside, why);
    }
    Ok(opened.connection)
}

#[allow(clippy::expect_used, reason = "SQLite in memory needs nothing but memory")]
fn in_memory() -> Connection {
    sensor_storage::in_memory(&PLAN).expect("a database in memory can be opened")
}

fn tell_of(path: &Path, aside: &Path, why: &str) {
    tracing::warn!(
        "the incident book {} is damaged ({why}): it is kept as {}, and a new one is begun",
        path.display(),
        aside.display()
    );
}
