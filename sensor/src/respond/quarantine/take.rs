//! Into quarantine.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Seek as _, SeekFrom},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, IFlags, Mode, OFlags, RenameFlags, Stat},
    io::Errno,
};

use super::{
    FILE_MAX, Quarantine, QuarantineError, Reason, Refusal, Wanted, copy_inverted, identity, io_error,
    item::{Item, LOCKED},
    parent,
};
use crate::{hex::hex, host::file};

/// Attributes of a file that keep even root from removing it.
const FIXED: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

impl Quarantine {
    /// Quarantines a file. `allow` may refuse it by its path: [`Guard::check_executable`](crate::respond::Guard::check_executable) knows
    /// the protected programs.
    ///
    /// Takes as long as copying does, at most [`FILE_MAX`] bytes; on a file system of somebody's own that may be for ever, so it is for a thread
    /// that nobody waits for.
    ///
    /// # Errors
    /// If it is not the file that was meant, is refused, or cannot be copied or removed. Nothing is changed then.
    pub fn take(
        &self,
        wanted: &Wanted,
        reason: &Reason,
        allow: impl FnOnce(&[u8]) -> Result<(), Refusal>,
    ) -> Result<Item, QuarantineError> {
        let path = &wanted.path;
        let (directory, name) = parent(path)?;
        let (named, about) = self.find(wanted, &directory, name)?;
        allow(path.as_os_str().as_bytes()).map_err(|refusal| QuarantineError::Refused {
            path: path.clone(),
            why: refusal.to_string(),
        })?;
        let mut file = reopen(&named).map_err(io_error(path, "opening it"))?;
        let mut item = Item::describe(path, &file, &about, reason);
        let taken = self
            .copy(path, &mut file, &about, &mut item)
            .and_then(|()| unfix(path, &file, &mut item))
            .and_then(|()| self.write_item(&item).map_err(io_error(path, "describing it")))
            .and_then(|()| remove(path, &directory, name, &file, &about, &item));
        if let Err(error) = taken {
            refix(&file, &item);
            let _ = self.remove(&item.id);
            return Err(error);
        }
        Ok(item)
    }

    /// The file that was meant, by a descriptor that can do nothing but name it: opening a device may do something.
    fn find(
        &self,
        wanted: &Wanted,
        directory: &OwnedFd,
        name: &OsStr,
    ) -> Result<(OwnedFd, Stat), QuarantineError> {
        let path = &wanted.path;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let named = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(named) => named,
            Err(Errno::NOENT) => return Err(QuarantineError::Gone { path: path.clone() }),
            Err(error) => return Err(io_error(path, "looking at it")(error.into())),
        };
        let about =
            rustix::fs::fstat(&named).map_err(|error| io_error(path, "looking at it")(error.into()))?;
        let refused = |why: String| {
            Err(QuarantineError::Refused {
                path: path.clone(),
                why,
            })
        };
        let kind = FileType::from_raw_mode(about.st_mode);
        if kind != FileType::RegularFile {
            return refused(format!("it is no plain file but {kind:?}").to_lowercase());
        }
        let device = file::device(about.st_dev);
        if about.st_ino != wanted.inode || wanted.device.is_some_and(|wanted| wanted != device) {
            return Err(QuarantineError::Gone { path: path.clone() });
        }
        if let Some(why) = self.floor.forbids(path, (about.st_dev, about.st_ino)) {
            return refused(why);
        }
        if about.st_size as u64 > FILE_MAX {
            return refused(format!(
                "it has {} bytes, more than the {FILE_MAX} that are copied; end who runs it, and move it by hand",
                about.st_size
            ));
        }
        Ok((named, about))
    }

    /// Copies the content, forces it to the disk and reads it back.
    fn copy(
        &self,
        path: &Path,
        file: &mut File,
        about: &Stat,
        item: &mut Item,
    ) -> Result<(), QuarantineError> {
        let name = format!("{}{LOCKED}", item.id);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut copied = || -> io::Result<([u8; 32], u64)> {
            let copy = rustix::fs::openat(&self.directory, &name, flags, Mode::from(0o600))?;
            let mut copy = File::from(copy);
            let (digest, written, length) = copy_inverted(file, &mut copy, FILE_MAX)?;
            copy.sync_all()?;
            copy.seek(SeekFrom::Start(0))?;
            let (read_back, ..) = copy_inverted(&mut copy, &mut io::sink(), FILE_MAX)?;
            if read_back != written {
                return Err(io::Error::other(
                    "the disk gave back something else than was written",
                ));
            }
            rustix::fs::fchmod(&copy, Mode::empty())?;
            Ok((digest, length))
        };
        let (digest, length) = copied().map_err(io_error(path, "copying it"))?;
        if !is_unchanged(file, about) || length != about.st_size as u64 {
            return Err(QuarantineError::Changing {
                path: path.to_owned(),
            });
        }
        item.sha256 = hex(&digest);
        item.size = length;
        Ok(())
    }
}

