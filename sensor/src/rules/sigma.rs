//! The engine: `rsigma-eval` behind an [`Index`] of our own.
//!
//! Only rules of the event's log sources that share a clue with it are evaluated. The index of the library reads every field once for each log source,
//! and keeps what it found in memory that it allocates for each event: with 500 rules it cost twice as much. What matches goes to the correlations, where
//! there are any.
//!
//! Bounds: correlations remember [`ENTRIES`] events each for [`GROUPS`] groups, and [`REMEMBERED`] bytes of a value: 25 MB if every one of
//! them is full; the oldest go first. What a rule says to the engine about itself (`rsigma.…`) is not listened to.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use rsigma_eval::{
    CompiledRule, CorrelationConfig, CorrelationEngine, CorrelationSnapshot, EvaluationResult, Event,
    EventValue, ResultBody, compile_rule, evaluate_rule,
};
use rsigma_parser::{
    ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType, FilterRule, SigmaRule,
};

use super::{
    Channel, Channels, Engine, Fields, Hit, Rule, Value,
    audit::settle,
    index::{Index, Sources},
    pattern::restrict,
};

/// Groups (of all correlations together) of which something is remembered.
const GROUPS: usize = 512;

/// Events that are remembered of a group.
pub(super) const ENTRIES: usize = 256;

/// Bytes of a value that a correlation groups by or counts.
const REMEMBERED: usize = 128;

/// Characters of a value that is shown with a match.
const SHOWN: usize = 400;

/// The bits of log sources. What the audit system says of programs is one more.
fn sources_of(channels: Channels, is_program: bool) -> Sources {
    channels
        .iter()
        .map(|channel| match channel {
            Channel::Auditd if is_program => Channel::COUNT,
            _ => channel as usize,
        })
        .fold(0, |bits, number| bits | 1 << number)
}

/// Rules in the order in which they are put in: rules, correlations, filters.
#[derive(Default)]
pub(super) struct Builder {
    compiled: Vec<(Sources, CompiledRule)>,
    rules: HashMap<String, Arc<Rule>>,
    referred: Vec<SigmaRule>,
    correlations: Vec<CorrelationRule>,
    filters: Vec<FilterRule>,
}

impl Builder {
    /// Adds a rule, whose id is that of `about`.
    pub(super) fn rule(
        &mut self,
        mut rule: SigmaRule,
        about: &Arc<Rule>,
        channels: Channels,
    ) -> Result<(), String> {
        rule.custom_attributes.clear();
        rule.id = Some(about.id.to_string());
        let written = rule.clone();
        restrict(&mut rule.detection);
        // What is said of a mistake shall be about what was written.
        let compile = |own: &SigmaRule| {
            compile_rule(own).map_err(|error| compile_rule(&written).err().unwrap_or(error).to_string())
        };
        let audit = Channels::of(&[Channel::Auditd]);
        let others = sources_of(channels, false) & !sources_of(audit, false);
        if others != 0 {
            self.compiled.push((others, compile(&rule)?));
        }
        if !channels.common(audit).is_empty() {
            for is_program in [false, true] {
                let mut own = rule.clone();
                settle(&mut own.detection, is_program);
                self.compiled
                    .push((sources_of(audit, is_program), compile(&own)?));
            }
        }
        self.rules.insert(about.id.to_string(), Arc::clone(about));
        self.referred.push(rule);
        Ok(())
    }

    /// Adds a correlation, whose id is that of `about`.
    pub(super) fn correlation(&mut self, mut rule: CorrelationRule, about: &Arc<Rule>) -> Result<(), String> {
        let counts = matches!(
            rule.correlation_type,
            CorrelationType::EventCount | CorrelationType::ValueCount
        );
        if let CorrelationCondition::Threshold { predicates, .. } = &rule.condition
            && counts
            && predicates.iter().any(|(_, count)| *count > ENTRIES as u64)
        {
            return Err(format!(
                "correlation counts to more than {ENTRIES}, which is all that is remembered"
            ));
        }
        rule.custom_attributes.clear();
        rule.id = Some(about.id.to_string());
        wants_all(&mut rule);
        // Tried by itself first: what is wrong shall be known of this one.
        CorrelationEngine::new(limits())
            .add_correlation(&rule)
            .map_err(|error| error.to_string())?;
        self.rules.insert(about.id.to_string(), Arc::clone(about));
        self.correlations.push(rule);
        Ok(())
    }

