//! What a person wants done.

use std::sync::Arc;

use super::{
    super::{
        Action, ActionKind, ActionResult, Answer, Demand, Object, Outcome, Person, Proposal, Step, Target,
        Wish, measures::file_key, order::Order, tree,
    },
    Responder,
    doing::descendants,
};
use crate::{
    host::{Process, Tree, proc::same_tick},
    time::BootTime,
};

impl Responder {
    /// Does what a person wants, if the guard lets it.
    ///
    /// # Errors
    /// If there is no such proposal, outcome or process; in words for the person.
    pub fn fulfil(&mut self, wish: &Wish, person: &Person, processes: &Tree) -> Result<Answer, String> {
        let now = BootTime::now();
        match *wish {
            Wish::Approve(number) => {
                let order = Order::of(self.waiting(number)?, &person.name, now);
                self.write(&order, Step::Approved, &person.why);
                Ok(self.obey(order, true, processes))
            }
            Wish::Deny(number) => {
                let order = Order::of(self.waiting(number)?, &person.name, now);
                self.end(&order, ActionResult::Denied, person.why.clone());
                Ok(self.answer(number))
            }
            Wish::Undo(number) => {
                let (action, process) = self.undoing(number, person, processes)?;
                let order = Order {
                    undoes: Some(number),
                    ..Order::asked_for(action, process, person)
                };
                Ok(self.order(order, Step::Undoing, person, processes))
            }
            Wish::Do(ref demand) => {
                let (target, process) = meant(demand, processes)?;
                let lasts = demand.lasts.or_else(|| self.policy.lasts(demand.kind));
                // A path may lead to something else later.
                let file = match &target {
                    Target::Executable(path) => file_key(path),
                    _ => None,
                };
                let action = Action::asked_for(demand.kind, target, lasts, &demand.incident, person);
                let order = Order {
                    file,
                    bundle: demand.bundle.clone(),
                    ..Order::asked_for(action, process, person)
                };
                Ok(self.order(order, Step::Proposed, person, processes))
            }
            Wish::Try(ref demand) => {
                let (target, process) = meant(demand, processes)?;
                let plan = self.plan(demand.kind, &target, process.as_deref(), processes);
                Ok(Answer::Plan(plan))
            }
        }
    }

    fn waiting(&mut self, number: u64) -> Result<Proposal, String> {
        self.pending.take(number).ok_or_else(|| {
            format!("nothing waits under number {number}; `sensor respond pending` lists what does")
        })
    }

    /// What undoes the outcome `number`.
    fn undoing(
        &self,
        number: u64,
        person: &Person,
        processes: &Tree,
    ) -> Result<(Action, Option<Arc<Process>>), String> {
        let held = self.in_force.get(number).map(|held| &held.outcome.action);
        let action = held.ok_or_else(|| self.why_not(number))?;
        let kind = action.kind.undone_by().ok_or_else(|| self.why_not(number))?;
        let target = action.target.clone();
        let process = match target.process() {
            // Its descendants are cut off, whether it lives or not.
            Some(id) if kind == ActionKind::Reconnect => processes.get(id).cloned(),
            Some(id) => {
                let process = running(id.tgid, processes)?;
                if !same_tick(process.id.start, id.start) {
                    return Err(format!("the process of number {number} has ended"));
                }
                Some(process)
            }
            None => None,
        };
        Ok((Action::asked_for(kind, target, None, "", person), process))
    }

    /// Why nothing is undone that bears this number.
    fn why_not(&self, number: u64) -> String {
        let is_it =
            |outcome: &&Arc<Outcome>| outcome.number == number && outcome.result == ActionResult::Done;
        let done = self.history.iter().rev().find(is_it).map(|done| done.action.kind);
        match done {
            None => format!(
                "nothing is done under number {number}; `sensor respond holding` lists what can be undone"
            ),
            Some(kind) if kind.undone_by().is_none() => {
                format!(
                    "number {number} cannot be undone: what {} does is for good",
                    kind.name()
                )
            }
            Some(_) => format!(
                "number {number} holds no more: it was undone or ordered anew, or its time is over; `sensor respond holding` lists what can be undone"
            ),
        }
    }

