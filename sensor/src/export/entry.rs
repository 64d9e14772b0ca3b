//! One thing in the agent's stream.

use std::sync::Arc;

use crate::{
    detect::{Incident, Signal},
    host::Event,
    respond::Outcome,
    time::WallTime,
};

/// One thing in the agent's stream, shared by everyone who reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Something happened.
    Event(Arc<Event>),
    /// A model or rule has an opinion of it.
    Signal(Arc<Signal>),
    /// Signals that belong together; sent again whenever it grows.
    Incident(Arc<Incident>),
    /// What became of an action.
    Outcome(Arc<Outcome>),
    /// Events were lost.
    Loss(Loss),
}

impl Entry {
    /// What filters call it, the same as [`sensor_proto::signal_name`] says of what it is converted to.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Event(event) => event.body.signal().name(),
            Self::Signal(_) => "signal",
            Self::Incident(_) => "incident",
            Self::Outcome(_) => "outcome",
            Self::Loss(_) => "loss",
        }
    }
}

/// Events that were lost, and are said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where: `ring`, `subscriber`, `uplink`.
    pub stage: &'static str,
    /// Which signal; `None` for any.
    pub signal: Option<sensor_common::Signal>,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: &'static str,
    /// Beginning of the interval in which they were lost.
    pub from: WallTime,
    /// End of that interval.
    pub to: WallTime,
}
