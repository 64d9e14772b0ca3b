//! One model's or rule's opinion of one event.

use std::{borrow::Cow, sync::Arc};

use crate::{host::Event, rules::Rule};

/// How surprising an event is for a subject, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// What it is unusual for: a workload, a user, a session, the host.
    pub subject: Box<str>,
    /// Name of the model or rule.
    pub source: &'static str,
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
