//! Sensor's public wire contract, generated from `sensor/v1/*.proto`, and what both ends of a stream
//! need to agree on: [`Filter`](v1::Filter) matching.

mod filter;

pub use filter::signal_name;

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
    tonic::include_proto!("sensor.v1");
}

/// The compiled `.proto` files, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Version of the agent-to-collector protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;
