//! Sensor's public wire contract, generated from `sensor/v1/*.proto`, and what both ends of a stream
//! need to agree on: [`Filter`](v1::Filter) matching, the bounds of messages, and how one publisher's
//! entries reach many readers ([`fanout`]). And how both tell people of themselves: [`text`], [`metrics`].

mod batch;
mod bounded;
mod compressed;
pub mod fanout;
mod filter;
pub mod metrics;
mod names;
mod response;
pub mod text;

pub use batch::BatchError;
pub use bounded::{Bounded, BoundedDecoder, DECODED_BYTES_MAX, DecodeError, Shape, decode};
pub use compressed::{Compressor, DecompressError, decompress};
pub use filter::{FilterError, PATTERN_BYTES_MAX, PATTERNS_MAX, SIGNAL_NAMES, event_name, signal_name};
pub use names::{action_name, result_name};
pub use response::Entries;

/// The messages and services of package `sensor.v1`.
#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    reason = "generated"
)]
pub mod v1 {
    pub use super::response::SubscribeResponse;
    tonic::include_proto!("sensor.v1");
}

/// The compiled `.proto` files, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Version of the agent-to-collector protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// Longest message that either end of any stream accepts, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Longest single entry that is sent, in bytes: beside a full response or batch it still fits a message.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;

/// Most entries in a batch of `Deliver`.
pub const BATCH_ENTRIES_MAX: usize = 512;

/// Most processes of a batch. Each is there for an entry; an agent may have left some of those out at the last moment, because they were too long.
pub const PROCESSES_MAX: usize = 2 * BATCH_ENTRIES_MAX;

/// Longest process of a batch, in bytes. Agents cut its arguments long before.
pub const PROCESS_BYTES_MAX: usize = 256 << 10;

/// A batch of `Deliver` is closed when it has at least this many bytes.
pub const BATCH_BYTES: usize = 1 << 20;

/// Most entries in one response of `Subscribe`.
pub const RESPONSE_ENTRIES: usize = 256;

/// A response of `Subscribe` is closed when it has at least this many bytes.
pub const RESPONSE_BYTES: usize = 1 << 20;
