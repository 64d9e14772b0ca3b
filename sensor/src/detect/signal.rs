//! One model's or rule's opinion of one event.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{host::Event, rules::Rule};

/// Name of a model or rule. (What is `&str` by name, serde would want to borrow.)
pub type Source = &'static str;

/// How surprising an event is for a subject, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// What it is unusual for: a workload, a user, a session, the host.
    pub subject: Box<str>,
    /// Name of the model or rule.
    #[serde(with = "source")]
    pub source: Source,
    /// Probability of something at least as surprising if all is normal, in (0, 1].
    pub p_value: f64,
    /// Sentences for people, the weightiest first.
    pub reasons: Vec<String>,
    /// MITRE ATT&CK technique ids.
    pub techniques: Vec<Cow<'static, str>>,
    /// What makes two of them the same.
    pub cause: u64,
    /// The rule that says it, where one does.
    pub rule: Option<Arc<Rule>>,
    /// What it is about.
    pub event: Arc<Event>,
}

impl Signal {
    /// Surprise in bits: −log₂ of the p-value.
    #[must_use]
    pub fn bits(&self) -> f64 {
        -self.p_value.log2()
    }
}

/// Names of models and rules, which live as long as the agent does: a bounded number of those that a file names and this version does not.
mod source {
    use std::sync::Mutex;

    use serde::{Deserialize as _, Deserializer, Serializer};

    const NAMES: usize = 64;
    const LENGTH: usize = 32;

    static KNOWN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(name: &&'static str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
        String::deserialize(deserializer).map(|name| interned(&name))
    }

    fn interned(name: &str) -> &'static str {
        let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = known.iter().find(|known| **known == name) {
            return known;
        }
        if known.len() >= NAMES || name.len() > LENGTH {
            return "unknown";
        }
        let name: &'static str = String::leak(name.to_owned());
        known.push(name);
        name
    }
}
