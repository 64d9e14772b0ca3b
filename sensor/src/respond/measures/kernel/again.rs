//! What was to hold and does not: after a restart of the host, or when somebody has taken it apart.

use std::{path::Path, time::Duration};

use super::{
    super::{Came, Standing, failed},
    Kernel, file_key,
};
use crate::{
    enforce::{EnforceError, Enforcer, Subject, Verdict},
    host::proc::ProcDir,
    respond::{ActionKind, ActionResult, Guard, Target, order::Order, standing::is_held_by},
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
        let came: Vec<_> = missing
            .map(|mut standing| {
                if standing.left == Some(Duration::ZERO) {
                    let over = "its time was over before the agent began again";
                    return (standing.order, ActionResult::Expired, over.to_owned());
                }
                standing.order.action.lasts = standing.left;
                match self.try_again(&standing, guard) {
                    Ok(detail) => (
                        standing.order,
                        ActionResult::Done,
                        format!("the kernel had forgotten it, as it does when a host starts anew: {detail}"),
                    ),
                    Err((result, detail)) => (standing.order, result, format!("it holds no more: {detail}")),
                }
            })
            .collect();
        // Without an audit nobody knows what the others hold for whom, and what could not be put here may still hold there: it ends by itself.
        let is_all_here = came
            .iter()
            .all(|(_, result, _)| matches!(result, ActionResult::Done | ActionResult::Expired));
        if let Some(enforcer) = &self.enforcer
            && self.means.state.is_some()
            && is_all_here
        {
            enforcer.forget_others();
        }
        came
    }

    fn try_again(&mut self, standing: &Standing, guard: &Guard) -> Came {
        let order = &standing.order;
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
            Target::Executable(path) => match standing.blocked(path) {
                subjects if subjects.is_empty() => over("the file that was run is not at its path any more"),
                subjects => {
                    let lasts = order.action.lasts.unwrap_or_default();
                    self.impose_on(subjects, lasts, order, guard)
                }
            },
            Target::User(uid) => {
                self.refuse_user(*uid, order, guard).map_err(failed)?;
                Ok("nothing of that login may run".to_owned())
            }
            _ => self.impose(order, guard),
        }
    }

    /// Puts everything back if somebody has tampered with it. What they did, in words, the first time.
    pub(in crate::respond::measures) fn mend(&mut self, guard: &Guard) -> Option<String> {
        let Some(what) = self.tampered() else {
            self.is_broken = false;
            return None;
        };
        let former = self.enforcer.take()?;
        self.enforcer = Some(former.anew());
        let (held, failed) = self.hold_again(&former, guard);
        if !held.is_empty() || self.expected.is_empty() {
            // What is refused from now on is counted from nothing.
            self.seen.clear();
            self.expected = held;
            return Some(match failed {
                None => format!("{what}; all that was refused is refused again"),
                Some(error) => {
                    format!("{what}; what was refused is refused again, but not all of it: {error}")
                }
            });
        }
        // As much as there is of the former goes on meanwhile. What was begun anew must not be found instead.
        if let Some(begun) = &self.enforcer {
            begun.forget();
        }
        self.enforcer = Some(former);
        let was_broken = std::mem::replace(&mut self.is_broken, true);
        let error = failed.map_or_else(String::new, |error| error.to_string());
        (!was_broken).then(|| format!("{what}; it cannot be put back ({error}) and is tried again"))
    }

    /// What somebody else has done to what the kernel refuses, if anything.
    fn tampered(&self) -> Option<String> {
        let enforcer = self.enforcer.as_ref()?;
        if let Some(what) = enforcer.tampered() {
            return Some(what);
        }
        let now = BootTime::now();
        let held = enforcer.list().ok()?;
        let holds = |expected: &Verdict| {
            let held = held.iter().find(|verdict| verdict.subject == expected.subject);
            held.is_some_and(|held| held.until == expected.until)
        };
        let mut expected = self.expected.iter().filter(|verdict| verdict.until > now);
        let lost = expected.find(|verdict| !holds(verdict))?;
        Some(format!(
            "the verdict on the {} was taken out or changed",
            lost.subject
        ))
    }

    /// From now on the kernel is expected to refuse what it refuses now: to be called right after that was changed, and at no other time.
    pub(in crate::respond::measures) fn settle(&mut self) {
        self.expected = self.holding();
    }

    /// What was expected to be held is held here, as far as can be: that, and the first error.
    fn hold_again(&mut self, former: &Enforcer, guard: &Guard) -> (Vec<Verdict>, Option<EnforceError>) {
        let allowed = self.means.config.isolate_allow.clone();
        let now = BootTime::now();
        let (mut held, mut failed) = (Vec::new(), None);
        for verdict in self.expected.clone() {
            if verdict.until <= now {
                continue;
            }
            let done = self.ready(guard).and_then(|enforcer| match &verdict.subject {
                Subject::Host => enforcer.isolate(&allowed, verdict.until),
                subject => enforcer.hold(subject, verdict.until),
            });
            match done {
                Ok(()) => held.push(verdict),
                Err(error) => _ = failed.get_or_insert(error),
            }
        }
        let taken = self.ready(guard).and_then(|enforcer| enforcer.take_over(former));
        (held, failed.or(taken.err()))
    }
}

impl Standing {
    /// Whether it is what a verdict is for.
    pub(super) fn is_held_by(&self, subject: &Subject) -> bool {
        is_held_by(subject, &self.order.action, self.order.file())
    }

    /// What of an executable is blocked again, which was blocked by its `path`; nothing if that is not known any more. A person means the path, whatever
    /// lies there. What was blocked because it was run is a file: another one there was never meant, and since the host began anew a device may have another
    /// number.
    fn blocked(&self, path: &Path) -> Vec<Subject> {
        let is_there = self.order.file.is_some() && file_key(path) == self.order.file;
        let by_person = self.order.action.incident.is_empty();
        let file = self.order.file.filter(|_| is_there || self.same_boot);
        let path = (is_there || by_person).then(|| Subject::Path(path.to_owned()));
        file.map(Subject::File).into_iter().chain(path).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::Action;

    #[test]
    fn a_block_goes_by_what_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"").unwrap();
        let file = file_key(&path).unwrap();
        let standing = |incident: &str, same_boot| Standing {
            order: Order {
                action: Action {
                    kind: ActionKind::Block,
                    target: Target::Executable(path.clone()),
                    incident: incident.into(),
                    ..Action::default()
                },
                file: Some(file),
                ..Order::default()
            },
            left: Some(Duration::from_secs(60)),
            same_boot,
        };
        let (by_file, by_path) = (Subject::File(file), Subject::Path(path.clone()));
        for (incident, same_boot) in [("", true), ("", false), ("i", true), ("i", false)] {
            let blocked = standing(incident, same_boot).blocked(&path);
            assert_eq!(blocked, [by_file.clone(), by_path.clone()]);
        }
        // Something else lies there by now.
        std::fs::rename(&path, folder.path().join("y")).unwrap();
        std::fs::write(&path, b"").unwrap();
        assert_eq!(
            standing("", true).blocked(&path),
            [by_file.clone(), by_path.clone()]
        );
        assert_eq!(standing("", false).blocked(&path), [by_path]);
        assert_eq!(standing("i", true).blocked(&path), [by_file]);
        assert!(standing("i", false).blocked(&path).is_empty());
    }
}
