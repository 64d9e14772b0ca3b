//! What is told of what was done: to whoever asks, and to the audit.

use std::{path::PathBuf, sync::Arc};

use super::{
    super::{
        Action, ActionKind, Holding, Outcome, POLICY, Person, Responses, Step, Target,
        order::Stopped,
        standing::{STOPPED, is_held_by},
    },
    Responder,
};
use crate::host::{Process, Tree};

impl Responder {
    /// What waits and what was.
    #[must_use]
    pub fn responses(&self) -> Responses {
        Responses {
            pending: self.pending.iter().cloned().collect(),
            history: self.history.iter().cloned().collect(),
            holding: self.holding(),
        }
    }

    /// What the kernel refuses, under the number of whatever had it refused, and what holds without the kernel.
    fn holding(&self) -> Vec<Holding> {
        let verdicts = self.measures.holding().into_iter().map(|verdict| {
            let mut of = self.in_force.iter().rev();
            let of = of.find(|held| is_held_by(&verdict.subject, &held.outcome.action, held.file));
            Holding {
                what: verdict.subject.to_string(),
                number: of.map(|held| held.outcome.number),
                until: Some(verdict.until),
                hits: verdict.hits,
            }
        });
        let others = self.in_force.iter().filter_map(|held| {
            let Outcome { number, action, .. } = &*held.outcome;
            let target = &action.target;
            let what = match action.kind {
                // Who has ended is stopped no more.
                ActionKind::Suspend if self.standing(action, None) == STOPPED => {
                    format!("process {target}, stopped")
                }
                ActionKind::Revoke => format!("account of {target}, locked"),
                ActionKind::Quarantine => format!("file {target}, in quarantine"),
                _ => return None,
            };
            Some(Holding {
                what,
                number: Some(*number),
                until: None,
                hits: 0,
            })
        });
        verdicts.chain(others).collect()
    }

    /// Who was denied to run something is kept for whoever [asks](Self::denied).
    pub(super) fn note_denied(&mut self, action: &Action, stopped: Stopped, processes: &Tree) {
        const DENIED_MAX: usize = 64;
        if let (Some(process), Target::Executable(path)) = (processes.get(stopped.who), &action.target)
            && self.denied.len() < DENIED_MAX
        {
            self.denied.push((Arc::clone(process), path.clone()));
        }
    }

    /// In words.
    pub(super) fn who_was_stopped(stopped: Stopped, processes: &Tree) -> String {
        let Some(process) = processes.get(stopped.who) else {
            return format!("; the last who tried was process {}", stopped.who.tgid);
        };
        format!(
            "; the last who tried was process {}, which runs {}",
            stopped.who.tgid,
            String::from_utf8_lossy(&process.image.executable).escape_debug()
        )
    }

    /// Who was denied to run which executable since this was asked last: nothing else tells of an exec that failed.
    pub fn denied(&mut self) -> Vec<(Arc<Process>, PathBuf)> {
        std::mem::take(&mut self.denied)
    }

    /// For the audit, if it has changed.
    pub(super) fn tell_named(&mut self, paths: &[PathBuf]) {
        const SHOWN: usize = 16;
        if paths == self.told_named {
            return;
        }
        let mut why = match paths {
            [] => "the kernel refuses no executable any more because a rule names it".to_owned(),
            _ => {
                let shown: Vec<_> = paths
                    .iter()
                    .take(SHOWN)
                    .map(|path| path.to_string_lossy())
                    .collect();
                format!(
                    "the kernel refuses {} executables that rules name: {}",
                    paths.len(),
                    shown.join(", ")
                )
            }
        };
        if paths.len() > SHOWN {
            why.push_str(&format!(" and {} more", paths.len() - SHOWN));
        }
        self.told_named = paths.to_vec();
        let policy = Person {
            name: POLICY.into(),
            why,
        };
        self.write_down(Step::Configured, &policy);
    }
}
