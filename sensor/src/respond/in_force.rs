//! What was done and holds, until it is undone or its time is over.

use std::{collections::VecDeque, sync::Arc};

use sensor_common::FileKey;

use super::{ActionKind, ActionResult, Outcome, Target};

/// As many are remembered, however much else there was since; the oldest goes first.
const MOST: usize = 1_024;

/// Something that was done and holds.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) outcome: Arc<Outcome>,
    /// Which executable is blocked, where that is known.
    pub(super) file: Option<FileKey>,
}

/// What can be undone, the latest last. One for a target, but for files: what was taken from the same place twice is two files.
#[derive(Debug, Default)]
pub(super) struct InForce(VecDeque<Kept>);

impl InForce {
    /// Takes note of an outcome. `undoes` is the number of what it undoes, where that is known; `file` is the executable that it is about.
    pub(super) fn note(&mut self, outcome: &Arc<Outcome>, undoes: Option<u64>, file: Option<FileKey>) {
        let kind = outcome.action.kind;
        match outcome.result {
            // The account is locked until somebody unlocks it.
            ActionResult::Expired if kind != ActionKind::Revoke => {
                self.0.retain(|kept| kept.outcome.number != outcome.number);
            }
            ActionResult::Done if kind.is_undoing() => self.undo(outcome, undoes),
            ActionResult::Done if kind.undone_by().is_some() => {
                let is_same = |kept: &Kept| {
                    let Outcome { number, action, .. } = &*kept.outcome;
                    *number == outcome.number
                        || action.kind == kind
                            && action.target == outcome.action.target
                            && !matches!(action.target, Target::File(_))
                };
                self.0.retain(|kept| !is_same(kept));
                self.make_room();
                self.0.push_back(Kept {
                    outcome: Arc::clone(outcome),
                    file,
                });
            }
            _ => {}
        }
    }

    /// The oldest goes; who is stopped goes first, since of those there may be many.
    fn make_room(&mut self) {
        if self.0.len() < MOST {
            return;
        }
        let is_stopped = |kept: &Kept| kept.outcome.action.kind == ActionKind::Suspend;
        let at = self.0.iter().position(is_stopped).unwrap_or(0);
        self.0.remove(at);
    }

    fn undo(&mut self, outcome: &Outcome, undoes: Option<u64>) {
        let is_undone = |kept: &Kept| {
            kept.outcome.action.kind.undone_by() == Some(outcome.action.kind)
                && kept.outcome.action.target == outcome.action.target
        };
        let undone = match undoes {
            Some(number) => self.0.iter().rposition(|kept| kept.outcome.number == number),
            None => self.0.iter().rposition(is_undone),
        };
        if let Some(at) = undone {
            self.0.remove(at);
        }
    }

    /// What was done under a number, if it holds.
    pub(super) fn get(&self, number: u64) -> Option<&Kept> {
        self.iter().find(|kept| kept.outcome.number == number)
    }

    /// The latest last.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Kept> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        respond::{Action, Mark},
        time::WallTime,
    };

    fn outcome(number: u64, kind: ActionKind, path: &str, result: ActionResult) -> Arc<Outcome> {
        Arc::new(Outcome {
            number,
            action: Action {
                kind,
                target: match kind {
                    ActionKind::Quarantine | ActionKind::Restore => Target::File(path.into()),
                    ActionKind::Revoke => Target::User(7),
                    _ => Target::Executable(path.into()),
                },
                ..Action::default()
            },
            result,
            detail: String::new(),
            who: "policy".into(),
            time: WallTime(0),
            latency: Duration::ZERO,
            mark: Mark::default(),
        })
    }

    fn numbers(in_force: &InForce) -> Vec<u64> {
        in_force.iter().map(|kept| kept.outcome.number).collect()
    }

    #[test]
    fn what_is_ordered_anew_undone_or_over_holds_no_more() {
        use ActionKind::{Block, Kill, Revoke, Unblock};
        use ActionResult::{Done, Expired, Failed};
        let mut in_force = InForce::default();
        for (number, kind, path, result) in [
            (1, Block, "/a", Done),
            (2, Block, "/b", Done),
            (3, Block, "/a", Done),
            (4, Block, "/c", Failed),
            (5, Kill, "/c", Done),
            (6, Revoke, "", Done),
        ] {
            in_force.note(&outcome(number, kind, path, result), None, None);
        }
        assert_eq!(numbers(&in_force), [2, 3, 6]);
        in_force.note(&outcome(7, Unblock, "/a", Failed), Some(3), None);
        in_force.note(&outcome(2, Block, "/b", Expired), None, None);
        in_force.note(&outcome(6, Revoke, "", Expired), None, None);
        assert_eq!(numbers(&in_force), [3, 6]);
        in_force.note(&outcome(8, Unblock, "/a", Done), None, None);
        assert_eq!(numbers(&in_force), [6]);
    }

    #[test]
    fn files_from_the_same_place_are_undone_one_by_one() {
        use ActionKind::{Quarantine, Restore};
        use ActionResult::Done;
        let mut in_force = InForce::default();
        for number in 1..=3 {
            in_force.note(&outcome(number, Quarantine, "/a", Done), None, None);
        }
        in_force.note(&outcome(4, Restore, "/a", Done), Some(2), None);
        assert_eq!(numbers(&in_force), [1, 3]);
        in_force.note(&outcome(5, Restore, "/a", Done), None, None);
        assert_eq!(numbers(&in_force), [1]);
    }
}
