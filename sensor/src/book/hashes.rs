//! Digests of executables.
//!
//! A file is read through the process that runs it, so that one which was deleted is found too, and one that was put in its place is not taken
//! for it; else by its path, if that is still the same inode. At most [`FILE_MAX`] bytes of a file are read, and the last [`KNOWN`] digests
//! are at hand.

use std::{
    fs::File,
    io::{self, Read as _},
    num::NonZeroUsize,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use lru::LruCache;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::{
    hex::hex,
    host::{Process, ProcessId, proc::ProcDir},
};

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 256 << 20;

const KNOWN: NonZeroUsize = NonZeroUsize::new(512).unwrap();

/// Which content: a file that was written to since has another time.
type Content = (u64, u64, u64, i64, i64);

/// Digests that were made, and processes of which it was tried: who has ended is not looked for again with each state of an incident.
pub(super) struct Hashes {
    known: LruCache<Content, String>,
    tried: LruCache<(ProcessId, u64), String>,
}

impl Default for Hashes {
    fn default() -> Self {
        Self {
            known: LruCache::new(KNOWN),
            tried: LruCache::new(KNOWN),
        }
    }
}

impl Hashes {
    /// SHA-256 of what a process runs, in hexadecimal; empty where that cannot be read any more.
    pub(super) fn of(&mut self, process: &Process) -> String {
        if process.kernel_thread || process.image.inode == 0 {
            return String::new();
        }
        let key = (process.id, process.image.inode);
        if let Some(found) = self.tried.get(&key) {
            return found.clone();
        }
        let found = self.look(process);
        self.tried.put(key, found.clone());
        found
    }

    fn look(&mut self, process: &Process) -> String {
        let running = ProcDir::open_same(process.id)
            .is_some()
            .then(|| PathBuf::from(format!("/proc/{}/exe", process.id.tgid)));
        let path = Path::new(std::ffi::OsStr::from_bytes(&process.image.executable));
        let places = running.iter().map(PathBuf::as_path).chain([path]);
        for place in places {
            if let Ok(digest) = self.of_file(place, process.image.inode) {
                return digest;
            }
        }
        String::new()
    }

    fn of_file(&mut self, path: &Path, inode: u64) -> io::Result<String> {
        // What is no file any more must not hold anybody up.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
        let found = file.metadata()?;
        if !found.is_file() || found.ino() != inode || found.len() > FILE_MAX {
            return Err(io::ErrorKind::NotFound.into());
        }
        let content = (
            found.dev(),
            found.ino(),
            found.len(),
            found.mtime(),
            found.mtime_nsec(),
        );
        if let Some(known) = self.known.get(&content) {
            return Ok(known.clone());
        }
        let digest = digest(&mut file)?;
        self.known.put(content, digest.clone());
        Ok(digest)
    }
}

fn digest(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut file = file.take(FILE_MAX);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => hasher.update(&buffer[..length]),
        }
    }
    Ok(hex(&hasher.finalize()))
}
