//! What was done and holds, until it is undone or its time is over.

use std::{collections::VecDeque, sync::Arc};

use super::{ActionKind, ActionResult, Outcome, Target};

/// As many are remembered, however much else there was since; the oldest goes first.
const MOST: usize = 1_024;

/// Outcomes that can be undone, the latest last. One for a target, but for files: what was taken from the same place twice is two files.
#[derive(Debug, Default)]
pub(super) struct InForce(VecDeque<Arc<Outcome>>);

impl InForce {
    /// Takes note of an outcome. `undoes` is the number of what it undoes, where that is known.
    pub(super) fn note(&mut self, outcome: &Arc<Outcome>, undoes: Option<u64>) {
        let kind = outcome.action.kind;
        match outcome.result {
            // The account is locked until somebody unlocks it.
            ActionResult::Expired if kind != ActionKind::Revoke => {
                self.0.retain(|held| held.number != outcome.number);
            }
            ActionResult::Done if kind.is_undoing() => self.undo(outcome, undoes),
            ActionResult::Done if kind.undone_by().is_some() => {
                let is_same = |held: &Arc<Outcome>| {
                    held.number == outcome.number
                        || held.action.kind == kind
                            && held.action.target == outcome.action.target
                            && !matches!(held.action.target, Target::File(_))
                };
                self.0.retain(|held| !is_same(held));
                if self.0.len() >= MOST {
                    self.0.pop_front();
                }
                self.0.push_back(Arc::clone(outcome));
            }
            _ => {}
        }
    }

    fn undo(&mut self, outcome: &Outcome, undoes: Option<u64>) {
        let is_undone = |held: &Arc<Outcome>| {
            held.action.kind.undone_by() == Some(outcome.action.kind)
                && held.action.target == outcome.action.target
        };
        let undone = match undoes {
            Some(number) => self.0.iter().rposition(|held| held.number == number),
            None => self.0.iter().rposition(is_undone),
        };
        if let Some(at) = undone {
            self.0.remove(at);
        }
    }

    /// What was done under a number, if it holds.
    pub(super) fn get(&self, number: u64) -> Option<&Arc<Outcome>> {
        self.iter().find(|held| held.number == number)
    }

    /// The latest last.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Outcome>> {
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
        in_force.iter().map(|held| held.number).collect()
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
            in_force.note(&outcome(number, kind, path, result), None);
        }
        assert_eq!(numbers(&in_force), [2, 3, 6]);
        in_force.note(&outcome(7, Unblock, "/a", Failed), Some(3));
        in_force.note(&outcome(2, Block, "/b", Expired), None);
        in_force.note(&outcome(6, Revoke, "", Expired), None);
        assert_eq!(numbers(&in_force), [3, 6]);
        in_force.note(&outcome(8, Unblock, "/a", Done), None);
        assert_eq!(numbers(&in_force), [6]);
    }

    #[test]
    fn files_from_the_same_place_are_undone_one_by_one() {
        use ActionKind::{Quarantine, Restore};
        use ActionResult::Done;
        let mut in_force = InForce::default();
        for number in 1..=3 {
            in_force.note(&outcome(number, Quarantine, "/a", Done), None);
        }
        in_force.note(&outcome(4, Restore, "/a", Done), Some(2));
        assert_eq!(numbers(&in_force), [1, 3]);
        in_force.note(&outcome(5, Restore, "/a", Done), None);
        assert_eq!(numbers(&in_force), [1]);
    }
}
