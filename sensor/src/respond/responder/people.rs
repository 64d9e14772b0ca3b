//! What a person wants done.

use std::sync::Arc;

use super::{
    super::{
        Action, ActionKind, ActionResult, Answer, Demand, Object, Outcome, Person, Proposal, Step, Target,
        Wish, order::Order, tree,
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
                Ok(self.order(action, process, person, Step::Undoing, processes))
            }
            Wish::Do(ref demand) => {
                let (target, process) = meant(demand, processes)?;
                let lasts = demand.lasts.or_else(|| self.policy.lasts(demand.kind));
                let action = Action::asked_for(demand.kind, target, lasts, person);
                Ok(self.order(action, process, person, Step::Proposed, processes))
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
        let done = |outcome: &&Arc<Outcome>| outcome.number == number && outcome.result == ActionResult::Done;
        let outcomes = self.undoable.iter().rev().chain(self.history.iter().rev());
        let outcome = outcomes.into_iter().find(done).ok_or_else(|| {
            format!("nothing was done under number {number}; `sensor respond history` lists what was")
        })?;
        let action = &outcome.action;
        let kind = action.kind.undone_by().ok_or_else(|| {
            format!(
                "number {number} cannot be undone: what {} does is for good",
                action.kind.name()
            )
        })?;
        let target = action.target.clone();
        let process = match target.process() {
            Some(id) => {
                let process = running(id.tgid, processes)?;
                if !same_tick(process.id.start, id.start) {
                    return Err(format!("the process of number {number} has ended"));
                }
                Some(process)
            }
            None => None,
        };
        Ok((Action::asked_for(kind, target, None, person), process))
    }

    fn order(
        &mut self,
        action: Action,
        process: Option<Arc<Process>>,
        person: &Person,
        step: Step,
        processes: &Tree,
    ) -> Answer {
        let mut order = Order {
            number: 0,
            action,
            process,
            who: person.name.clone(),
            since: BootTime::now(),
            ..Order::default()
        };
        order.number = self.write(&order, step, &person.why);
        self.obey(order, false, processes)
    }

    /// A person has decided; the guard has not yet. Beyond the limit, whoever gives an order is asked whether they mean it, and who
    /// approves means it.
    fn obey(&mut self, order: Order, is_approved: bool, processes: &Tree) -> Answer {
        let number = order.number;
        let check = self
            .guard
            .check_target(&order.action.target, order.process.as_deref());
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
        let verdict = match self.guard.check_target(target, process) {
            Ok(()) => "the guard lets it".to_owned(),
            Err(refusal) => format!("the guard refuses it: {refusal}"),
        };
        let Some(id) = target.process() else {
            return format!("{} would hit {target}; {verdict}", kind.name());
        };
        let hit = match kind {
            ActionKind::KillTree | ActionKind::Disconnect => tree::family(id, &descendants(id, processes)),
            _ => vec![id.tgid],
        };
        let hit: Vec<String> = hit.iter().map(u32::to_string).collect();
        format!(
            "{} would hit {} process{}: {}; {verdict}",
            kind.name(),
            hit.len(),
            if hit.len() == 1 { "" } else { "es" },
            hit.join(" ")
        )
    }
}

/// Whom or what a person means; what an action cannot be done to is said.
fn meant(demand: &Demand, processes: &Tree) -> Result<(Target, Option<Arc<Process>>), String> {
    let (target, process) = match &demand.object {
        Object::Pid(pid) => {
            let process = running(*pid, processes)?;
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
