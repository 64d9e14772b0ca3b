//! Where a bundle comes to lie: whole or not at all, and nobody else's.
//!
//! The directory is made with mode 0700. One that is there must be the collector's own and writable for nobody else, so that no link or
//! directory can be put in its place meanwhile. The file is made under another name with mode 0600, never over one that is there.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::ForensicsError;
use crate::state;

const OTHERS: &str =
    "others may write to it, or it is another's; name a directory of your own, or one that is not there yet";

/// A file that is being written. It is removed unless it is kept.
#[derive(Debug)]
pub(super) struct Unfinished {
    directory: OwnedFd,
    path: PathBuf,
    name: String,
    temporary: String,
    kept: bool,
}

impl Unfinished {
    /// A new file in `directory`, which will be called `name`.
    pub(super) fn create(directory: &Path, name: &str) -> Result<(Self, File), ForensicsError> {
        let failed = |why: String| ForensicsError::Directory {
            path: directory.to_owned(),
            why,
        };
        let opened =
            state::own_directory(directory, 0o022, OTHERS).map_err(|error| failed(error.to_string()))?;
        let temporary = format!(".{name}.{}.partial", std::process::id());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&opened, &temporary, flags, Mode::from(0o600));
        let file = file.map_err(|error| ForensicsError::Write {
            path: directory.join(&temporary),
            cause: error.into(),
        })?;
        let unfinished = Self {
            directory: opened,
            path: directory.to_owned(),
            name: name.to_owned(),
            temporary,
            kept: false,
        };
        Ok((unfinished, file.into()))
    }

    /// Where it will be.
    pub(super) fn path(&self) -> PathBuf {
        self.path.join(&self.name)
    }

    /// Gives it its name, after everything was written and forced to the disk.
    pub(super) fn keep(mut self) -> Result<PathBuf, ForensicsError> {
        let path = self.path();
        let rename = || -> io::Result<()> {
            let (directory, temporary) = (&self.directory, &self.temporary);
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(directory, temporary, directory, &self.name, flags) {
                // A file system that cannot refuse to replace can refuse to link.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    rustix::fs::linkat(directory, temporary, directory, &self.name, AtFlags::empty())?;
                    rustix::fs::unlinkat(directory, temporary, AtFlags::empty())?;
                }
                other => other?,
            }
            Ok(rustix::fs::fsync(directory)?)
        };
        rename().map_err(|cause| ForensicsError::Write {
            path: path.clone(),
            cause,
        })?;
        self.kept = true;
        Ok(path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.kept {
            let _ = rustix::fs::unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}