    pub(super) fn filter(&mut self, mut filter: FilterRule) {
        filter.custom_attributes.clear();
        self.filters.push(filter);
    }

    pub(super) fn has_filters(&self) -> bool {
        !self.filters.is_empty()
    }

    /// Whether there is a rule that a correlation calls so, by id or name.
    pub(super) fn refers(&self, name: &str) -> bool {
        self.id_of(name).is_some()
    }

    fn id_of(&self, name: &str) -> Option<&String> {
        let rules = self
            .referred
            .iter()
            .map(|rule| (rule.id.as_ref(), rule.name.as_ref()));
        let correlations = self
            .correlations
            .iter()
            .map(|rule| (rule.id.as_ref(), rule.name.as_ref()));
        let mut all = rules.chain(correlations);
        let is = |own: Option<&String>| own.is_some_and(|own| own == name);
        all.find(|(id, own)| is(*id) || is(*own)).and_then(|(id, _)| id)
    }

    /// Rules that only serve correlations: what they find is told by these alone, unless one says `generate`.
    pub(super) fn silent(&self) -> HashSet<String> {
        let ids = |generate: bool| {
            let correlations = self
                .correlations
                .iter()
                .filter(move |rule| rule.generate == generate);
            let names = correlations.flat_map(|rule| &rule.rules);
            names
                .filter_map(|name| self.id_of(name))
                .cloned()
                .collect::<HashSet<_>>()
        };
        let told = ids(true);
        ids(false).into_iter().filter(|id| !told.contains(id)).collect()
    }

    /// The engine; what is wrong with filters and with how correlations refer to each other is told.
    pub(super) fn build(self) -> (Sigma, Vec<String>) {
        let silent = self.silent();
        let mut faults = Vec::new();
        let rules = filtered(self.compiled, &self.filters, &mut faults);
        let index = Index::new(&rules).unwrap_or_else(|error| {
            faults.push(format!(
                "no rule is in use, since there are too many texts to look for: {error}"
            ));
            Index::default()
        });
        let correlations = (!self.correlations.is_empty()).then(|| {
            let mut engine = CorrelationEngine::new(limits());
            let refers = |rule: &SigmaRule| {
                let named = |name: &String| {
                    self.correlations
                        .iter()
                        .any(|correlation| correlation.rules.contains(name))
                };
                rule.id.as_ref().is_some_and(named) || rule.name.as_ref().is_some_and(named)
            };
            for rule in self.referred.iter().filter(|rule| refers(rule)) {
                faults.extend(engine.add_rule(rule).err().map(|error| error.to_string()));
            }
            for rule in &self.correlations {
                faults.extend(engine.add_correlation(rule).err().map(|error| error.to_string()));
            }
            engine
        });
        let sigma = Sigma {
            index,
            compiled: rules.into_iter().map(|(_, rule)| rule).collect(),
            candidates: Vec::new(),
            correlations,
            silent,
            rules: self.rules,
        };
        (sigma, faults)
    }
}

/// The rules with the conditions that filters add to theirs.
fn filtered(
    rules: Vec<(Sources, CompiledRule)>,
    filters: &[FilterRule],
    faults: &mut Vec<String>,
) -> Vec<(Sources, CompiledRule)> {
    if filters.is_empty() {
        return rules;
    }
    let (sources, compiled): (Vec<_>, Vec<_>) = rules.into_iter().unzip();
    let mut engine = rsigma_eval::Engine::new();
    engine.extend_compiled_rules(compiled);
    for filter in filters {
        if let Err(error) = engine.apply_filter(filter) {
            faults.push(format!("filter '{}': {error}", filter.title));
        }
    }
    sources.into_iter().zip(engine.rules().iter().cloned()).collect()
}

/// Rules near each other: without a condition all of them are meant, where the parser puts in that one is enough.
fn wants_all(rule: &mut CorrelationRule) {
    let all = rule.rules.len() as u64;
    if let CorrelationType::Temporal | CorrelationType::TemporalOrdered = rule.correlation_type
        && let CorrelationCondition::Threshold { predicates, .. } = &mut rule.condition
        && matches!(predicates[..], [(ConditionOperator::Gte, 1)])
    {
        predicates[0].1 = all;
    }
}

fn limits() -> CorrelationConfig {
    CorrelationConfig {
        max_state_entries: GROUPS,
        max_group_entries: Some(ENTRIES),
        max_correlation_events: 0,
        ..CorrelationConfig::default()
    }
}

