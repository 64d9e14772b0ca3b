//! What should be done about an incident.

use std::{
    borrow::Cow, ffi::OsStr, fmt, os::unix::ffi::OsStrExt as _, path::PathBuf, sync::Arc, time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Action, ActionKind, Actions, Target, Wanted, guard::matches};
use crate::{
    config::{self, values},
    detect::{Incident, Severity, Signal},
};

/// Whether anything is done, and who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Say what would be done.
    #[default]
    Observe,
    /// Do it if a person approves within a time.
    Ask,
    /// Do it.
    Act,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Ask => "ask",
            Self::Act => "act",
        })
    }
}

/// What is done about some incidents. The first rule whose conditions an incident fulfils decides; what is not said in a rule
/// is as for all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseRule {
    /// The severity is at least this; for what is done to a process that of the incident's latest event, for what is done to the host that of the
    /// incident. So it is with techniques and subjects.
    pub severity: Option<Severity>,
    /// One of the techniques is one of these, e.g. `T1059`, which stands for its sub-techniques too. Empty: whatever they are.
    #[serde(deserialize_with = "values::techniques")]
    pub techniques: Vec<String>,
    /// The subject is one of these, e.g. `unit:nginx.service`, with a `*` at the end for any ending. Empty: whatever it is.
    #[serde(deserialize_with = "values::subjects")]
    pub subjects: Vec<String>,
    /// Whether anything is done.
    pub mode: Option<Mode>,
    /// What: one action, or several in this order.
    pub action: Option<Actions>,
}

impl ResponseRule {
    /// Whether it is for every incident there is.
    pub(crate) fn is_for_all(&self) -> bool {
        self.severity.is_none_or(|least| least == Severity::Low)
            && self.techniques.is_empty()
            && (self.subjects.is_empty() || self.subjects.iter().any(|subject| subject == "*"))
    }

    fn is_for(&self, matter: &Matter<'_>) -> bool {
        let techniques = matter.signals.iter().flat_map(|signal| &signal.techniques);
        let is_subject = |pattern: &String| matches(pattern, matter.subject);
        self.is_for_such(matter.severity, techniques)
            && (self.subjects.is_empty() || self.subjects.iter().any(is_subject))
    }

    /// Whether it may be for an incident of this severity and these techniques.
    fn is_for_such<'a>(
        &self,
        severity: Severity,
        techniques: impl IntoIterator<Item = &'a Cow<'static, str>>,
    ) -> bool {
        let is_technique = |technique: &Cow<'_, str>| {
            self.techniques.iter().any(|wanted| {
                let rest = technique.strip_prefix(wanted.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        self.severity.is_none_or(|least| severity >= least)
            && (self.techniques.is_empty() || techniques.into_iter().any(is_technique))
    }
}

/// What is judged: an incident as a whole, or the latest event of it.
struct Matter<'a> {
    severity: Severity,
    signals: &'a [Arc<Signal>],
    subject: &'a str,
}

impl<'a> Matter<'a> {
    fn whole(incident: &'a Incident) -> Self {
        Self {
            severity: incident.severity,
            signals: &incident.signals,
            subject: &incident.subject,
        }
    }

    fn latest(incident: &'a Incident) -> Self {
        let signals = &incident.signals;
        let last = signals.last();
        let is_of_it =
            |signal: &Arc<Signal>| last.is_some_and(|last| Arc::ptr_eq(&signal.event, &last.event));
        let first = signals
            .iter()
            .rposition(|signal| !is_of_it(signal))
            .map_or(0, |before| before + 1);
        Self {
            severity: incident.acute,
            signals: &signals[first..],
            subject: last.map_or(&incident.subject, |last| &last.subject),
        }
    }
}

/// For how long what ends by itself holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spans {
    block: Duration,
    isolate: Duration,
}

impl Spans {
    fn of(self, kind: ActionKind) -> Option<Duration> {
        match kind {
            ActionKind::Block | ActionKind::Disconnect => Some(self.block),
            ActionKind::Isolate => Some(self.isolate),
            _ => None,
        }
    }
}

/// Which incidents ask for which action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where no rule says otherwise.
    pub mode: Mode,
    action: Actions,
    spans: Spans,
    min_severity: Severity,
    rules: Vec<ResponseRule>,
}

