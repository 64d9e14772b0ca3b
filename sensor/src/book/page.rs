//! One incident in the book.

use std::sync::Arc;

use sensor_proto::v1;

use super::{advice, hashes::Hashes};
use crate::detect::Incident;

/// Outcomes of an incident that are kept: the first ones and the latest.
const OUTCOMES: usize = 64;

/// What is kept of an incident.
pub(super) struct Page {
    /// As it is shown.
    pub(super) told: v1::Incident,
    /// By what it goes on, while it does.
    pub(super) memory: Option<Arc<Incident>>,
}

impl Page {
    /// A new state of an incident, of which this is `known`.
    pub(super) fn of(
        incident: Arc<Incident>,
        mut told: v1::Incident,
        known: Option<Self>,
        hashes: &mut Hashes,
    ) -> Self {
        let known = known.map(|page| page.told).unwrap_or_default();
        told.outcomes = known.outcomes;
        // A verdict is the last word.
        let is_closed = known
            .ended
            .as_ref()
            .is_some_and(|ended| ended.reason() == v1::ending::Reason::Closed);
        if is_closed {
            told.ended = known.ended;
        }
        for (involved, process) in told.processes.iter_mut().zip(&incident.processes) {
            let same = |other: &&v1::Involved| other.process == involved.process && !other.sha256.is_empty();
            involved.sha256 = match known.processes.iter().find(same) {
                Some(other) => other.sha256.clone(),
                None => hashes.of(process),
            };
        }
        told.next_step = advice::next_step(&told);
        let goes_on = told.ended.is_none() && incident.ended.is_none();
        Self {
            told,
            memory: goes_on.then_some(incident),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.told.id
    }

    /// Of which incident it turned out to be a part, if it did and something was done about it: the other's id, and what was done.
    pub(super) fn part_of(&self) -> Option<(String, Vec<v1::Outcome>)> {
        let ended = self.told.ended.as_ref()?;
        let is_part = ended.reason() == v1::ending::Reason::Merged && !self.told.outcomes.is_empty();
        is_part.then(|| (ended.into.clone(), self.told.outcomes.clone()))
    }

    /// This was done about a part of it.
    pub(super) fn join(&mut self, outcomes: Vec<v1::Outcome>) {
        for outcome in outcomes {
            let is_same = |known: &v1::Outcome| {
                (known.number, known.time_ns, known.result)
                    == (outcome.number, outcome.time_ns, outcome.result)
            };
            if !self.told.outcomes.iter().any(is_same) {
                self.done(outcome);
            }
        }
        self.told.outcomes.sort_by_key(|outcome| outcome.time_ns);
        self.told.next_step = advice::next_step(&self.told);
    }

    /// Something was done about it.
    pub(super) fn done(&mut self, outcome: v1::Outcome) {
        let outcomes = &mut self.told.outcomes;
        if outcomes.len() >= OUTCOMES {
            outcomes.remove(OUTCOMES / 2);
        }
        outcomes.push(outcome);
        self.told.next_step = advice::next_step(&self.told);
    }
}
