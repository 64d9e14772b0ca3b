//! What a quarantined file was: `ID.json`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{fd::AsFd, unix::ffi::OsStringExt as _},
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{Quarantine, QuarantineError, Reason};
use crate::{hex::hex, time::WallTime};

/// What the name of a description ends with.
pub(super) const SUFFIX: &str = ".json";

/// What the name of a content ends with.
pub(super) const LOCKED: &str = ".locked";

/// Longest description that is read.
const DESCRIPTION_MAX: u64 = 1 << 20;

/// Bytes of extended attributes that are kept.
const ATTRIBUTES_MAX: usize = 64 << 10;

/// A quarantined file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// By which it is put back.
    pub id: String,
    /// Where it was, for people.
    pub path: String,
    /// Where it was, byte by byte, in hexadecimal.
    pub path_hex: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
    /// Last access: seconds since the epoch, and nanoseconds.
    pub accessed: (i64, i64),
    /// Last change of its content.
    pub modified: (i64, i64),
    /// Its extended attributes, values in hexadecimal.
    pub attributes: Vec<(String, String)>,
    /// What kept it from being removed and was taken from it: the kernel's bits for `chattr +i` and `+a`.
    pub flags: u32,
    /// Other names of the same file, which are still there.
    pub other_names: u64,
    /// Under which number that was done; by it, too, it is put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// When it was quarantined, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// Who wanted that.
    pub who: String,
    /// Why.
    pub why: String,
    /// Because of which incident; empty if there is none.
    pub incident: String,
}

impl Item {
    /// Describes an open file, but for its content.
    pub(super) fn describe(path: &std::path::Path, file: impl AsFd, about: &Stat, reason: &Reason) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let time_ns = WallTime::now().0;
        Self {
            id: format!("{time_ns:016x}-{:x}", about.st_ino),
            path: path.to_string_lossy().into_owned(),
            path_hex: hex(path.as_os_str().as_bytes()),
            size: 0,
            sha256: String::new(),
            uid: about.st_uid,
            gid: about.st_gid,
            mode: about.st_mode & 0o7777,
            accessed: (about.st_atime, about.st_atime_nsec as i64),
            modified: (about.st_mtime, about.st_mtime_nsec as i64),
            attributes: attributes(file),
            flags: 0,
            other_names: about.st_nlink.saturating_sub(1),
            number: reason.number,
            time_ns,
            who: reason.who.clone(),
            why: reason.why.clone(),
            incident: reason.incident.clone(),
        }
    }

    /// Where it was; `None` if the description is damaged.
    #[must_use]
    pub fn original(&self) -> Option<PathBuf> {
        Some(OsString::from_vec(unhex(&self.path_hex)?).into())
    }

    /// Gives a file the owner, permissions, attributes and times that it had, in the order in which they do not undo each other.
    pub(super) fn dress(&self, file: impl AsFd) -> io::Result<()> {
        let file = file.as_fd();
        let owner = rustix::fs::Uid::from_raw(self.uid);
        let group = rustix::fs::Gid::from_raw(self.gid);
        rustix::fs::fchown(file, Some(owner), Some(group))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))?;
        for (name, value) in &self.attributes {
            let value = unhex(value).ok_or_else(|| io::Error::other("an attribute is damaged"))?;
            match rustix::fs::fsetxattr(file, name.as_str(), &value, rustix::fs::XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let time = |(tv_sec, tv_nsec): (i64, i64)| Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time(self.accessed),
            last_modification: time(self.modified),
        };
        Ok(rustix::fs::futimens(file, &times)?)
    }
}

impl Quarantine {
    /// The description of an item.
    pub(super) fn item(&self, id: &str) -> Result<Item, QuarantineError> {
        let plain = |character: char| character.is_ascii_hexdigit() || character == '-';
        if id.is_empty() || !id.chars().all(plain) {
            return Err(QuarantineError::Unknown(id.to_owned()));
        }
        let path = self.path.join(format!("{id}{SUFFIX}"));
        let damaged = |why: String| QuarantineError::Damaged {
            path: path.clone(),
            why,
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.directory, format!("{id}{SUFFIX}"), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Err(QuarantineError::Unknown(id.to_owned())),
            Err(error) => return Err(damaged(error.to_string())),
        };
        let mut text = Vec::new();
        let read = file.take(DESCRIPTION_MAX).read_to_end(&mut text);
        read.map_err(|error| damaged(error.to_string()))?;
        let item: Item = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if item.id != id {
            return Err(damaged("it describes another file".to_owned()));
        }
        Ok(item)
    }

    /// Writes the description of an item, whole or not at all.
    pub(super) fn write_item(&self, item: &Item) -> io::Result<()> {
        let (new, name) = (format!("{}.new", item.id), format!("{}{SUFFIX}", item.id));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(
            &self.directory,
            &new,
            flags,
            Mode::from(0o600),
        )?);
        let written = serde_json::to_vec_pretty(item)
            .map_err(io::Error::from)
            .and_then(|text| file.write_all(&text))
            .and_then(|()| file.sync_all())
            .and_then(|()| {
                Ok(rustix::fs::renameat(
                    &self.directory,
                    &new,
                    &self.directory,
                    &name,
                )?)
            });
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&self.directory, &new, AtFlags::empty());
        }
        written?;
        Ok(rustix::fs::fsync(&self.directory)?)
    }

    /// Removes an item, content first: what is left after a crash is a description without a content, and no content without one.
    pub(super) fn remove(&self, id: &str) -> io::Result<()> {
        for suffix in [LOCKED, SUFFIX] {
            match rustix::fs::unlinkat(&self.directory, format!("{id}{suffix}"), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rustix::fs::fsync(&self.directory)?)
    }
}

/// The extended attributes of a file, as far as they can be read and fit.
fn attributes(file: impl AsFd) -> Vec<(String, String)> {
    let mut names = vec![0; ATTRIBUTES_MAX];
    let length = rustix::fs::flistxattr(&file, &mut names[..]).unwrap_or(0);
    let mut left = ATTRIBUTES_MAX;
    let read = |name: &[u8]| {
        let name = std::str::from_utf8(name).ok()?;
        let mut value = vec![0; left];
        let length = rustix::fs::fgetxattr(&file, name, &mut value[..]).ok()?;
        left -= length;
        Some((name.to_owned(), hex(&value[..length])))
    };
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .filter_map(read)
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digits = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    digits.map(|digits| u8::from_str_radix(digits, 16).ok()).collect()
}
