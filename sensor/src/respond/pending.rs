//! What waits for a person.

use std::{collections::BTreeMap, sync::Arc};

use super::Action;
use crate::{host::Process, time::BootTime};

/// Most proposals that wait at once; the oldest lapses for the newest.
const PENDING_MAX: usize = 256;

/// A proposal.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// By which it is approved and denied.
    pub number: u64,
    /// What to do.
    pub action: Action,
    /// The process that it is about, if any.
    pub process: Option<Arc<Process>>,
    /// Why it is not just done.
    pub because: String,
    /// When it lapses.
    pub until: BootTime,
}

/// Proposals, by number: the oldest first.
#[derive(Debug, Default)]
pub(super) struct Pending {
    proposals: BTreeMap<u64, Proposal>,
}

impl Pending {
    /// Adds one. If there are too many, the oldest, which nobody can approve any more.
    pub(super) fn add(&mut self, proposal: Proposal) -> Option<Proposal> {
        self.proposals.insert(proposal.number, proposal);
        if self.proposals.len() > PENDING_MAX {
            return self.proposals.pop_first().map(|(_, oldest)| oldest);
        }
        None
    }

    /// Whether the same waits already.
    pub(super) fn has(&self, action: &Action) -> bool {
        self.proposals
            .values()
            .any(|known| known.action.kind == action.kind && known.action.target == action.target)
    }

    pub(super) fn take(&mut self, number: u64) -> Option<Proposal> {
        self.proposals.remove(&number)
    }

    /// Takes out what nobody answered to in time.
    pub(super) fn lapsed(&mut self, now: BootTime) -> Vec<Proposal> {
        let is_over = |_: &u64, proposal: &mut Proposal| proposal.until <= now;
        self.proposals
            .extract_if(.., is_over)
            .map(|(_, proposal)| proposal)
            .collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Proposal> {
        self.proposals.values()
    }
}
