//! Why a database cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file, or the directory it lies in, cannot be made, written or renamed.
    #[error("cannot use {}: {cause}; mend its permissions, or name another directory", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A newer version wrote it.
    #[error("{} has schema {found}, this version knows {known}; use a newer version, or move the file away", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest that can be read.
        known: i64,
    },
    /// SQLite failed.
    #[error("database {}: {cause}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
}

impl StorageError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::File { path, cause }
    }

    pub(crate) fn database(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Database { path, cause }
    }

    /// Whether what is in the file makes no sense to SQLite.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Database { cause, .. } if crate::is_damaged(cause))
    }
}
