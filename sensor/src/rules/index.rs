//! Which rules an event may match: those of which it has a *clue*, a text or a number in a field without which they do not match.
//!
//! The clues of all rules that are in one field are looked for together, by one automaton, so that a field is read once and its text gone over
//! once, however many rules and log sources ask for it. A rule without clues, as one that asks that a field be absent, is a candidate of every event
//! of its log sources. A candidate may still not match; what matches is always a candidate.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::{AhoCorasick, BuildError};
use rsigma_eval::{
    CompiledDetection, CompiledDetectionItem, CompiledMatcher, CompiledRule, matcher::GroupMode,
};
use rsigma_parser::{ConditionExpr, Quantifier};

use super::{Fields, Value, literals::needed};

/// Log sources as bits.
pub(super) type Sources = u16;

/// Clues of one rule, at most; one with more is tried with every event.
const CLUES: usize = 2048;

/// Rules by their clues.
#[derive(Default)]
pub(super) struct Index {
    fields: Vec<Field>,
    /// Log sources of each rule.
    sources: Vec<Sources>,
    /// Rules without clues.
    always: Vec<usize>,
}

/// The clues that are in one field.
struct Field {
    name: Box<str>,
    /// Log sources of the rules that they are of.
    sources: Sources,
    texts: AhoCorasick,
    /// By the number that the automaton knows the text by.
    places: Vec<Place>,
    numbers: HashMap<i64, Vec<usize>>,
}

/// Where in the field a text has to be, and for which rules.
struct Place {
    begins: bool,
    ends: bool,
    rules: Vec<usize>,
}

impl Index {
    /// Of rules, each with its log sources.
    pub(super) fn new(rules: &[(Sources, CompiledRule)]) -> Result<Self, BuildError> {
        let mut always = Vec::new();
        let mut fields: BTreeMap<String, BTreeMap<Sign, Vec<usize>>> = BTreeMap::new();
        for (number, (_, rule)) in rules.iter().enumerate() {
            match clues_of(rule) {
                Some(clues) => {
                    for Clue { field, sign } in clues {
                        let signs = fields.entry(field).or_default();
                        signs.entry(sign).or_default().push(number);
                    }
                }
                None => always.push(number),
            }
        }
        let sources: Vec<_> = rules.iter().map(|(sources, _)| *sources).collect();
        let fields = fields
            .into_iter()
            .map(|(name, signs)| Field::new(&name, signs, &sources));
        Ok(Self {
            fields: fields.collect::<Result<_, _>>()?,
            sources,
            always,
        })
    }

    /// Puts the rules of `sources` into `found` that something with these fields may match, each once, in their order.
    pub(super) fn candidates(&self, fields: &dyn Fields, sources: Sources, found: &mut Vec<usize>) {
        found.clear();
        found.extend(&self.always);
        for field in &self.fields {
            if field.sources & sources != 0
                && let Some(value) = fields.field(&field.name)
            {
                field.look(&value, found);
            }
        }
        found.retain(|number| self.sources[*number] & sources != 0);
        found.sort_unstable();
        found.dedup();
    }
}

impl Field {
    fn new(name: &str, signs: BTreeMap<Sign, Vec<usize>>, sources: &[Sources]) -> Result<Self, BuildError> {
        let all = signs.values().flatten();
        let all_sources = all.fold(0, |bits, number| bits | sources[*number]);
        let mut texts = Vec::new();
        let mut places = Vec::new();
        let mut numbers = HashMap::new();
        for (sign, rules) in signs {
            match sign {
                Sign::Text { text, begins, ends } => {
                    texts.push(text);
                    places.push(Place { begins, ends, rules });
                }
                Sign::Number(number) => {
                    numbers.insert(number, rules);
                }
            }
        }
        Ok(Self {
            name: name.into(),
            sources: all_sources,
            texts: AhoCorasick::builder().ascii_case_insensitive(true).build(texts)?,
            places,
            numbers,
        })
    }

