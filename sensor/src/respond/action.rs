//! What the agent does about an incident, and what became of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Mark;
use crate::{host::ProcessId, time::WallTime};

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// End a process with `SIGKILL`.
    #[default]
    Kill,
    /// End it and all that descends from it.
    KillTree,
    /// Stop it with `SIGSTOP`: it runs no further, and can be looked at. Undone by [`Resume`](Self::Resume).
    Suspend,
    /// Let a stopped one go on with `SIGCONT`.
    Resume,
}

impl ActionKind {
    /// Its name, as configuration, audit and command line have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillTree => "kill_tree",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
        }
    }

    /// What undoes it, if anything does.
    #[must_use]
    pub fn undone_by(self) -> Option<Self> {
        match self {
            Self::Suspend => Some(Self::Resume),
            Self::Kill | Self::KillTree | Self::Resume => None,
        }
    }

    /// Whether it counts among the kills of a minute and of a day.
    #[must_use]
    pub fn is_kill(self) -> bool {
        matches!(self, Self::Kill | Self::KillTree)
    }
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What to do.
    pub kind: ActionKind,
    /// To which process.
    pub target: ProcessId,
    /// Because of which incident; empty if a person asked for it.
    pub incident: Box<str>,
    /// Why, in words.
    pub reason: String,
}

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionResult {
    /// It was done.
    Done,
    /// In observe mode: it would have been done.
    Observed,
    /// It waits for a person.
    Asked,
    /// A person does not want it.
    Denied,
    /// Nobody answered in time.
    Lapsed,
    /// The guard forbids it.
    Refused,
    /// It was tried and did not work, or not wholly.
    Failed,
    /// The process had already ended.
    Gone,
}

impl ActionResult {
    /// Its name, as audit and command line have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Observed => "observed",
            Self::Asked => "asked",
            Self::Denied => "denied",
            Self::Lapsed => "lapsed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

/// What became of an action, for the stream and the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Number of the proposal, by which it is approved, denied and undone: that of its line in the audit.
    pub number: u64,
    /// What was to be done.
    pub action: Action,
    /// What became of it.
    pub result: ActionResult,
    /// Why, in words.
    pub detail: String,
    /// Who decided: `policy`, `time`, or a person.
    pub who: Box<str>,
    /// When.
    pub time: WallTime,
    /// From the event, or the decision of a person, to the end of the action.
    pub latency: Duration,
    /// Where the audit has it.
    pub mark: Mark,
}