/// Rules, indexed.
pub(super) struct Sigma {
    index: Index,
    /// By the number that the index knows them by.
    compiled: Vec<CompiledRule>,
    /// Of the event that was looked up last.
    candidates: Vec<usize>,
    correlations: Option<CorrelationEngine>,
    /// Ids of rules whose findings are for correlations alone.
    silent: HashSet<String>,
    /// By id.
    rules: HashMap<String, Arc<Rule>>,
}

impl fmt::Debug for Sigma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sigma({} rules)", self.rules.len())
    }
}

impl Engine for Sigma {
    fn evaluate(&mut self, fields: &dyn Fields, channels: Channels, time: i64) -> Vec<Hit> {
        let event = Adapter {
            fields,
            limit: usize::MAX,
        };
        let sources = sources_of(channels, fields.is_program());
        self.index.candidates(fields, sources, &mut self.candidates);
        let candidates = self.candidates.iter().map(|number| &self.compiled[*number]);
        let mut found: Vec<EvaluationResult> = candidates
            .filter_map(|rule| evaluate_rule(rule, &event))
            .collect();
        if found.is_empty() {
            return Vec::new();
        }
        if let Some(correlations) = &mut self.correlations {
            let event = Adapter {
                fields,
                limit: REMEMBERED,
            };
            found = correlations.process_with_detections(&event, found, time);
        }
        found.into_iter().filter_map(|found| self.hit(found)).collect()
    }

    fn memory(&self) -> Option<Vec<u8>> {
        let snapshot = self.correlations.as_ref()?.export_state();
        serde_json::to_vec(&snapshot).ok()
    }

    fn recall(&mut self, memory: &[u8]) {
        if let Some(correlations) = &mut self.correlations
            && let Ok(snapshot) = serde_json::from_slice::<CorrelationSnapshot>(memory)
        {
            correlations.import_state(snapshot);
        }
    }
}

impl Sigma {
    fn hit(&self, found: EvaluationResult) -> Option<Hit> {
        let id = found.header.rule_id.as_deref()?;
        if self.silent.contains(id) {
            return None;
        }
        let rule = Arc::clone(self.rules.get(id)?);
        let mut matched: Vec<(String, String)> = Vec::new();
        match found.body {
            ResultBody::Detection(detection) => {
                for field in detection.matched_fields {
                    let value = match field.value {
                        serde_json::Value::String(text) => text,
                        serde_json::Value::Null => continue,
                        other => other.to_string(),
                    };
                    if !matched.iter().any(|(name, _)| *name == field.field) {
                        matched.push((field.field, cut(value, SHOWN)));
                    }
                }
            }
            ResultBody::Correlation(correlation) => {
                let common = correlation.group_key.into_iter();
                matched.extend(common.map(|(name, value)| (name, cut(value, SHOWN))));
            }
        }
        Some(Hit { rule, matched })
    }
}

fn cut(mut text: String, limit: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(limit) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Fields, as the engine asks for them.
struct Adapter<'a> {
    fields: &'a dyn Fields,
    /// Bytes of a text that it gets to see.
    limit: usize,
}

impl Adapter<'_> {
    fn limited<'v>(&self, text: Cow<'v, str>) -> Cow<'v, str> {
        if text.len() <= self.limit {
            return text;
        }
        let end = (0..=self.limit).rev().find(|end| text.is_char_boundary(*end));
        Cow::Owned(text[..end.unwrap_or(0)].to_owned())
    }
}

impl Event for Adapter<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        Some(match self.fields.field(path)? {
            Value::Text(text) => EventValue::Str(self.limited(text)),
            Value::Number(number) => EventValue::Int(number),
            Value::Flag(flag) => EventValue::Bool(flag),
            Value::List(texts) => {
                let texts = texts.into_iter().map(|text| EventValue::Str(self.limited(text)));
                EventValue::Array(texts.collect())
            }
        })
    }

    fn any_string_value(&self, holds: &dyn Fn(&str) -> bool) -> bool {
        let mut any = false;
        self.fields.texts(&mut |text| any = any || holds(text));
        any
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        let mut all = Vec::new();
        self.fields
            .texts(&mut |text| all.push(Cow::Owned(text.to_owned())));
        all
    }

    fn visit_string_values(&self, visit: &mut dyn FnMut(&str)) {
        self.fields.texts(visit);
    }

    /// Nobody asks: rules cannot have the event put into their results.
    fn to_json(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
