//! What was to hold and does not: after a restart of the host, or when somebody has taken it apart.

use std::time::Duration;

use super::{
    super::{Came, Standing, failed},
    Kernel, file_key,
};
use crate::{
    enforce::{EnforceError, Enforcer, Subject, Verdict},
    host::proc::ProcDir,
    respond::{ActionKind, ActionResult, Guard, Target, order::Order, standing::is_of},
    time::BootTime,
};

impl Kernel {
    /// What of `past` the kernel was to refuse and does not, as after a restart of the host, is refused again for the time that is left. What came of each.
    pub(in crate::respond::measures) fn impose_again(
        &mut self,
        past: Vec<Standing>,
        guard: &Guard,
    ) -> Vec<(Order, ActionResult, String)> {
        let held = self.holding();
        let is_missing = |standing: &Standing| {
            let kind = standing.order.action.kind;
            // That a login may run programs again was told when it was so.
            let is_over = kind == ActionKind::Revoke && standing.left == Some(Duration::ZERO);
            kind.is_of_the_kernel()
                && !is_over
                && !held.iter().any(|verdict| standing.is_held_by(&verdict.subject))
        };
        let missing = past.into_iter().filter(is_missing);
        let came = missing
            .map(|Standing { mut order, left }| {
                if left == Some(Duration::ZERO) {
                    let over = "its time was over before the agent began again";
                    return (order, ActionResult::Expired, over.to_owned());
                }
                order.action.lasts = left;
                match self.try_again(&order, guard) {
                    Ok(detail) => (
                        order,
                        ActionResult::Done,
                        format!("the kernel had forgotten it, as it does when a host starts anew: {detail}"),
                    ),
                    Err((result, detail)) => (order, result, format!("it holds no more: {detail}")),
                }
            })
            .collect();
        // Without an audit nobody knows what the others hold for whom: it ends by itself.
        if let Some(enforcer) = self.enforcer.as_ref().filter(|_| self.means.state.is_some()) {
            enforcer.forget_others();
        }
        came
    }

    fn try_again(&mut self, order: &Order, guard: &Guard) -> Came {
        let over = |why: &str| Err((ActionResult::Expired, why.to_owned()));
        let check = match &order.action.target {
            Target::Process(id) => match ProcDir::open_same(*id) {
                Some((process, _)) => guard.check_member(id.tgid, &process.executable().0),
                None => return over("the process has ended"),
            },
            target => guard.check_target(target, None),
        };
        check.map_err(|refusal| (ActionResult::Refused, refusal.to_string()))?;
        match &order.action.target {
            // What lies there now was never meant, and a device may have another number now.
            Target::Executable(path) if order.file.is_some() && file_key(path) != order.file => {
                over("the file that was run is not at its path any more")
            }
            Target::User(uid) => {
                self.refuse_user(*uid, order, guard).map_err(failed)?;
                Ok("nothing of that login may run".to_owned())
            }
            _ => self.impose(order, guard),
        }
    }

    /// Puts everything back if somebody has tampered with it. What they did, in words, the first time.
    pub(in crate::respond::measures) fn mend(&mut self, guard: &Guard) -> Option<String> {
        let Some(what) = self.enforcer.as_ref().and_then(Enforcer::tampered) else {
            self.is_broken = false;
            return None;
        };
        let held = self.holding();
        let former = self.enforcer.take()?;
        self.enforcer = Some(former.anew());
        let put_back = self.hold_again(&held, &former, guard);
        match put_back {
            Ok(()) => {
                // What is refused from now on is counted from nothing.
                self.seen.clear();
                Some(format!("{what}; all that was refused is refused again"))
            }
            Err(error) => {
                // As much of it as there is goes on meanwhile.
                self.enforcer = Some(former);
                let was_broken = std::mem::replace(&mut self.is_broken, true);
                (!was_broken).then(|| format!("{what}; it cannot be put back ({error}) and is tried again"))
            }
        }
    }

    fn hold_again(&mut self, held: &[Verdict], former: &Enforcer, guard: &Guard) -> Result<(), EnforceError> {
        let now = BootTime::now();
        for verdict in held.iter().filter(|verdict| verdict.until > now) {
            self.carry_out(std::slice::from_ref(&verdict.subject), verdict.until, guard)?;
        }
        self.ready(guard)?.take_over(former)
    }
}

impl Standing {
    /// Whether it is what a verdict is for.
    pub(super) fn is_held_by(&self, subject: &Subject) -> bool {
        match (subject, self.order.file()) {
            (Subject::File(key), Some(file)) => *key == file,
            _ => is_of(subject, &self.order.action),
        }
    }
}