    fn look(&self, value: &Value<'_>, found: &mut Vec<usize>) {
        match value {
            Value::Text(text) => self.look_in(text, found),
            Value::List(texts) => texts.iter().for_each(|text| self.look_in(text, found)),
            Value::Flag(flag) => self.look_in(if *flag { "true" } else { "false" }, found),
            Value::Number(number) => {
                found.extend(self.numbers.get(number).into_iter().flatten());
                if !self.places.is_empty() {
                    self.look_in(&number.to_string(), found);
                }
            }
        }
    }

    fn look_in(&self, text: &str, found: &mut Vec<usize>) {
        // Letters beyond ASCII can have small forms within it.
        if text.is_ascii() {
            self.look_in_small(text, found);
        } else {
            self.look_in_small(&text.to_lowercase(), found);
        }
        // A text that reads as a number is one to the engine.
        if !self.numbers.is_empty() && text.trim().parse::<f64>().is_ok() {
            found.extend(self.numbers.values().flatten());
        }
    }

    fn look_in_small(&self, text: &str, found: &mut Vec<usize>) {
        for seen in self.texts.find_overlapping_iter(text) {
            let place = &self.places[seen.pattern()];
            if (!place.begins || seen.start() == 0) && (!place.ends || seen.end() == text.len()) {
                found.extend(&place.rules);
            }
        }
    }
}

/// What a rule does not match without, together with the other clues of the same rule: one of them is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Clue {
    field: String,
    sign: Sign,
}

/// What is to be found in the field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    /// ASCII in small letters, whatever letters it is in there.
    Text {
        text: String,
        begins: bool,
        ends: bool,
    },
    Number(i64),
}

impl Sign {
    /// How much it tells. Files begin alike, and differ in how they end.
    fn worth(&self) -> usize {
        match self {
            Self::Number(_) => 4,
            Self::Text {
                text,
                begins: true,
                ends: false,
            } => text.len() / 2,
            Self::Text { text, ends, .. } => text.len() + 2 * usize::from(*ends),
        }
    }
}

type Clues = Option<Vec<Clue>>;

/// The better of two, where each would do: what is longer is rarer.
fn better(one: Clues, other: Clues) -> Clues {
    const ENOUGH: usize = 8;
    let worth = |clues: &Clues| {
        clues.as_ref().map(|clues| {
            let least = clues.iter().map(|clue| clue.sign.worth()).min().unwrap_or(ENOUGH);
            (least.min(ENOUGH), usize::MAX - clues.len())
        })
    };
    if worth(&other) > worth(&one) { other } else { one }
}

/// Of what holds only if all parts do.
fn of_all(parts: impl IntoIterator<Item = Clues>) -> Clues {
    parts.into_iter().fold(None, better)
}

/// Of what holds if one part does. `None` if one has none: it may be that one.
fn of_any(parts: impl IntoIterator<Item = Clues>) -> Clues {
    let mut all = Vec::new();
    for part in parts {
        all.extend(part?);
    }
    (all.len() <= CLUES).then_some(all)
}

fn clues_of(rule: &CompiledRule) -> Clues {
    of_any(
        rule.conditions
            .iter()
            .map(|condition| of_condition(condition, rule)),
    )
}

fn of_condition(condition: &ConditionExpr, rule: &CompiledRule) -> Clues {
    match condition {
        ConditionExpr::And(parts) => of_all(parts.iter().map(|part| of_condition(part, rule))),
        ConditionExpr::Or(parts) => of_any(parts.iter().map(|part| of_condition(part, rule))),
        ConditionExpr::Not(_) => None,
        ConditionExpr::Identifier(name) => of_detection(rule.detections.get(name)?),
        ConditionExpr::Selector { quantifier, pattern } => {
            let chosen = rule
                .detections
                .iter()
                .filter(|(name, _)| pattern.matches_detection_name(name))
                .map(|(_, detection)| of_detection(detection));
            match quantifier {
                Quantifier::All => of_all(chosen),
                Quantifier::Count(0) => None,
                Quantifier::Any | Quantifier::Count(_) => of_any(chosen),
            }
        }
    }
}

