//! Models of normal: pure and deterministic. No input or output, no clock, no threads, no randomness; the same
//! observations in the same order give the same opinions on any machine.
//!
//! Every model states how much memory it takes at most, and gives its reasons as data; sentences are made
//! elsewhere.

mod first_seen;

pub use first_seen::{FirstSeen, Learning, Limits, Opinion, Surprise};
