//! What a rule says of itself.

use std::{borrow::Cow, fmt};

use rsigma_parser::Level as SigmaLevel;
use serde::{Deserialize, Serialize};

use super::{Channels, Place};
use crate::detect::Severity;

/// How bad it is, as Sigma says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Level {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Level {
    /// As Sigma has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// A rule that does not say it is taken for a middling one.
    pub(super) fn of(level: Option<SigmaLevel>) -> Self {
        match level {
            Some(SigmaLevel::Informational) => Self::Informational,
            Some(SigmaLevel::Low) => Self::Low,
            Some(SigmaLevel::Medium) | None => Self::Medium,
            Some(SigmaLevel::High) => Self::High,
            Some(SigmaLevel::Critical) => Self::Critical,
        }
    }

    /// Of the incident that it opens; the lower levels open none, and are evidence.
    #[must_use]
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Self::Informational | Self::Low => None,
            Self::Medium => Some(Severity::Medium),
            Self::High => Some(Severity::High),
            Self::Critical => Some(Severity::Critical),
        }
    }

    /// What a match is taken for where p-values are added up: by its author's word it is as rare as that where all is normal.
    #[must_use]
    pub const fn p_value(self) -> f64 {
        match self {
            Self::Informational => 0.05,
            Self::Low => 0.01,
            Self::Medium => 1e-3,
            Self::High => 1e-4,
            Self::Critical => 1e-5,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a rule says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its own id; its title, where it has none.
    pub id: Box<str>,
    /// What it finds.
    pub title: Box<str>,
    /// How bad that is.
    pub level: Level,
    /// Why it is bad, for people.
    pub description: Box<str>,
    /// What else may look like it.
    pub false_positives: Vec<Box<str>>,
    /// MITRE ATT&CK technique ids, as `T1059.004`.
    pub techniques: Vec<Cow<'static, str>>,
    /// MITRE ATT&CK tactics, as `execution`.
    pub tactics: Vec<Box<str>>,
    /// Where it was found.
    pub place: Place,
    /// The log sources that it is for; none for a correlation.
    pub channels: Channels,
}

impl Rule {
    /// Techniques and tactics, from tags as `attack.t1059.004`.
    pub(super) fn attack(tags: &[String]) -> (Vec<Cow<'static, str>>, Vec<Box<str>>) {
        let (mut techniques, mut tactics) = (Vec::new(), Vec::new());
        for tag in tags.iter().filter_map(|tag| tag.strip_prefix("attack.")) {
            let is_technique = tag
                .strip_prefix(['t', 'T'])
                .is_some_and(|rest| rest.starts_with(|character: char| character.is_ascii_digit()));
            let is_other = tag.starts_with(['s', 'g']) && tag[1..].bytes().all(|byte| byte.is_ascii_digit());
            if is_technique {
                techniques.push(tag.to_ascii_uppercase().into());
            } else if !is_other {
                tactics.push(tag.replace('_', "-").into());
            }
        }
        (techniques, tactics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_told_apart() {
        let tags = [
            "attack.t1059.004",
            "attack.privilege_escalation",
            "attack.s0002",
            "cve.2021-4034",
        ];
        let (techniques, tactics) = Rule::attack(&tags.map(str::to_owned));
        assert_eq!(techniques, ["T1059.004"]);
        assert_eq!(tactics, ["privilege-escalation".into()]);
    }
}