/// The file behind a descriptor that only names it: no name is looked up again.
fn reopen(named: &OwnedFd) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", named.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

fn is_unchanged(file: &File, before: &Stat) -> bool {
    rustix::fs::fstat(file).is_ok_and(|now| {
        (now.st_size, now.st_mtime, now.st_mtime_nsec)
            == (before.st_size, before.st_mtime, before.st_mtime_nsec)
    })
}

/// Takes from a file what keeps it from being removed: attackers fix theirs so.
fn unfix(path: &Path, file: &File, item: &mut Item) -> Result<(), QuarantineError> {
    // Not every file system has such attributes.
    let Ok(flags) = rustix::fs::ioctl_getflags(file) else {
        return Ok(());
    };
    if !flags.intersects(FIXED) {
        return Ok(());
    }
    let unfixed = rustix::fs::ioctl_setflags(file, flags.difference(FIXED));
    unfixed.map_err(|error| io_error(path, "making it removable")(error.into()))?;
    item.flags = flags.intersection(FIXED).bits();
    Ok(())
}

/// Undoes that, on a file that stays where it is or is back there.
pub(super) fn refix(file: &File, item: &Item) {
    if item.flags != 0
        && let Ok(flags) = rustix::fs::ioctl_getflags(file)
    {
        let _ = rustix::fs::ioctl_setflags(file, flags.union(IFlags::from_bits_retain(item.flags)));
    }
}

/// Removes the name, if it still leads to the file: it is moved aside, looked at, and moved back if it is another's.
fn remove(
    path: &Path,
    directory: &OwnedFd,
    name: &OsStr,
    file: &File,
    about: &Stat,
    item: &Item,
) -> Result<(), QuarantineError> {
    let failed = |error: Errno| io_error(path, "removing it")(error.into());
    let aside = format!(".sensor-{}", item.id);
    let flags = RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(directory, name, directory, &aside, flags) {
        Ok(()) => {}
        Err(Errno::NOENT) => {
            return Err(QuarantineError::Gone {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(failed(error)),
    }
    let back = || rustix::fs::renameat_with(directory, &aside, directory, name, flags);
    let moved = rustix::fs::statat(directory, &aside, AtFlags::SYMLINK_NOFOLLOW);
    let same = moved.is_ok_and(|moved| identity(file).is_ok_and(|id| id == (moved.st_dev, moved.st_ino)));
    if !same {
        let _ = back();
        return Err(QuarantineError::Gone {
            path: path.to_owned(),
        });
    }
    if !is_unchanged(file, about) {
        let _ = back();
        return Err(QuarantineError::Changing {
            path: path.to_owned(),
        });
    }
    if let Err(error) = rustix::fs::unlinkat(directory, &aside, AtFlags::empty()) {
        let _ = back();
        return Err(failed(error));
    }
    // The file is gone from here; that the disk does not know it yet is no reason to say otherwise.
    let _ = rustix::fs::fsync(directory);
    Ok(())
}