fn of_detection(detection: &CompiledDetection) -> Clues {
    match detection {
        CompiledDetection::AllOf(items) => of_all(items.iter().map(of_item)),
        CompiledDetection::AnyOf(parts) => of_any(parts.iter().map(of_detection)),
        CompiledDetection::And(parts) => of_all(parts.iter().map(of_detection)),
        // What is asked of any field, or of members of lists.
        CompiledDetection::Keywords(_)
        | CompiledDetection::ArrayMatch { .. }
        | CompiledDetection::Conditional { .. } => None,
    }
}

fn of_item(item: &CompiledDetectionItem) -> Clues {
    match (&item.field, item.exists) {
        (Some(field), None) => of_matcher(&item.matcher, field),
        _ => None,
    }
}

fn of_matcher(matcher: &CompiledMatcher, field: &str) -> Clues {
    let each = |parts: &[CompiledMatcher]| -> Vec<Clues> {
        parts.iter().map(|part| of_matcher(part, field)).collect()
    };
    match matcher {
        CompiledMatcher::Exact { value, .. } => of_text(field, value, true, true),
        CompiledMatcher::StartsWith { value, .. } => of_text(field, value, true, false),
        CompiledMatcher::EndsWith { value, .. } => of_text(field, value, false, true),
        CompiledMatcher::Contains { value, .. } => of_text(field, value, false, false),
        CompiledMatcher::AhoCorasickSet { needles, .. } => {
            of_any(needles.iter().map(|needle| of_text(field, needle, false, false)))
        }
        CompiledMatcher::Regex(regex) => of_expression(field, regex.as_str()),
        CompiledMatcher::RegexSetMatch { set, mode } => {
            let parts = set.patterns().iter().map(|pattern| of_expression(field, pattern));
            of_group(*mode, parts)
        }
        CompiledMatcher::NumericEq(number) => of_number(field, *number),
        CompiledMatcher::AnyOf(parts) => of_any(each(parts)),
        CompiledMatcher::AllOf(parts) => of_all(each(parts)),
        CompiledMatcher::CaseInsensitiveGroup { children, mode } => of_group(*mode, each(children)),
        CompiledMatcher::Cidr(_)
        | CompiledMatcher::NumericGt(_)
        | CompiledMatcher::NumericGte(_)
        | CompiledMatcher::NumericLt(_)
        | CompiledMatcher::NumericLte(_)
        | CompiledMatcher::Exists(_)
        | CompiledMatcher::FieldRef { .. }
        | CompiledMatcher::Null
        | CompiledMatcher::BoolEq(_)
        | CompiledMatcher::Expand { .. }
        | CompiledMatcher::TimestampPart { .. }
        | CompiledMatcher::Not(_) => None,
    }
}

fn of_group(mode: GroupMode, parts: impl IntoIterator<Item = Clues>) -> Clues {
    match mode {
        GroupMode::Any => of_any(parts),
        GroupMode::All => of_all(parts),
    }
}

fn of_text(field: &str, text: &str, begins: bool, ends: bool) -> Clues {
    (text.is_ascii() && !text.is_empty()).then(|| {
        vec![Clue {
            field: field.to_owned(),
            sign: Sign::Text {
                text: text.to_ascii_lowercase(),
                begins,
                ends,
            },
        }]
    })
}

fn of_expression(field: &str, pattern: &str) -> Clues {
    of_any(
        needed(pattern)?
            .iter()
            .map(|text| of_text(field, text, false, false)),
    )
}

fn of_number(field: &str, number: f64) -> Clues {
    let whole = number as i64;
    (whole as f64 == number).then(|| {
        vec![Clue {
            field: field.to_owned(),
            sign: Sign::Number(whole),
        }]
    })
}

#[cfg(test)]
mod tests;
