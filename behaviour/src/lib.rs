//! Models of normal: pure and deterministic. No input or output, no clock, no threads, no randomness; the same
//! observations in the same order give the same opinions on any machine.
//!
//! Every model states how much memory it takes at most, and gives its reasons as data; sentences are made
//! elsewhere. What a model makes of something is a score; [`Conformal`] turns scores into p-values, [`fuse`] several p-values
//! into one.

mod conformal;
mod first_seen;
mod fusion;
pub mod habits;
pub mod sequence;
mod snapshot;

pub use conformal::Conformal;
pub use first_seen::{FirstSeen, Learning, Limits, Opinion, Surprise};
pub use fusion::fuse;
pub use snapshot::{SNAPSHOT_MAX, SnapshotError};
