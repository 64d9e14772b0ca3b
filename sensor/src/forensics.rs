//! Evidence: what a process is and has at this moment, in one file that shows whether anybody changed it afterwards.
//!
//! ```text
//! collect: process ─▶ held ─▶ paused ─▶ parts ─▶ tar ─▶ zstd ─▶ FILE.partial ─▶ seal ─▶ FILE.tar.zst
//! verify:  FILE.tar.zst ─▶ seal ─▶ zstd ─▶ tar ─▶ parts against the manifest
//! ```
//!
//! A bundle is a Zstandard frame with a tar of plain files in it: the parts, then `manifest.json`, which has the SHA-256 of each, then
//! `manifest.sig`, the host's Ed25519 signature of the manifest. Behind the frame comes the seal, a skippable frame that every reader of
//! Zstandard passes over: it signs the SHA-256 of all bytes before it. The seal tells whether the file is what was written; the
//! manifest tells which part is not.
//!
//! Invariants:
//! - The evidence is of the process that was asked for: it is named by id and start time, and everything is read below one descriptor
//!   of its directory in `/proc`.
//! - The process goes on when it did before, however the collection ends, unless the collector is killed. Who was stopped stays stopped.
//! - PID 1, kernel threads and sensor itself are refused. What the guard protects is never paused; the manifest says so.
//! - The suspect is hostile: each part has a limit in bytes, the whole in bytes and in time. What was cut or could not be had is named
//!   in the manifest.
//! - A file is there whole or not at all, readable for its owner only.
//! - Environment and arguments pass through [`redact`]. Memory is raw, and taken only when asked for.

mod bundle;
mod collect;
mod descriptors;
mod directory;
mod family;
mod key;
mod manifest;
mod memory;
mod patient;
mod pause;
mod process;
mod redact;
mod seal;
mod sockets;
mod verify;

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

pub use collect::collect;
pub use key::{HostKey, PublicKey};
pub use manifest::{Manifest, Missing, Part, Paused, Target};
pub use memory::Region;
pub use verify::{Finding, Report, verify};

use crate::host::ProcessId;

/// Name of the directory in the agent's state directory where bundles go.
pub const DIRECTORY: &str = "forensics";

/// Least and most bytes that a bundle may be limited to, uncompressed.
pub const LIMITS: std::ops::RangeInclusive<u64> = (1 << 20)..=(4 << 30);

/// What is asked for.
pub struct Request {
    /// Of which process.
    pub target: ProcessId,
    /// Who wants it: `policy`, or a person.
    pub who: String,
    /// Why, in words.
    pub why: String,
    /// Because of which incident; empty if there is none.
    pub incident: String,
    /// Name of this host.
    pub host: String,
    /// Its last events, one JSON object a line, already redacted; `None` where nobody kept them.
    pub events: Option<Vec<u8>>,
    /// How much.
    pub options: Options,
    /// Set by somebody else to have it given up.
    pub stop: Arc<AtomicBool>,
}

/// How much is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which memory; none by default, since it is raw.
    pub memory: BTreeSet<Region>,
    /// Bytes of all parts together, within [`LIMITS`]; 256 MiB by default.
    pub limit: u64,
    /// Bytes of memory; 64 MiB by default.
    pub memory_limit: u64,
    /// Bytes of the executable; 128 MiB by default.
    pub executable_limit: u64,
    /// For how long the process may be paused; a minute by default. Whoever makes it take longer gets no bundle made of them.
    pub time_limit: Duration,
    /// Whether to pause it; yes by default.
    pub pause: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory: BTreeSet::new(),
            limit: 256 << 20,
            memory_limit: 64 << 20,
            executable_limit: 128 << 20,
            time_limit: Duration::from_secs(60),
            pause: true,
        }
    }
}

/// A bundle that was made.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// What is in it.
    pub manifest: Manifest,
}

/// What separates the parts of [`Bundle::in_words`], the last first.
const WORDS: [&str; 2] = [" bytes, SHA-256 ", ", "];

impl Bundle {
    /// Where and which, as an outcome tells of it.
    #[must_use]
    pub fn in_words(&self) -> String {
        let [digest, size] = WORDS;
        format!(
            "{}{size}{}{digest}{}",
            self.path.display(),
            self.size,
            self.sha256
        )
    }
}

/// Path, bytes and SHA-256 of the bundle that an outcome [tells of](Bundle::in_words).
#[must_use]
pub fn told(detail: &str) -> Option<(&str, u64, &str)> {
    let (rest, sha256) = detail.rsplit_once(WORDS[0])?;
    let (path, size) = rest.rsplit_once(WORDS[1])?;
    Some((path, size.parse().ok()?, sha256))
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum ForensicsError {
    /// The process is not there any more.
    #[error("no evidence of process {pid}: {why}")]
    Gone {
        /// Which process.
        pid: u32,
        /// How that is known.
        why: String,
    },
    /// Of this process none is taken.
    #[error("no evidence is taken of process {pid}: {why}")]
    Refused {
        /// Which process.
        pid: u32,
        /// Why not.
        why: String,
    },
    /// The kernel does not let us.
    #[error("cannot take hold of process {pid}: {why}; run it as root")]
    Held {
        /// Which process.
        pid: u32,
        /// What the kernel said.
        why: String,
    },
    /// The directory is not one to put evidence into.
    #[error("cannot put evidence into {}: {why}", path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// It cannot be written.
    #[error("cannot write {}: {cause}; nothing of it was kept", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The key that signs is of no use.
    #[error("cannot use the key {}: {why}", path.display())]
    Key {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// Reading does not end.
    #[error(
        "the evidence of process {pid} was not complete after {limit:?}, at {step}; it goes on, and nothing was kept"
    )]
    TooLong {
        /// Which process.
        pid: u32,
        /// What was being taken.
        step: String,
        /// How long it may take.
        limit: Duration,
    },
    /// Somebody had it given up.
    #[error("the collection was given up; the process goes on, and nothing was kept")]
    Stopped,
}

#[cfg(test)]
mod tests;
