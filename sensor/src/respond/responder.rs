//! From an incident to an outcome.

use super::{
    Action, ActionResult, Guard, Mode, Outcome, Policy,
    kill::{Killed, WAIT, kill},
};
use crate::{
    config,
    detect::Incident,
    host::Process,
    time::{BootTime, WallTime},
};

/// Policy, guard and action, composed.
#[derive(Debug)]
pub struct Responder {
    policy: Policy,
    guard: Guard,
}

impl Responder {
    /// A responder for the process that calls this: it and its ancestors are what the guard spares.
    #[must_use]
    pub fn new(config: &config::Respond) -> Self {
        Self {
            policy: Policy::new(config),
            guard: Guard::new(config),
        }
    }

    /// Whether anything is done at all.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.policy.mode
    }

    /// Whether a process is one that no action may ever be directed at.
    #[must_use]
    pub fn protects(&self, process: &Process) -> bool {
        self.guard.protects(process)
    }

    /// Does what the incident asks for, if anything. Takes a few system calls and at most [`WAIT`] in act mode.
    pub fn respond(&mut self, incident: &Incident) -> Option<Outcome> {
        let action = self.policy.propose(incident)?;
        let (result, detail) = self.carry_out(&action, &incident.process, incident.updated_boot);
        let latency = BootTime::now().since(incident.updated_boot);
        Some(Outcome {
            action,
            result,
            detail,
            time: WallTime::now(),
            latency,
        })
    }

    fn carry_out(&mut self, action: &Action, target: &Process, now: BootTime) -> (ActionResult, String) {
        let allowed = self.guard.check(target).and_then(|()| self.guard.take(now));
        if let Err(refusal) = allowed {
            return (ActionResult::Refused, refusal.to_string());
        }
        if self.policy.mode == Mode::Observe {
            return (
                ActionResult::Observed,
                "respond.mode is \"observe\": nothing was done".to_owned(),
            );
        }
        match kill(action.target, |executable| {
            self.guard.check_executable(executable)
        }) {
            Killed::Ended => (
                ActionResult::Done,
                "the process was killed and has ended".to_owned(),
            ),
            Killed::Signalled => {
                let detail = format!(
                    "the process was killed; it had not yet ended after {} ms",
                    WAIT.as_millis()
                );
                (ActionResult::Done, detail)
            }
            Killed::Gone(why) => (ActionResult::Gone, why.to_owned()),
            Killed::Refused(refusal) => (ActionResult::Refused, refusal.to_string()),
            Killed::Failed(why) => (ActionResult::Failed, why),
        }
    }
}

#[cfg(test)]
mod tests;
