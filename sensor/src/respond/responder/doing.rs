//! What is decided is done: at once, or by a thread of its own.

use std::sync::Arc;

use rustix::process::Signal;

use super::{
    super::{
        ActionKind, ActionResult, POLICY,
        kill::{Held, Missed, WAIT},
        order::Order,
        standing::{Change, STOPPED, of_state},
        tree::{self, Descendant, Felled},
    },
    Done, Responder,
};
use crate::{
    host::{Process, ProcessId, Tree},
    time::BootTime,
};

impl Responder {
    /// Nothing stands against it any more but the target itself.
    pub(super) fn carry_out(&mut self, mut order: Order, processes: &Tree) {
        // Of what has ended there is no bundle. Who gives an order does not wait for one; who approves what the policy proposed does. Whom a bundle stops,
        // it lets go on at its end: so whoever stays stopped is stopped then, and another bundle made.
        let waits = &*order.who == POLICY
            || !order.action.incident.is_empty()
            || matches!(order.action.kind, ActionKind::Suspend | ActionKind::Collect);
        if let Some(id) = order.action.target.process().filter(|_| waits)
            && let Some(parked) = self.collecting.get_mut(&id)
        {
            return parked.push(order);
        }
        let signal = match (order.action.kind, order.action.target.process()) {
            (ActionKind::KillTree, Some(id)) => {
                order.change.before = self.standing(&order.action, order.file());
                return self.fell(order, id, processes);
            }
            (ActionKind::Kill, Some(id)) => (id, Signal::KILL),
            (ActionKind::Suspend, Some(id)) => (id, Signal::STOP),
            (ActionKind::Resume, Some(id)) => (id, Signal::CONT),
            _ => {
                order.change.before = self.standing(&order.action, order.file());
                return self.take_measure(order, processes);
            }
        };
        let (result, detail) = self.signal(signal.0, signal.1, &mut order.change);
        self.end(&order, result, detail);
    }

    pub(super) fn signal(
        &self,
        id: ProcessId,
        signal: Signal,
        change: &mut Change,
    ) -> (ActionResult, String) {
        let held = Held::new(id, self.births.as_deref(), |executable| {
            match signal {
                // Who was stopped before they were protected goes on all the same.
                Signal::CONT => Ok(()),
                _ => self.guard.check_running(id.tgid, executable),
            }
        });
        let done = held.and_then(|held| held.signal(signal).map(|()| held));
        let held = match done {
            Ok(held) => held,
            Err(missed) => return missed.into_result(),
        };
        let (after, detail) = match signal {
            Signal::STOP => (STOPPED, "the process was stopped".to_owned()),
            Signal::CONT => ("running", "the process goes on".to_owned()),
            _ if held.ended_within(WAIT) => ("ended", "the process was killed and has ended".to_owned()),
            _ => {
                let wait = WAIT.as_millis();
                let detail = format!("the process was killed; it had not yet ended after {wait} ms");
                ("ending", detail)
            }
        };
        *change = Change {
            before: of_state(held.state),
            after,
        };
        (ActionResult::Done, detail)
    }

    /// By whoever keeps what outlives its order.
    fn take_measure(&mut self, order: Order, processes: &Tree) {
        if order.action.kind == ActionKind::Collect
            && let Some(id) = order.action.target.process()
        {
            self.collecting.entry(id).or_default();
            let family = descendants(id, processes).into_iter().map(|known| known.id);
            let family = family.chain(ancestors(id, processes)).chain([id]).collect();
            return self.measures.take(order, self.recent.of(&family));
        }
        self.measures.take(order, Vec::new());
    }

    /// What was to be done to a process after its bundle was made is done now.
    pub(super) fn collected(&mut self, order: &Order, processes: &Tree) {
        if order.action.kind != ActionKind::Collect {
            return;
        }
        let parked = order
            .action
            .target
            .process()
            .and_then(|id| self.collecting.remove(&id));
        for order in parked.into_iter().flatten() {
            self.carry_out(order, processes);
        }
    }

    /// On a thread of its own: it takes long, and the events that it causes must be read meanwhile.
    fn fell(&mut self, order: Order, target: ProcessId, processes: &Tree) {
        let guard = self.guard.clone();
        let births = self.births.clone();
        let finished = self.finished.0.clone();
        let known = descendants(target, processes);
        // Until it is known who was killed: what descends from the root must go in any case.
        self.condemned.add([target], order.number, BootTime::now());
        let kept = order.clone();
        let thread = std::thread::Builder::new().name("respond".to_owned());
        let spawned = thread.spawn(move || {
            let felled = tree::fell(target, &known, births.as_deref(), |tgid, executable| {
                guard.check_member(tgid, executable)
            });
            // Nobody to hear it: the agent is ending.
            let _ = finished.send((order, Done::Felled(felled)));
        });
        if let Err(error) = spawned {
            self.condemned.spare(target);
            let detail = format!("cannot start the thread that does it: {error}");
            self.end(&kept, ActionResult::Failed, detail);
        }
    }

    pub(super) fn felled(&mut self, order: Order, felled: Result<Felled, Missed>) {
        let felled = match felled {
            Ok(felled) => felled,
            Err(missed) => {
                if let Some(id) = order.action.target.process() {
                    self.condemned.spare(id);
                }
                let (result, detail) = missed.into_result();
                return self.end(&order, result, detail);
            }
        };
        let mut detail = format!("{} processes were killed and have ended", felled.ended.len());
        if felled.lingering > 0 {
            detail.push_str(&format!(
                "; {} were killed and had not yet ended",
                felled.lingering
            ));
        }
        for (tgid, refusal) in &felled.spared {
            detail.push_str(&format!("; process {tgid} was spared: {refusal}"));
        }
        let mut result = ActionResult::Done;
        if let Some(error) = felled.failed {
            detail.push_str(&format!("; {error}"));
            result = ActionResult::Failed;
        }
        self.condemned.add(felled.ended, order.number, BootTime::now());
        self.end(&order, result, detail);
    }
}

impl Missed {
    fn into_result(self) -> (ActionResult, String) {
        match self {
            Self::Gone(why) => (ActionResult::Gone, why.to_owned()),
            Self::Refused(refusal) => (ActionResult::Refused, refusal.to_string()),
            Self::Failed(why) => (ActionResult::Failed, why),
        }
    }
}

/// What a process comes from, as far as is known.
fn ancestors(of: ProcessId, processes: &Tree) -> Vec<ProcessId> {
    const LIMIT: usize = 64;
    let mut found = Vec::new();
    let mut next = processes.get(of).and_then(|process| process.parent);
    while let Some(id) = next.filter(|_| found.len() < LIMIT) {
        found.push(id);
        next = processes.get(id).and_then(|process| process.parent);
    }
    found
}

/// What is known to descend from a process, wherever it is now.
/// Those with the fewest between first.
pub(super) fn descendants(root: ProcessId, processes: &Tree) -> Vec<Descendant> {
    let descends = |process: &Arc<Process>| {
        let mut between = Vec::new();
        let mut parent = process.parent?;
        // A process that is its own ancestor would be a defect of the tree, and no reason to hang.
        while parent != root {
            if between.len() >= 256 {
                return None;
            }
            between.push(parent);
            parent = processes.get(parent)?.parent?;
        }
        Some(Descendant {
            id: process.id,
            between,
        })
    };
    let mut found: Vec<Descendant> = processes.iter().filter_map(descends).collect();
    found.sort_by_key(|descendant| descendant.between.len());
    found
}
