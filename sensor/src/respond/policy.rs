//! What should be done about an incident.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Action, ActionKind};
use crate::{
    config,
    detect::{Incident, Severity},
};

/// Whether anything is done at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Say what would be done.
    #[default]
    Observe,
    /// Do it.
    Act,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Act => "act",
        })
    }
}

/// Which incidents ask for which action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether anything is done at all.
    pub mode: Mode,
    min_severity: Severity,
}

impl Policy {
    /// The policy that the operator set.
    #[must_use]
    pub fn new(config: &config::Respond) -> Self {
        Self {
            mode: config.mode,
            min_severity: config.min_severity,
        }
    }

    /// Kill what was newly started: the process of the incident's latest event. The service that started it lives.
    #[must_use]
    pub fn propose(&self, incident: &Incident) -> Option<Action> {
        (incident.severity >= self.min_severity).then(|| Action {
            kind: ActionKind::Kill,
            target: incident.process.id,
            incident: incident.id.clone(),
            reason: incident.summary.clone(),
        })
    }
}
