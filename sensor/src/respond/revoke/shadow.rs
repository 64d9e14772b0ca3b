//! The files in `/etc`: `passwd` is read, two fields of `shadow` are changed.
//!
//! See passwd(5), shadow(5) and lckpwdf(3). A line is `name:password:changed:minimum:maximum:warning:inactive:expires:reserved`.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, Uid, XattrFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{RevokeError, io_error};

/// Longest file of accounts that is read.
const FILE_MAX: u64 = 64 << 20;

/// How long to wait for others who change accounts.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The smallest user of a person where nobody says otherwise.
const UID_MIN: u32 = 1_000;

/// The second day of 1970: in the past for every reader, and not 0, which some take for "never".
const EXPIRED: &str = "1";

/// Fields of `shadow`, counted from 0.
const PASSWORD: usize = 1;
const EXPIRES: usize = 7;
const FIELDS: usize = 9;

/// Bytes of extended attributes of the file.
const ATTRIBUTES_MAX: usize = 64 << 10;

/// The two fields of an account that say whether somebody may log in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fields {
    /// The hash.
    password: String,
    /// The day of expiry; empty for never.
    expires: String,
}

impl Fields {
    /// The same, with nobody able to log in.
    pub(super) fn locked(&self) -> Self {
        let locked = self.password.starts_with('!');
        Self {
            password: if locked {
                self.password.clone()
            } else {
                format!("!{}", self.password)
            },
            expires: EXPIRED.to_owned(),
        }
    }
}

/// A lock of a process is none among its threads.
static THREADS: Mutex<()> = Mutex::new(());

/// `shadow`, which nobody else changes as long as this is there.
pub(super) struct Shadow {
    etc: OwnedFd,
    path: PathBuf,
    file: File,
    lines: Vec<Vec<u8>>,
    /// Closed, and thereby given up, before the threads are let on.
    _lock: OwnedFd,
    _threads: MutexGuard<'static, ()>,
}

impl Shadow {
    /// Takes the lock, then reads.
    pub(super) fn lock(etc: &Path) -> Result<Self, RevokeError> {
        let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = take_lock(&etc.join(".pwd.lock"))?;
        let path = etc.join("shadow");
        let failed = |error: io::Error| io_error(&path, "reading it")(error);
        let directory = rustix::fs::open(
            etc,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let file = open(&path).map_err(failed)?;
        let mut content = Vec::new();
        (&file)
            .take(FILE_MAX + 1)
            .read_to_end(&mut content)
            .map_err(failed)?;
        if content.len() as u64 > FILE_MAX {
            return Err(RevokeError::Broken {
                path,
                why: format!("it has more than {FILE_MAX} bytes"),
            });
        }
        let lines = content
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        Ok(Self {
            etc: directory.map_err(|error| io_error(etc, "opening it")(error.into()))?,
            path,
            file,
            lines,
            _lock: lock,
            _threads: threads,
        })
    }

    /// The two fields of an account.
    pub(super) fn fields(&self, name: &str) -> Result<Fields, RevokeError> {
        let fields = split(&self.lines[self.line(name)?]);
        Ok(Fields {
            password: fields[PASSWORD].clone(),
            expires: fields[EXPIRES].clone(),
        })
    }

    /// Changes them, in memory.
    pub(super) fn set(&mut self, name: &str, new: &Fields) -> Result<(), RevokeError> {
        let line = self.line(name)?;
        let mut fields = split(&self.lines[line]);
        fields[PASSWORD].clone_from(&new.password);
        fields[EXPIRES].clone_from(&new.expires);
        let end = if self.lines[line].ends_with(b"\n") {
            "\n"
        } else {
            ""
        };
        self.lines[line] = format!("{}{end}", fields.join(":")).into_bytes();
        Ok(())
    }

    /// The only line of an account, which is text.
    fn line(&self, name: &str) -> Result<usize, RevokeError> {
        let broken = |why: String| RevokeError::Broken {
            path: self.path.clone(),
            why,
        };
        let is_its = |line: &[u8]| {
            line.strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.starts_with(b":"))
        };
        let mut found = (0..self.lines.len()).filter(|line| is_its(&self.lines[*line]));
        let line = found
            .next()
            .ok_or_else(|| broken(format!("{name} has no line in it")))?;
        if found.next().is_some() {
            return Err(broken(format!(
                "{name} has several lines in it: remove all but one"
            )));
        }
        let text = std::str::from_utf8(&self.lines[line]);
        if !text.is_ok_and(|text| text.trim_end_matches('\n').split(':').count() <= FIELDS) {
            return Err(broken(format!("the line of {name} cannot be read")));
        }
        Ok(line)
    }

