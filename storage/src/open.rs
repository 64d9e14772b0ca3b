//! Opening.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use crate::{CORRUPT, Plan, StorageError, is_damaged, set_aside};

/// A database that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub connection: Connection,
    /// The name under which what was damaged is kept, and what was wrong with it.
    pub aside: Option<(PathBuf, String)>,
}

/// Opens the database at `path`, and makes what is not there.
///
/// # Errors
/// If the file cannot be used, a newer version wrote it, or it is damaged.
pub fn open(path: &Path, plan: &Plan) -> Result<Connection, StorageError> {
    prepare_file(path)?;
    let failed = StorageError::database(path);
    let (connection, found) = prepare(path, plan).map_err(failed)?;
    if found > plan.schema() {
        return Err(StorageError::Newer {
            path: path.to_owned(),
            found,
            known: plan.schema(),
        });
    }
    (plan.probe)(&connection).map_err(StorageError::database(path))?;
    Ok(connection)
}

/// The same, and where it is damaged, a new one in its place.
///
/// # Errors
/// If the file cannot be used or renamed, or a newer version wrote it.
pub fn open_or_renew(path: &Path, plan: &Plan) -> Result<Opened, StorageError> {
    match open(path, plan) {
        Err(StorageError::Database { cause, .. }) if is_damaged(&cause) => Ok(Opened {
            aside: Some((set_aside(path, CORRUPT)?, cause.to_string())),
            connection: open(path, plan)?,
        }),
        result => Ok(Opened {
            connection: result?,
            aside: None,
        }),
    }
}

/// One that is forgotten with its connection.
///
/// # Errors
/// If there is no memory for it, or the plan's tables are none.
pub fn in_memory(plan: &Plan) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    bring_up(&mut connection, plan, 0)?;
    Ok(connection)
}

/// Looks whether all of it is intact. Takes the longer the more there is.
///
/// # Errors
/// If it is not: one that [`is_damaged`] knows.
pub fn check(connection: &Connection) -> rusqlite::Result<()> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some(found),
    ))
}

fn prepare(path: &Path, plan: &Plan) -> rusqlite::Result<(Connection, i64)> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(plan.busy)?;
    if plan.shrinks {
        // Has an effect before the first table only.
        connection.pragma_update(None, "auto_vacuum", "incremental")?;
    }
    if plan.exclusive {
        connection.pragma_update(None, "locking_mode", "exclusive")?;
    }
    // Readers do not stop the writer.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", plan.durability.pragma())?;
    connection.pragma_update(None, "cache_size", -plan.cache_kib)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found < plan.schema() {
        bring_up(&mut connection, plan, found)?;
    }
    Ok((connection, found))
}

/// Brings a database of version `found` to the present one, all at once or not at all.
fn bring_up(connection: &mut Connection, plan: &Plan, found: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for step in plan.steps.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", plan.schema())?;
    transaction.commit()
}

/// SQLite would make it readable for everyone that the umask allows.
fn prepare_file(path: &Path) -> Result<(), StorageError> {
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(StorageError::file(directory))?;
    }
    let mut options = File::options();
    options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(StorageError::file(path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const PLAN: Plan = Plan {
        durability: crate::Durability::Normal,
        cache_kib: 64,
        busy: std::time::Duration::from_secs(1),
        shrinks: true,
        probe: |connection| connection.query_row("SELECT count(*) FROM things", [], |_| Ok(())),
        ..Plan::new(STEPS)
    };

    const STEPS: &[&str] = &[
        "CREATE TABLE things (name TEXT NOT NULL) STRICT;",
        "ALTER TABLE things ADD COLUMN size INTEGER;",
        "UPDATE things SET size = 1;",
    ];

    #[test]
    fn it_is_for_its_owner_only() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("new/some.db");
        let _connection = open(&path, &PLAN).expect("opens");
        let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
        assert_eq!(mode(&home.path().join("new")), 0o700);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&home.path().join("new/some.db-wal")), 0o600);
    }

    #[test]
    fn what_an_older_version_wrote_is_brought_up_to_date() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("some.db");
        let older = Plan {
            steps: &STEPS[..1],
            ..PLAN
        };
        let connection = open(&path, &older).expect("opens");
        connection
            .execute("INSERT INTO things VALUES ('a')", [])
            .expect("inserts");
        drop(connection);
        let connection = open(&path, &PLAN).expect("opens again");
        let size: i64 = connection
            .query_row("SELECT size FROM things WHERE name = 'a'", [], |row| row.get(0))
            .expect("is there");
        let found: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .expect("is said");
        assert_eq!((size, found), (1, 3));
    }

    #[test]
    fn what_is_damaged_is_kept_under_another_name() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("some.db");
        fs::write(&path, b"this is not a database, whatever its name says").expect("writes");
        assert!(open(&path, &PLAN).expect_err("is refused").is_damage());
        let opened = open_or_renew(&path, &PLAN).expect("begins anew");
        let (aside, why) = opened.aside.expect("was damaged");
        assert!(aside.to_string_lossy().contains("some.db.corrupt-"));
        assert!(why.contains("not a database"), "{why}");
        assert!(fs::read(aside).expect("is there").starts_with(b"this is not"));
        check(&opened.connection).expect("the new one is whole");
    }

    #[test]
    fn what_is_for_one_alone_is_refused_to_others() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("some.db");
        let plan = Plan {
            exclusive: true,
            ..PLAN
        };
        let _first = open(&path, &plan).expect("opens");
        let error = open(&path, &plan).expect_err("is refused").to_string();
        assert!(error.contains("locked"), "{error}");
    }

    #[test]
    fn what_a_newer_version_wrote_is_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("some.db");
        let connection = open(&path, &PLAN).expect("opens");
        connection.pragma_update(None, "user_version", 9).expect("sets");
        drop(connection);
        let error = open_or_renew(&path, &PLAN).expect_err("is refused").to_string();
        assert!(error.contains("schema 9, this version knows 3"), "{error}");
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("file");
        fs::write(&file, b"").expect("writes");
        let error = open(&file.join("some.db"), &PLAN)
            .expect_err("is no directory")
            .to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}
