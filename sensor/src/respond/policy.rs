//! What should be done about an incident.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Action, ActionKind, guard::matches};
use crate::{
    config,
    detect::{Incident, Severity},
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
    /// The incident's severity is at least this.
    pub severity: Option<Severity>,
    /// One of its techniques is one of these, e.g. `T1059`, which stands for its sub-techniques too. Empty: whatever they are.
    pub techniques: Vec<String>,
    /// Its subject is one of these, e.g. `unit:nginx.service`, with a `*` at the end for any ending. Empty: whatever it is.
    pub subjects: Vec<String>,
    /// Whether anything is done.
    pub mode: Option<Mode>,
    /// What.
    pub action: Option<ActionKind>,
}

impl ResponseRule {
    fn is_for(&self, incident: &Incident) -> bool {
        let mut techniques = incident
            .signals
            .iter()
            .flat_map(|signal| signal.techniques.iter());
        let is_technique = |technique: &&str| {
            self.techniques.iter().any(|wanted| {
                let rest = technique.strip_prefix(wanted.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let is_subject = |pattern: &String| matches(pattern, &incident.subject);
        self.severity.is_none_or(|least| incident.severity >= least)
            && (self.techniques.is_empty() || techniques.any(|technique| is_technique(&&**technique)))
            && (self.subjects.is_empty() || self.subjects.iter().any(is_subject))
    }
}

/// Which incidents ask for which action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where no rule says otherwise.
    pub mode: Mode,
    action: ActionKind,
    min_severity: Severity,
    rules: Vec<ResponseRule>,
}

impl Policy {
    /// The policy that the operator set.
    #[must_use]
    pub fn new(config: &config::Respond) -> Self {
        Self {
            mode: config.mode,
            action: config.action,
            min_severity: config.min_severity,
            rules: config.rules.clone(),
        }
    }

    /// What to do to the process of the incident's latest event, which is what was newly started: the service that started it
    /// lives. `None` where that event is not bad enough by itself, and for incidents that no rule is for: not all that belongs to a bad
    /// incident is bad.
    #[must_use]
    pub fn propose(&self, incident: &Incident) -> Option<(Mode, Action)> {
        let rule = self.rules.iter().find(|rule| rule.is_for(incident));
        if rule.is_none() && incident.acute < self.min_severity {
            return None;
        }
        let action = Action {
            kind: rule.and_then(|rule| rule.action).unwrap_or(self.action),
            target: incident.process.id,
            incident: incident.id.clone(),
            reason: incident.summary.clone(),
        };
        Some((rule.and_then(|rule| rule.mode).unwrap_or(self.mode), action))
    }
}

#[cfg(test)]
mod tests;