impl Policy {
    /// The policy that the operator set.
    #[must_use]
    pub fn new(config: &config::Respond) -> Self {
        Self {
            mode: config.mode,
            action: config.action.clone(),
            spans: Spans {
                block: config.block_for,
                isolate: config.isolate_for,
            },
            min_severity: config.min_severity,
            rules: config.rules.clone(),
        }
    }

    /// What to do about the incident's latest event, and who decides: most of it to its process, which is what was newly started; the service that
    /// started it lives. Not all that belongs to a bad incident is bad: what is done to a process goes by how bad that event is by itself, by its
    /// techniques and by whom it is about; what is done to the host goes by the incident as a whole.
    #[must_use]
    pub fn propose(&self, incident: &Incident) -> Vec<(Mode, Action)> {
        let mut proposed = self.propose_for(&Matter::latest(incident), incident, |kind| {
            kind != ActionKind::Isolate
        });
        proposed.extend(self.propose_for(&Matter::whole(incident), incident, |kind| {
            kind == ActionKind::Isolate
        }));
        proposed
    }

    fn propose_for(
        &self,
        matter: &Matter<'_>,
        incident: &Incident,
        is_meant: impl Fn(ActionKind) -> bool,
    ) -> Vec<(Mode, Action)> {
        let rule = self.rules.iter().find(|rule| rule.is_for(matter));
        let mode = rule.and_then(|rule| rule.mode).unwrap_or(self.mode);
        if rule.is_none() && matter.severity < self.min_severity {
            return Vec::new();
        }
        let actions = rule.and_then(|rule| rule.action.as_ref()).unwrap_or(&self.action);
        let propose = |wanted: Wanted| {
            let kind = wanted.kind();
            Some(Action {
                kind,
                target: match wanted {
                    Wanted::Action(kind) => target(kind, incident)?,
                    Wanted::BlockDestination => Target::Network(incident.destination()?.into()),
                },
                lasts: self.spans.of(kind),
                incident: incident.id.clone(),
                reason: incident.summary.clone(),
            })
        };
        let meant = actions.iter().filter(|wanted| is_meant(wanted.kind()));
        meant.filter_map(propose).map(|action| (mode, action)).collect()
    }

    /// Whether everything that such an incident can be would be answered, without asking, by ending the process or blocking its executable: then
    /// the kernel may do it before the first instruction. Which subject it is of is not known before.
    #[must_use]
    pub fn ends(&self, severity: Severity, techniques: &[Cow<'static, str>]) -> bool {
        let may_be_for = |rule: &&ResponseRule| rule.is_for_such(severity, techniques);
        let rule = self.rules.iter().find(may_be_for);
        if rule.is_some_and(|rule| !rule.subjects.is_empty())
            || rule.is_none() && severity < self.min_severity
        {
            return false;
        }
        let mode = rule.and_then(|rule| rule.mode).unwrap_or(self.mode);
        let actions = rule.and_then(|rule| rule.action.as_ref()).unwrap_or(&self.action);
        let ends = [ActionKind::Kill, ActionKind::KillTree, ActionKind::Block];
        mode == Mode::Act
            && actions
                .iter()
                .any(|wanted| matches!(wanted, Wanted::Action(kind) if ends.contains(&kind)))
    }

    /// For how long something holds where nobody says.
    #[must_use]
    pub fn lasts(&self, kind: ActionKind) -> Option<Duration> {
        self.spans.of(kind)
    }
}

/// Whom or what an incident's process leads to. `None` where it leads nowhere: nobody logged in to start it, it is not known what it runs.
fn target(kind: ActionKind, incident: &Incident) -> Option<Target> {
    let process = &incident.process;
    let executable = || {
        let path = &process.image.executable;
        (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
    };
    match kind {
        ActionKind::Isolate | ActionKind::Release => Some(Target::Host),
        ActionKind::Block | ActionKind::Unblock => executable().map(Target::Executable),
        ActionKind::Quarantine | ActionKind::Restore => executable().map(Target::File),
        ActionKind::Revoke | ActionKind::Reinstate => process.credentials.login_uid.map(Target::User),
        _ => Some(Target::Process(process.id)),
    }
}

#[cfg(test)]
mod tests;
