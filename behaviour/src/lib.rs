//! Models of normal: pure and deterministic. No input or output, no clock, no threads, no randomness; the same
//! observations in the same order give the same opinions on any machine.
//!
//! Every model states how much memory it takes at most, and gives its reasons as data, of which [`sentences`] makes sentences. What a model makes of something is a score; [`Conformal`] turns scores into p-values, [`fuse`] several p-values
//! into one.

mod budget;
mod calibration;
mod conformal;
pub mod correlation;
pub mod edges;
mod fusion;
pub mod habits;
pub mod novelty;
pub mod rates;
pub mod regularity;
pub mod sentences;
pub mod sequence;
mod snapshot;
mod special;
mod tail;
pub mod vectors;
pub mod windows;

pub use budget::Budget;
pub use calibration::{Bounds as CalibrationBounds, Calibration};
pub use conformal::Conformal;
pub use fusion::fuse;
pub use snapshot::{SNAPSHOT_MAX, SnapshotError};
pub use tail::{Tail, Tails};
