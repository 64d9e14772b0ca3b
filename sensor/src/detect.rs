//! What is unusual: an [`Event`](crate::host::Event) goes in, [`Signal`]s and [`Incident`]s come out.
//!
//! Invariants:
//! - The same events give the same findings, ids included: time is the events' own, and no randomness is used.
//! - Rules ([`rules`](crate::rules)) speak beside the models; what both say of one event is one incident.
//! - The models and the open incidents are bounded; an attacker can push out the oldest, not grow them.
//! - What was flagged is not learned because it happens again.

mod beacons;
mod detector;
mod dossier;
mod exceptions;
mod facts;
mod incident;
mod incidents;
mod lineage;
mod models;
mod normal;
mod origin;
mod people;
#[cfg(test)]
mod poisoning;
mod reach;
mod recent;
mod ruled;
mod signal;
mod stakes;
mod tactics;
#[cfg(test)]
pub(crate) mod testing;
mod volumes;

pub use detector::{Detector, Findings};
pub use exceptions::{EXCEPTIONS, Exception, Scope, Verdict};
pub use incident::{Ended, Incident, Severity};
pub use incidents::Incidents;
pub use lineage::{Lineage, SubjectKind};
pub use models::{Model, StateError, Surprising};
pub use origin::{Entry, Origin, Origins, Side};
pub use signal::Signal;
pub use tactics::tactic_of;
