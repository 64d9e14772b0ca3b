//! Recordings: the decoded stream of events in a file, and back. The same recording gives the same incidents on any machine.
//!
//! Little-endian. A file begins with `SNSR` and two bytes for the version of the format. Then come blocks, each with the length of what is stored (four bytes), the
//! length of what that is once decompressed (four) and the CRC-32 of what is stored (four), and then that: a Zstandard frame. In it are items as `postcard` encodes them: the
//! first of all says of which host the recording is; then which processes ran when it began, and events. A process is given once in a block and has
//! a number there, so that each block can be read without the others. The last block is empty: a recording without it was cut off.
//!
//! A recording is somebody else's file: lengths are bounded ([`BLOCK_MAX`]) before anything is allocated, what does not fit is an error that says
//! where, and numbers that mean nothing here (a call, a signal) are refused.
//!
//! Bounds: one block in memory, at most [`BLOCK_MAX`] bytes decompressed.

pub(crate) mod numbers;
mod read;
mod write;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    host::{Body, Event, Process, Thread},
    time::{BootTime, WallTime},
};

pub use read::Reader;
pub use write::Writer;

const MAGIC: [u8; 4] = *b"SNSR";
const VERSION: u16 = 1;
const HEAD: usize = 12;

/// What a recording ends with: an empty block.
pub const END: [u8; HEAD] = [0; HEAD];

/// Bytes of a block at most, decompressed.
pub const BLOCK_MAX: usize = 4 << 20;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The system says so.
    #[error("cannot read the recording: {0}")]
    Io(#[from] std::io::Error),
    /// Something else.
    #[error("this is no recording: it does not begin with \"SNSR\"; make one with `sensor record FILE`")]
    Foreign,
    /// Of another version of Sensor.
    #[error(
        "version {0} of the format, where this version of Sensor reads {VERSION}: replay it with the version that recorded it"
    )]
    Version(u16),
    /// It stops in the middle.
    #[error(
        "the recording is cut off after byte {0}: what comes before that was read; copy it again, or record anew"
    )]
    CutOff(u64),
    /// A block does not add up.
    #[error("the block at byte {at} is damaged: {why}; copy the recording again")]
    Damaged {
        /// Where the block begins.
        at: u64,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What a recording begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Name of the host.
    pub host: String,
    /// Version of the agent.
    pub agent: String,
    /// Release of its kernel.
    pub kernel: String,
    /// When it began.
    pub began: WallTime,
    /// The same in boot time.
    pub began_boot: BootTime,
}

/// What is in a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// Of which host it is.
    About(About),
    /// A process that ran when the recording began.
    Running(Arc<Process>),
    /// Something happened.
    Event(Arc<Event>),
    /// So many events were lost before they could be recorded.
    Lost(u64),
}

/// The same in a block.
#[derive(Serialize, Deserialize)]
enum Item {
    About(About),
    /// Gets the next number of the block.
    Process(Arc<Process>),
    Running(u32),
    Event(Happened),
    Lost(u64),
}

/// An event whose processes are numbers.
#[derive(Serialize, Deserialize)]
struct Happened {
    time: BootTime,
    wall: WallTime,
    cpu: u16,
    process: Option<u32>,
    parent: Option<u32>,
    thread: Thread,
    body: Body,
}

#[cfg(test)]
mod tests;
