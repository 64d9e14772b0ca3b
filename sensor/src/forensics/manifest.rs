//! What a bundle says of itself: `manifest.json`.

use serde::{Deserialize, Serialize};

/// Version of the format.
pub(super) const VERSION: u32 = 1;

/// Name of the manifest among the parts.
pub(super) const MANIFEST: &str = "manifest.json";

/// Name of its signature: 64 bytes, of the manifest's bytes as they are.
pub(super) const SIGNATURE: &str = "manifest.sig";

/// Longest manifest that is read or written: some thousand parts.
pub(super) const MANIFEST_MAX: u64 = 4 << 20;

/// Most parts of a bundle.
pub(super) const PARTS_MAX: usize = 8_192;

/// What is in a bundle, of whom, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format; 1.
    pub version: u32,
    /// Version of Sensor.
    pub sensor: String,
    /// Name of the host.
    pub host: String,
    /// Release of its kernel.
    pub kernel: String,
    /// When it was begun, in nanoseconds since the epoch.
    pub began_ns: u64,
    /// When it was ended.
    pub ended_ns: u64,
    /// Who wanted it.
    pub who: String,
    /// Why.
    pub why: String,
    /// Because of which incident; empty if there is none.
    pub incident: String,
    /// Of which process.
    pub target: Target,
    /// Whether the process was paused meanwhile.
    pub paused: Paused,
    /// The parts, in their order.
    pub parts: Vec<Part>,
    /// Bytes of all parts together.
    pub total: u64,
    /// What could not be had, or not whole.
    pub missing: Vec<Missing>,
    /// What memory was asked for; empty for none.
    pub memory: Vec<String>,
    /// The host's public key, in hexadecimal.
    pub key: String,
}

/// Of which process a bundle is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// When it began, in nanoseconds of `CLOCK_BOOTTIME`, rounded down to a tick.
    pub start_ns: u64,
    /// What it ran; empty if that may not be known.
    pub executable: String,
    /// Whether no name leads to that file any more.
    pub deleted: bool,
}

/// Whether a process was paused while it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "why")]
pub enum Paused {
    /// It was stopped, and resumed afterwards.
    Stopped,
    /// It was told to stop and ran, or hung, on: what was taken may not fit together.
    Running,
    /// It had been stopped by somebody else, or was being traced, and was left so.
    Before,
    /// It was not to be, for this reason.
    Not(String),
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the tar.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
    /// What is not in it, if it is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<String>,
}

/// What is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}
