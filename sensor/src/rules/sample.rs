//! Test events of rules: `NAME.test.yml` beside `NAME.yml`.
//!
//! ```yaml
//! positive:
//!   - why: a shell is handed to the network
//!     event: {Image: /usr/bin/bash, CommandLine: bash -i}
//! negative:
//!   - why: five would be needed
//!     events:
//!       - {event: {Image: /usr/bin/id}}
//!       - {after_seconds: 10, source: file_event, event: {TargetFilename: /tmp/x}}
//! ```
//! Each is shown to the rules of the file alone: to all of a positive one at least one must match, to a negative one none. A field that no event of
//! the log source has is an error: such a test would promise what cannot be.

use std::{borrow::Cow, collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use super::{Channel, Channels, Fields, RuleSet, Source, Value, reach::is_known, source::BYTES};

/// When the events of tests begin, in seconds since the Unix epoch.
const BEGIN: i64 = 1_700_000_000;

/// The test events of a file of rules.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Samples {
    /// What must be found.
    pub positive: Vec<Sample>,
    /// What must not.
    pub negative: Vec<Sample>,
}

/// One test.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// What it stands for.
    pub why: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    event: Option<BTreeMap<String, Scalar>>,
    #[serde(default)]
    events: Vec<Step>,
}

/// An event of several.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    after_seconds: i64,
    #[serde(default)]
    source: Option<String>,
    event: BTreeMap<String, Scalar>,
}

/// The value of a field in a test.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Flag(bool),
    Number(i64),
    Text(String),
    List(Vec<String>),
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the test stands for.
    pub why: String,
    /// What is wrong; `None` if it is as it should be.
    pub fault: Option<String>,
}

/// Where the test events of a file of rules are.
#[must_use]
pub fn beside(rules: &Path) -> std::path::PathBuf {
    rules.with_extension("test.yml")
}

/// Reads a file of test events.
///
/// # Errors
/// In words, if it cannot be read, or is not as it should be.
pub fn load(path: &Path) -> Result<Samples, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("it cannot be read: {error}"))?;
    if metadata.len() > BYTES {
        return Err(format!("it is longer than {} KiB", BYTES >> 10));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("it cannot be read: {error}"))?;
    yaml_serde::from_str(&text).map_err(|error| error.to_string())
}

impl Samples {
    /// Shows each to the rules of `source`.
    #[must_use]
    pub fn check(&self, source: &Source) -> Vec<Verdict> {
        let both = [(&self.positive, true), (&self.negative, false)];
        let all = both
            .into_iter()
            .flat_map(|(samples, wanted)| samples.iter().map(move |sample| (sample, wanted)));
        all.map(|(sample, wanted)| Verdict {
            why: sample.why.clone(),
            fault: sample.check(source, wanted).err(),
        })
        .collect()
    }
}

impl Sample {
    fn check(&self, source: &Source, wanted: bool) -> Result<(), String> {
        let mut set = RuleSet::build(std::slice::from_ref(source), &[]);
        let found = self.play(&mut set)?;
        match (found.first(), wanted) {
            (None, true) => Err("no rule matches, and one should".into()),
            (Some(rule), false) => Err(format!("the rule {rule:?} matches, and should not")),
            _ => Ok(()),
        }
    }

    /// The log source, where the rules are for one only.
    #[must_use]
    pub fn in_source(mut self, name: &str) -> Self {
        self.source.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Shows its events to a set of rules; the ids of those that match.
    ///
    /// # Errors
    /// In words, if the test itself is wrong.
    pub fn play(&self, set: &mut RuleSet) -> Result<Vec<String>, String> {
        let single = self.event.iter().map(|event| (0, None, event));
        let several = self
            .events
            .iter()
            .map(|step| (step.after_seconds, step.source.as_ref(), &step.event));
        let steps: Vec<_> = single.chain(several).collect();
        if steps.is_empty() {
            return Err("it has neither `event` nor `events`".into());
        }
        let mut found = Vec::new();
        let mut time = BEGIN;
        for (after, source, fields) in steps {
            time += after;
            let channel = channel(source.or(self.source.as_ref()), set)?;
            if let Some(name) = fields.keys().find(|name| !is_known(name, channel)) {
                return Err(format!("no event of {} has the field {name}", channel.name()));
            }
            let hits = set
                .engine
                .evaluate(&Played(fields), Channels::of(&[channel]), time);
            found.extend(hits.into_iter().map(|hit| hit.rule.id.to_string()));
        }
        Ok(found)
    }
}

/// The log source of that name; without one, that of the rules, if they have only one.
fn channel(name: Option<&String>, set: &RuleSet) -> Result<Channel, String> {
    match name {
        Some(name) => Channel::ALL
            .into_iter()
            .find(|channel| channel.name() == name)
            .ok_or_else(|| format!("there is no log source {name}")),
        None => {
            let mut channels = set.channels.iter();
            match (channels.next(), channels.next()) {
                (Some(channel), None) => Ok(channel),
                (None, _) => Err("no rule of the file is in use".into()),
                _ => Err("the rules are for several log sources: say `source`".into()),
            }
        }
    }
}

struct Played<'a>(&'a BTreeMap<String, Scalar>);

impl Fields for Played<'_> {
    fn field(&self, name: &str) -> Option<Value<'_>> {
        Some(match self.0.get(name)? {
            Scalar::Flag(flag) => Value::Flag(*flag),
            Scalar::Number(number) => Value::Number(*number),
            Scalar::Text(text) => Value::Text(Cow::Borrowed(text)),
            Scalar::List(texts) => {
                Value::List(texts.iter().map(|text| Cow::Borrowed(text.as_str())).collect())
            }
        })
    }

    fn is_program(&self) -> bool {
        self.0.contains_key("a0")
    }

    fn texts(&self, show: &mut dyn FnMut(&str)) {
        for value in self.0.values() {
            match value {
                Scalar::Text(text) => show(text),
                Scalar::List(texts) => texts.iter().for_each(|text| show(text)),
                Scalar::Flag(_) | Scalar::Number(_) => {}
            }
        }
    }
}
