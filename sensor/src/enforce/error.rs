//! Why a verdict is not carried out.

use std::path::PathBuf;

use aya::{EbpfError, maps::MapError};

use super::Destination;
use crate::capture::layout::LayoutError;

/// Why something is not refused in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum EnforceError {
    /// This binary was built without kernel programs.
    #[error(
        "this build of sensor has no kernel programs: the toolchain for them was missing; run `cargo xtask setup` and build again"
    )]
    NoObject,
    /// The kernel's layout could not be found out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The kernel refused the maps.
    #[error("the kernel refused the maps of verdicts: {0}")]
    Object(#[source] Box<EbpfError>),
    /// The kernel refused a program.
    #[error("the kernel does not take the program {program}: {reason}")]
    Program {
        /// Which.
        program: &'static str,
        /// In its own words.
        reason: String,
    },
    /// A map of verdicts could not be used.
    #[error("cannot use the map of verdicts: {0}")]
    Map(#[from] MapError),
    /// The cgroup cannot be used.
    #[error("verdicts on the network need a cgroup (v2): {0}")]
    Cgroup(String),
    /// There is no place for what is to outlive the agent.
    #[error(
        "{} is no BPF file system and none can be mounted there: {error}; mount one (`mount -t bpf bpf {}`) and give the agent CAP_SYS_ADMIN",
        path.display(), path.display()
    )]
    Bpffs {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Something cannot be kept.
    #[error("cannot keep {}: {reason}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no more room.
    #[error("there is room for {limit} {what}; lift some first")]
    Full {
        /// Of what.
        what: &'static str,
        /// For how many.
        limit: u32,
    },
    /// It would end before it began.
    #[error("the time until which it is to hold has passed already")]
    Past,
    /// It would hold too long.
    #[error("a verdict holds for 30 days at most; impose it again before it ends")]
    TooLong,
    /// A path that cannot be the kernel's.
    #[error(
        "{} cannot be named in a verdict: give an absolute path without `.` and `..`, of at most {} bytes, or the file itself",
        .0.display(), sensor_common::verdict::PATH_MAX
    )]
    Path(PathBuf),
    /// Would cut the host from itself.
    #[error(
        "{0} has the loopback network in it, without which the host cannot go on; name its parts, or isolate the host"
    )]
    Loopback(Destination),
    /// Would cut off everybody.
    #[error("the root of the hierarchy is the whole host; isolate it instead")]
    RootCgroup,
    /// Would cut off the agent.
    #[error("sensor itself is in it; name one that sensor is not in")]
    Own,
    /// Is nobody.
    #[error("processes without a login user are the host's services; name a user")]
    NobodyLoggedIn,
    /// Is gone.
    #[error("process {0} is not there any more")]
    Gone(u32),
    /// This process cannot be found out about.
    #[error("cannot read of this process in /proc: {0}")]
    Proc(std::io::Error),
}