    fn order(&mut self, mut order: Order, step: Step, person: &Person, processes: &Tree) -> Answer {
        order.number = self.write(&order, step, &person.why);
        self.obey(order, false, processes)
    }

    /// A person has decided; the guard has not yet. Beyond the limit, whoever gives an order is asked whether they mean it, and who
    /// approves means it.
    fn obey(&mut self, order: Order, is_approved: bool, processes: &Tree) -> Answer {
        let number = order.number;
        let check = self.check(order.action.kind, &order.action.target, order.process.as_deref());
        if let Err(refusal) = check {
            self.end(&order, ActionResult::Refused, refusal.to_string());
            return self.answer(number);
        }
        if order.action.kind.is_limited() {
            match self.guard.take(order.since) {
                Err(refusal) if !is_approved => {
                    self.ask(order, refusal.to_string(), BootTime::now());
                    return self.latest(number).map_or(Answer::Begun(number), Answer::Outcome);
                }
                Err(_) => self.guard.count(order.since),
                Ok(()) => {}
            }
        }
        self.carry_out(order, processes);
        self.answer(number)
    }

    /// The latest outcome, if it is of this number.
    fn latest(&self, number: u64) -> Option<Arc<Outcome>> {
        self.history
            .back()
            .filter(|outcome| outcome.number == number)
            .cloned()
    }

    fn answer(&self, number: u64) -> Answer {
        match self.latest(number) {
            Some(outcome) if outcome.result != ActionResult::Asked => Answer::Outcome(outcome),
            _ => Answer::Begun(number),
        }
    }

    fn plan(&self, kind: ActionKind, target: &Target, process: Option<&Process>, processes: &Tree) -> String {
        let refusal = self.check(kind, target, process).err();
        let verdict = match &refusal {
            None => "the guard lets it".to_owned(),
            Some(refusal) => format!("the guard refuses it: {refusal}"),
        };
        let Some(id) = target.process() else {
            return format!("{} would hit {target}; {verdict}", kind.name());
        };
        let (hit, spared) = match kind {
            ActionKind::KillTree if refusal.is_none() => {
                let guard = |tgid, executable: &[u8]| self.guard.check_member(tgid, executable);
                tree::family(id, &descendants(id, processes), guard)
            }
            ActionKind::Disconnect => tree::family(id, &descendants(id, processes), |_, _| Ok(())),
            _ => (vec![id.tgid], Vec::new()),
        };
        let hit: Vec<String> = hit.iter().map(u32::to_string).collect();
        let mut plan = format!(
            "{} would hit {} process{}: {}; {verdict}",
            kind.name(),
            hit.len(),
            if hit.len() == 1 { "" } else { "es" },
            hit.join(" ")
        );
        for (tgid, refusal) in spared {
            plan.push_str(&format!(
                "; process {tgid} would be spared, with what descends from it: {refusal}"
            ));
        }
        plan
    }
}

/// Whom or what a person means; what an action cannot be done to is said.
fn meant(demand: &Demand, processes: &Tree) -> Result<(Target, Option<Arc<Process>>), String> {
    let (target, process) = match &demand.object {
        Object::Pid(pid, start) => {
            let process = running(*pid, processes)?;
            if start.is_some_and(|start| !same_tick(process.id.start, start)) {
                return Err(format!(
                    "process {pid} is another by now than the one that was meant"
                ));
            }
            (Target::Process(process.id), Some(process))
        }
        Object::Target(target) => (target.clone(), None),
    };
    if demand.kind.fits(&target) {
        Ok((target, process))
    } else {
        Err(format!("{} cannot be done to {target}", demand.kind.name()))
    }
}

/// Who has this id now.
fn running(pid: u32, processes: &Tree) -> Result<Arc<Process>, String> {
    let process = processes.live_id(pid).and_then(|id| processes.get(id));
    process
        .cloned()
        .ok_or_else(|| format!("there is no process {pid}, or sensor has not heard of it yet"))
}