    /// Puts the changed file in the place of the old one.
    pub(super) fn replace(self) -> Result<(), RevokeError> {
        let aside = format!("shadow.sensor-{}", std::process::id());
        let replaced = self.write(&aside).and_then(|()| {
            rustix::fs::renameat(&self.etc, &aside, &self.etc, "shadow")?;
            Ok(rustix::fs::fsync(&self.etc)?)
        });
        if replaced.is_err() {
            let _ = rustix::fs::unlinkat(&self.etc, &aside, AtFlags::empty());
        }
        replaced.map_err(io_error(&self.path, "replacing it"))
    }

    /// Writes a file that is like the old one in all but the lines.
    fn write(&self, aside: &str) -> io::Result<()> {
        let about = rustix::fs::fstat(&self.file)?;
        // What is left of one that was ended in the midst of this is in nobody's use: we have the lock.
        let _ = rustix::fs::unlinkat(&self.etc, aside, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut new = File::from(rustix::fs::openat(&self.etc, aside, flags, Mode::from(0o600))?);
        for line in &self.lines {
            new.write_all(line)?;
        }
        rustix::fs::fchown(
            &new,
            Some(Uid::from_raw(about.st_uid)),
            Some(Gid::from_raw(about.st_gid)),
        )?;
        rustix::fs::fchmod(&new, Mode::from_raw_mode(about.st_mode & 0o7777))?;
        copy_attributes(&self.file, &new)?;
        new.sync_all()
    }
}

/// The names of a user in `passwd`.
pub(super) fn users(etc: &Path, uid: u32) -> Result<Vec<String>, RevokeError> {
    let path = etc.join("passwd");
    let content = read(&path, FILE_MAX).map_err(io_error(&path, "reading it"))?;
    let names = content.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let mut fields = line.split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    Ok(names.collect())
}

/// Where users of people begin on this host.
pub(super) fn uid_min(etc: &Path) -> u32 {
    let content = read(&etc.join("login.defs"), FILE_MAX).unwrap_or_default();
    let content = String::from_utf8_lossy(&content);
    let value = content.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("UID_MIN"))
            .then(|| words.next()?.parse().ok())
            .flatten()
    });
    // A host that calls all its users people would have its services locked.
    value.unwrap_or(UID_MIN).max(100)
}

/// A file of at most `limit` bytes; no link is followed, and no pipe waited for.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.take(limit).read_to_end(&mut content)?;
    Ok(content)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    Ok(file)
}

/// The lock of lckpwdf(3), which glibc's readers and writers of these files agree on.
fn take_lock(path: &Path) -> Result<OwnedFd, RevokeError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::from(0o600));
    let file = file.map_err(|error| io_error(path, "opening the lock")(error.into()))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::AGAIN | Errno::ACCESS) if Instant::now() < deadline => {
                sleep(Duration::from_millis(20))
            }
            Err(Errno::AGAIN | Errno::ACCESS) => {
                return Err(RevokeError::Busy {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(io_error(path, "taking the lock")(error.into())),
        }
    }
}

/// All nine fields of a line that was looked at before.
fn split(line: &[u8]) -> Vec<String> {
    let line = String::from_utf8_lossy(line);
    let mut fields: Vec<String> = line
        .trim_end_matches('\n')
        .split(':')
        .map(str::to_owned)
        .collect();
    fields.resize(FIELDS.max(fields.len()), String::new());
    fields
}

/// Labels and access lists. A file system without them has none to copy.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTES_MAX];
    let length = rustix::fs::flistxattr(from, &mut names[..]).unwrap_or(0);
    let mut value = vec![0; ATTRIBUTES_MAX];
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}
