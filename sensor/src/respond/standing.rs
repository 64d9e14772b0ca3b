//! How what an action is directed at stands, in a word: for the audit, before and after.

use std::path::Path;

use sensor_common::FileKey;

use super::{Action, ActionKind, Target, measures::file_key, revoke};
use crate::{
    enforce::{Destination, Subject, Verdict},
    host::{ProcessId, proc::ProcDir},
};

/// A process that does not run, and is not at its end.
pub(super) const STOPPED: &str = "stopped";

/// What an action has changed. Empty words where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) before: &'static str,
    pub(super) after: &'static str,
}

/// How it stands now. `held` is what the kernel refuses, `state` where locked accounts are kept.
pub(super) fn standing(
    action: &Action,
    file: Option<FileKey>,
    held: &[Verdict],
    state: Option<&Path>,
) -> &'static str {
    let is_held = held
        .iter()
        .any(|verdict| is_held_by(&verdict.subject, action, file));
    let either = |yes, no| if is_held { yes } else { no };
    match (action.kind, &action.target) {
        (ActionKind::Disconnect | ActionKind::Reconnect, _) => either("cut off", "connected"),
        (_, Target::Process(id)) => of_process(*id),
        (_, Target::Executable(_) | Target::Network(_)) => either("refused", "allowed"),
        (_, Target::Host) => either("isolated", "connected"),
        (_, Target::User(uid)) if state.is_some_and(|state| revoke::is_locked(state, *uid)) => "locked",
        (_, Target::User(_)) => "open",
        (_, Target::File(path)) if path.symlink_metadata().is_ok() => "there",
        (_, Target::File(_)) => "not there",
    }
}

fn of_process(id: ProcessId) -> &'static str {
    let stat = ProcDir::open_same(id).map(|(_, stat)| stat);
    stat.map_or("ended", |stat| of_state(stat.state))
}

/// The state letter of `/proc/PID/stat` in a word.
pub(super) fn of_state(state: u8) -> &'static str {
    match state {
        b'Z' | b'X' => "ended",
        b'T' | b't' => STOPPED,
        _ => "running",
    }
}

/// Whether a verdict is what an action is about, and `file`, where that is known, what it blocks.
pub(super) fn is_held_by(subject: &Subject, action: &Action, file: Option<FileKey>) -> bool {
    match (subject, file) {
        (Subject::File(key), Some(file)) => *key == file,
        _ => is_of(subject, action),
    }
}

/// Whether a verdict is what an action is about.
pub(super) fn is_of(subject: &Subject, action: &Action) -> bool {
    match (subject, &action.target) {
        (Subject::Tree(top), Target::Process(id)) => top == id,
        (Subject::Host, Target::Host) => true,
        (Subject::User(refused), Target::User(uid)) => refused == uid,
        (Subject::End(end), Target::Network(network)) => *end == Destination::all(*network),
        (Subject::Path(named), Target::Executable(path)) => named == path,
        (Subject::File(key), Target::Executable(path)) => file_key(path).as_ref() == Some(key),
        _ => false,
    }
}
