//! What the agent does about an incident, and what became of it.

use std::time::Duration;

use crate::{host::ProcessId, time::WallTime};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// End a process with `SIGKILL`.
    Kill,
}

/// Something to do about an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What to do.
    pub kind: ActionKind,
    /// To which process.
    pub target: ProcessId,
    /// Because of which incident.
    pub incident: Box<str>,
    /// Why, in words.
    pub reason: String,
}

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionResult {
    /// It was done.
    Done,
    /// In observe mode: it would have been done.
    Observed,
    /// The guard forbids it.
    Refused,
    /// It was tried and did not work.
    Failed,
    /// The process had already ended.
    Gone,
}

/// What became of an action, for the stream and the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was to be done.
    pub action: Action,
    /// What became of it.
    pub result: ActionResult,
    /// Why, in words.
    pub detail: String,
    /// When.
    pub time: WallTime,
    /// From the event to the end of the action.
    pub latency: Duration,
}
