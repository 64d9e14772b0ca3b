//! What the agent does about an incident, and what became of it.

use std::{fmt, path::PathBuf, time::Duration};

use ipnet::IpNet;
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
    /// Let a process, and what descends from it, reach nobody over a network.
    Disconnect,
    /// Let it again.
    Reconnect,
    /// Have the kernel stop an executable from running, or anybody from reaching a network, for a time.
    Block,
    /// Let it again.
    Unblock,
    /// Cut the host off from all networks but the collector, loopback and what is listed, for a time.
    Isolate,
    /// Connect it again.
    Release,
    /// End a user's sessions, lock the account and let nothing of that login run any more.
    Revoke,
    /// Give it all back.
    Reinstate,
    /// Take a file away to where nobody can run it.
    Quarantine,
    /// Put it back.
    Restore,
    /// Make a forensic bundle of a process.
    Collect,
}

impl ActionKind {
    /// All there are.
    pub const ALL: [Self; 15] = [
        Self::Kill,
        Self::KillTree,
        Self::Suspend,
        Self::Resume,
        Self::Disconnect,
        Self::Reconnect,
        Self::Block,
        Self::Unblock,
        Self::Isolate,
        Self::Release,
        Self::Revoke,
        Self::Reinstate,
        Self::Quarantine,
        Self::Restore,
        Self::Collect,
    ];

    /// Its name, as configuration, audit and command line have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillTree => "kill_tree",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Disconnect => "disconnect",
            Self::Reconnect => "reconnect",
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::Isolate => "isolate",
            Self::Release => "release",
            Self::Revoke => "revoke",
            Self::Reinstate => "reinstate",
            Self::Quarantine => "quarantine",
            Self::Restore => "restore",
            Self::Collect => "collect",
        }
    }

    /// What undoes it, if anything does.
    #[must_use]
    pub fn undone_by(self) -> Option<Self> {
        Some(match self {
            Self::Suspend => Self::Resume,
            Self::Disconnect => Self::Reconnect,
            Self::Block => Self::Unblock,
            Self::Isolate => Self::Release,
            Self::Revoke => Self::Reinstate,
            Self::Quarantine => Self::Restore,
            _ => return None,
        })
    }

    /// Whether it takes something from somebody, and so counts among what is allowed in a minute and in a day.
    #[must_use]
    pub fn is_limited(self) -> bool {
        matches!(self, Self::Kill | Self::KillTree) || (self.undone_by().is_some() && self != Self::Suspend)
    }

    /// Whether it holds because the kernel refuses something.
    #[must_use]
    pub fn is_of_the_kernel(self) -> bool {
        matches!(
            self,
            Self::Block | Self::Disconnect | Self::Isolate | Self::Revoke
        )
    }

    /// Whether it can be done to such a target.
    #[must_use]
    pub fn fits(self, target: &Target) -> bool {
        match self {
            Self::Block | Self::Unblock => matches!(target, Target::Executable(_) | Target::Network(_)),
            Self::Isolate | Self::Release => matches!(target, Target::Host),
            Self::Revoke | Self::Reinstate => matches!(target, Target::User(_)),
            Self::Quarantine | Self::Restore => matches!(target, Target::File(_)),
            _ => matches!(target, Target::Process(_)),
        }
    }

    /// Whether it only takes back what was done.
    #[must_use]
    pub fn is_undoing(self) -> bool {
        Self::ALL.iter().any(|kind| kind.undone_by() == Some(self))
    }
}

/// Whom or what an action is directed at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A process.
    Process(ProcessId),
    /// An executable, by its path on the host.
    #[serde(with = "path_text")]
    Executable(PathBuf),
    /// Addresses.
    Network(IpNet),
    /// This host.
    #[default]
    Host,
    /// An account, by its user id.
    User(u32),
    /// A file, by its path on the host.
    #[serde(with = "path_text")]
    File(PathBuf),
}

/// A path as text. What is not UTF-8 in it can be written, and is not the same when it is read.
mod path_text {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&path.to_string_lossy())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        String::deserialize(deserializer).map(Into::into)
    }
}

impl Target {
    /// The process, if it is one.
    #[must_use]
    pub fn process(&self) -> Option<ProcessId> {
        match self {
            Self::Process(id) => Some(*id),
            _ => None,
        }
    }
}

/// For people: paths are others' words, and shown as such.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(id) => write!(f, "[{}]", id.tgid),
            Self::Executable(path) | Self::File(path) => {
                write!(f, "{}", path.to_string_lossy().escape_debug())
            }
            Self::Network(network) => write!(f, "{network}"),
            Self::Host => f.write_str("this host"),
            Self::User(uid) => write!(f, "user {uid}"),
        }
    }
}

/// Something to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// What to do.
    pub kind: ActionKind,
    /// To whom or what.
    pub target: Target,
    /// For how long; `None` where it is for good, or until it is undone.
    pub lasts: Option<Duration>,
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
    /// It was done, and its time is over.
    Expired,
    /// It holds, and the kernel has refused what it forbids.
    Stopped,
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
            Self::Expired => "expired",
            Self::Stopped => "stopped",
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
