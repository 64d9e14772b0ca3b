//! Files that nobody shall run or read by accident any more, but which can be looked at and put back.
//!
//! A quarantined file is two in the directory `quarantine` of the agent's state (mode 0700): `ID.json`, which says what it was and who
//! wanted it away, and `ID.locked`, its content with every byte inverted, of mode 0000. Inverted, because a file that is merely moved can still be run by
//! root through an interpreter or a loader, and sets off every scanner that comes by. A copy, because whoever has the original open, mapped
//! or linked elsewhere could go on changing it.
//!
//! Invariants:
//! - Only the file that was meant: its device and inode are those that were asked for, checked on the descriptor that is read. No link is
//!   followed on the way to it. What is removed is moved aside first and looked at again.
//! - Only plain files; never what is on the [`Floor`](super::floor::Floor), by whatever name it is reached, nor what `allow` refuses. Nothing shortens the floor.
//! - The original is removed when the copy was forced to the disk and read back with the same SHA-256, not earlier.
//! - What is put back has the same content, owner, mode, times and attributes, and takes nothing's place.
//!
//! Paths are those of the agent's mount namespace: a file of a container has to be named by the path it has on the host.

mod item;
mod restore;
mod take;

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

pub use item::Item;

use super::{Refusal, floor::Floor};
use crate::state;

/// Name of the directory in the agent's state directory.
const DIRECTORY: &str = "quarantine";

/// Largest file that is taken: the copy needs as much room.
pub const FILE_MAX: u64 = 1 << 30;

/// Most items that are listed.
const ITEMS_MAX: usize = 65_536;

/// What is done to every byte of a content; done twice, it undoes itself.
const INVERT: u8 = 0xff;

/// Which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its absolute path, in which no part is a link.
    pub path: PathBuf,
    /// Its inode number.
    pub inode: u64,
    /// Its device (major << 20 | minor), where that is known.
    pub device: Option<u32>,
}

/// Who wants it away, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// Under which number; `None`: under none.
    pub number: Option<u64>,
    /// `policy`, or a person.
    pub who: String,
    /// Why, in words.
    pub why: String,
    /// Because of which incident; empty if there is none.
    pub incident: String,
}

/// Why a file was not quarantined or not put back.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The system says so.
    #[error("{}: {doing}: {cause}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// It is one that is left alone.
    #[error("{} is not quarantined: {why}", path.display())]
    Refused {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It is not there any more.
    #[error("{} is not the file that was meant, which was moved, removed or replaced", path.display())]
    Gone {
        /// Which file.
        path: PathBuf,
    },
    /// It changed while it was copied.
    #[error("{} is being written to: stop who does that, then try again", path.display())]
    Changing {
        /// Which file.
        path: PathBuf,
    },
    /// There is no such item.
    #[error("nothing is quarantined as {0:?}; `sensor respond holding` tells what is")]
    Unknown(String),
    /// Something has the place of what is to be put back.
    #[error("{} is not put back: something is there now; move that away first", path.display())]
    Occupied {
        /// Which file.
        path: PathBuf,
    },
    /// What is kept is not what was put there.
    #[error("what is kept of {} is damaged: {why}; nothing was put back", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The directory of what is quarantined.
#[derive(Debug)]
pub struct Quarantine {
    directory: OwnedFd,
    path: PathBuf,
    floor: Floor,
}

impl Quarantine {
    /// That in the state directory `state`, which is made if need be.
    ///
    /// # Errors
    /// If it cannot be made or opened, or is somebody else's.
    pub fn open(state: &Path) -> Result<Self, QuarantineError> {
        Self::with_floor(state, Floor::new(Path::new("/"), state))
    }

    fn with_floor(state: &Path, floor: Floor) -> Result<Self, QuarantineError> {
        let path = state.join(DIRECTORY);
        let directory = state::own_directory(&path, 0o077, "it is open to others: give it mode 0700")
            .map_err(io_error(&path, "opening the quarantine"))?;
        Ok(Self {
            directory,
            path,
            floor,
        })
    }

    /// What is in it, the oldest first; what cannot be read is left out. At most [`ITEMS_MAX`] items.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Item>, QuarantineError> {
        let failed = |error: Errno| io_error(&self.path, "listing the quarantine")(error.into());
        let mut items = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(item) = name.strip_suffix(item::SUFFIX).and_then(|id| self.item(id).ok()) {
                items.push(item);
            }
            if items.len() >= ITEMS_MAX {
                break;
            }
        }
        items.sort_by(|left, right| (left.time_ns, &left.id).cmp(&(right.time_ns, &right.id)));
        Ok(items)
    }
}

/// The directory that a file is in, and its name there. No link is followed.
fn parent(path: &Path) -> Result<(OwnedFd, &std::ffi::OsStr), QuarantineError> {
    let refused = |why: &str| QuarantineError::Refused {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refused("it names no file"));
    };
    if !path.is_absolute() || path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(refused("it is no absolute path of a file"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(CWD, parent, flags, Mode::empty(), resolve) {
        Ok(directory) => Ok((directory, name)),
        Err(Errno::LOOP) => Err(refused("a link is part of its path; name the path behind it")),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(QuarantineError::Gone {
            path: path.to_owned(),
        }),
        Err(error) => Err(io_error(path, "opening its directory")(error.into())),
    }
}

/// Copies with every byte inverted. Returns the SHA-256 of what was read and of what was written, and the length.
fn copy_inverted(
    from: &mut impl Read,
    to: &mut impl Write,
    limit: u64,
) -> io::Result<([u8; 32], [u8; 32], u64)> {
    let (mut read, mut written) = (Sha256::new(), Sha256::new());
    let mut chunk = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok((read.finalize().into(), written.finalize().into(), length));
        }
        length += count as u64;
        if length > limit {
            return Err(io::Error::other("it grows while it is read"));
        }
        let chunk = &mut chunk[..count];
        read.update(&*chunk);
        chunk.iter_mut().for_each(|byte| *byte ^= INVERT);
        written.update(&*chunk);
        to.write_all(chunk)?;
    }
}

/// (device, inode)
fn identity(file: impl AsFd) -> rustix::io::Result<(u64, u64)> {
    let about = rustix::fs::fstat(file)?;
    Ok((about.st_dev, about.st_ino))
}

fn io_error(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> QuarantineError {
    move |cause| QuarantineError::Io {
        path: path.to_owned(),
        doing,
        cause,
    }
}

#[cfg(test)]
mod tests;
