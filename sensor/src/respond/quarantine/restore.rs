//! Out of quarantine.

use std::{ffi::OsStr, fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    FILE_MAX, Quarantine, QuarantineError, copy_inverted, identity, io_error,
    item::{Item, LOCKED},
    parent,
    take::refix,
};
use crate::hex::hex;

impl Quarantine {
    /// Puts a file back where it was, as it was, and forgets it here.
    ///
    /// # Errors
    /// If there is no such item, it is damaged, something is in its place, or its directory is not there. It stays in quarantine then.
    pub fn restore(&self, id: &str) -> Result<Item, QuarantineError> {
        let item = self.item(id)?;
        let path = item.original().ok_or_else(|| QuarantineError::Damaged {
            path: self.path.join(id),
            why: "its path cannot be read".to_owned(),
        })?;
        let (directory, name) = parent(&path)?;
        if rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(QuarantineError::Occupied { path });
        }
        let locked = self
            .unlock(id)
            .map_err(io_error(&path, "opening what is kept of it"))?;
        let aside = format!(".sensor-{id}");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &aside, flags, Mode::from(0o600));
        let file = File::from(file.map_err(|error| io_error(&path, "writing beside it")(error.into()))?);
        let restored =
            fill(&item, &path, locked, &file).and_then(|()| place(&path, &directory, &aside, name, &file));
        if let Err(error) = restored {
            let _ = rustix::fs::unlinkat(&directory, &aside, AtFlags::empty());
            self.lock(id);
            return Err(error);
        }
        refix(&file, &item);
        self.remove(id)
            .map_err(io_error(&path, "forgetting it: it is back"))?;
        Ok(item)
    }

    /// Opens a content, whose mode does not even let its owner.
    fn unlock(&self, id: &str) -> io::Result<File> {
        let name = format!("{id}{LOCKED}");
        rustix::fs::chmodat(&self.directory, &name, Mode::from(0o400), AtFlags::empty())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(&self.directory, &name, flags, Mode::empty())?.into())
    }

    fn lock(&self, id: &str) {
        let name = format!("{id}{LOCKED}");
        let _ = rustix::fs::chmodat(&self.directory, &name, Mode::empty(), AtFlags::empty());
    }
}

/// Writes the content, and gives the file what it had.
fn fill(item: &Item, path: &Path, mut locked: File, mut file: &File) -> Result<(), QuarantineError> {
    let copied = copy_inverted(&mut locked, &mut file, FILE_MAX);
    let (_, digest, length) = copied.map_err(io_error(path, "copying it back"))?;
    if length != item.size || hex(&digest) != item.sha256 {
        return Err(QuarantineError::Damaged {
            path: path.to_owned(),
            why: "its SHA-256 is not what it was".to_owned(),
        });
    }
    let dressed = item.dress(file).and_then(|()| file.sync_all());
    dressed.map_err(io_error(path, "giving it what it had"))
}

/// Gives it its name, if nothing has that.
fn place(
    path: &Path,
    directory: &OwnedFd,
    aside: &str,
    name: &OsStr,
    file: &File,
) -> Result<(), QuarantineError> {
    let failed = |error: Errno| io_error(path, "putting it back")(error.into());
    match rustix::fs::renameat_with(directory, aside, directory, name, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            return Err(QuarantineError::Occupied {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(failed(error)),
    }
    // Whoever may write to the directory could have put something else aside meanwhile.
    let there = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if identity(file).map_err(failed)? != (there.st_dev, there.st_ino) {
        return Err(QuarantineError::Gone {
            path: path.to_owned(),
        });
    }
    let _ = rustix::fs::fsync(directory);
    Ok(())
}
