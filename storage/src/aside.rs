//! What is damaged is kept under another name.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

use crate::{StorageError, now};

/// Why something is set aside that is damaged, as part of its new name.
pub const CORRUPT: &str = "corrupt";

/// Whether SQLite says that what is in the file makes no sense.
#[must_use]
pub fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Renames a database and what belongs to it to `NAME.WHY-NANOSECONDS`, and returns the new name. No connection to it may be open. What is
/// damaged is set aside as [`CORRUPT`].
///
/// # Errors
/// If it cannot be renamed.
pub fn set_aside(path: &Path, why: &str) -> Result<PathBuf, StorageError> {
    let stamp = format!(".{why}-{}", now());
    let named = |stamp: &str, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(stamp);
        name.push(suffix);
        PathBuf::from(name)
    };
    // The log first: a database without it is an older one, a log without its database nothing.
    for suffix in ["-wal", "-shm", ""] {
        let from = named("", suffix);
        match fs::rename(&from, named(&stamp, suffix)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(StorageError::file(&from))?,
        }
    }
    Ok(named(&stamp, ""))
}
