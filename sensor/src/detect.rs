//! What is unusual: an [`Event`](crate::host::Event) goes in, [`Signal`]s and [`Incident`]s come out.
//!
//! Invariants:
//! - The same events give the same findings, ids included: time is the events' own, and no randomness is used.
//! - The models and the open incidents are bounded; an attacker can push out the oldest, not grow them.
//! - What was flagged is not learned because it happens again.

mod detector;
mod facts;
mod incident;
mod lineage;
mod normal;
mod origin;
mod signal;

pub use detector::{Detector, Findings};
pub use incident::{Incident, Incidents, Severity};
pub use lineage::{Lineage, SubjectKind};
pub use origin::{Entry, Origin, Origins, Side};
pub use signal::Signal;
