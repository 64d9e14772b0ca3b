//! Whether a rule can match on this host: what it asks for may be in no event of its log source.
//!
//! A field that there is not is absent from every event. What follows from that is worked out through the condition: each part can hold, can
//! fail to hold, or both.

use rsigma_parser::{ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier, SigmaValue};

use super::{Channel, FIELDS};

/// What comes of the fields that a rule asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// No event can match.
    pub never: bool,
    /// Fields that no event of the log source has, each with the name that may have been meant.
    pub unknown: Vec<(String, Option<&'static str>)>,
}

impl Reach {
    /// Why the rule cannot match, or cannot in part; `None` where all is known.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        if self.unknown.is_empty() {
            return None;
        }
        let names: Vec<String> = self
            .unknown
            .iter()
            .map(|(name, meant)| match meant {
                Some(meant) => format!("{name} (is {meant} meant?)"),
                None => name.clone(),
            })
            .collect();
        let plural = if names.len() == 1 { "field" } else { "fields" };
        let verdict = if self.never {
            "it cannot match"
        } else {
            "a part of it cannot match"
        };
        Some(format!(
            "{verdict}: no event of its log source has the {plural} {}",
            names.join(", ")
        ))
    }

    /// Of a rule for `channel`.
    #[must_use]
    pub fn of(detections: &Detections, channel: Channel) -> Self {
        let mut asked = Asked {
            channel,
            unknown: Vec::new(),
        };
        let named: Vec<(&str, Can)> = detections
            .named
            .iter()
            .map(|(name, detection)| (&**name, asked.detection(detection)))
            .collect();
        let can_hold = detections
            .conditions
            .iter()
            .any(|condition| Can::of_condition(condition, &named).hold);
        asked.unknown.sort();
        asked.unknown.dedup();
        Self {
            never: !can_hold && !asked.unknown.is_empty(),
            unknown: asked
                .unknown
                .into_iter()
                .map(|name| (meant(&name, channel), name))
                .map(|(meant, name)| (name, meant))
                .collect(),
        }
    }
}

/// Whether every field that is named exists in some event of the log source.
pub(super) fn is_known(name: &str, channel: Channel) -> bool {
    FIELDS
        .iter()
        .any(|field| field.name == name && field.channels.contains(channel))
}

fn meant(name: &str, channel: Channel) -> Option<&'static str> {
    let fields = FIELDS.iter().filter(|field| field.channels.contains(channel));
    fields
        .map(|field| field.name)
        .find(|known| known.eq_ignore_ascii_case(&name.replace(['_', '.'], "")))
}

struct Asked {
    channel: Channel,
    unknown: Vec<String>,
}

/// What can become of a part of a rule.
#[derive(Clone, Copy, Debug)]
struct Can {
    hold: bool,
    fail: bool,
}

impl Can {
    const BOTH: Self = Self {
        hold: true,
        fail: true,
    };

    fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let start = Self {
            hold: true,
            fail: false,
        };
        parts.into_iter().fold(start, |all, part| Self {
            hold: all.hold && part.hold,
            fail: all.fail || part.fail,
        })
    }

    fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::all(parts.into_iter().map(Self::not)).not()
    }

    fn not(self) -> Self {
        Self {
            hold: self.fail,
            fail: self.hold,
        }
    }

    fn of_condition(condition: &ConditionExpr, named: &[(&str, Self)]) -> Self {
        let each = |parts: &[ConditionExpr]| -> Vec<Self> {
            parts.iter().map(|part| Self::of_condition(part, named)).collect()
        };
        match condition {
            ConditionExpr::And(parts) => Self::all(each(parts)),
            ConditionExpr::Or(parts) => Self::any(each(parts)),
            ConditionExpr::Not(part) => Self::of_condition(part, named).not(),
            ConditionExpr::Identifier(name) => {
                let found = named.iter().find(|(other, _)| other == name);
                found.map_or(Self::BOTH, |(_, can)| *can)
            }
            ConditionExpr::Selector { quantifier, pattern } => {
                let chosen = named
                    .iter()
                    .filter(|(name, _)| pattern.matches_detection_name(name))
                    .map(|(_, can)| *can);
                match quantifier {
                    Quantifier::Any => Self::any(chosen),
                    Quantifier::All => Self::all(chosen),
                    Quantifier::Count(count) => Self {
                        hold: chosen.filter(|can| can.hold).count() as u64 >= *count,
                        fail: true,
                    },
                }
            }
        }
    }
}

impl Asked {
    fn detection(&mut self, detection: &Detection) -> Can {
        match detection {
            Detection::AllOf(items) => {
                let items: Vec<_> = items.iter().map(|item| self.item(item)).collect();
                Can::all(items)
            }
            Detection::AnyOf(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.detection(part)).collect();
                Can::any(parts)
            }
            Detection::And(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.detection(part)).collect();
                Can::all(parts)
            }
            Detection::ArrayMatch { field, .. } => self.field(field, false),
            Detection::Keywords(_) | Detection::Conditional { .. } => Can::BOTH,
        }
    }

    fn item(&mut self, item: &DetectionItem) -> Can {
        let Some(name) = &item.field.name else {
            return Can::BOTH;
        };
        let wants_absence = |value: &SigmaValue| match value {
            SigmaValue::Null => true,
            SigmaValue::Bool(wanted) => item.field.has_modifier(Modifier::Exists) && !wanted,
            _ => false,
        };
        let holds_without = item.values.iter().any(wants_absence) || item.field.has_modifier(Modifier::Neq);
        self.field(name, holds_without)
    }

    fn field(&mut self, name: &str, holds_without: bool) -> Can {
        if is_known(name, self.channel) {
            return Can::BOTH;
        }
        self.unknown.push(name.to_owned());
        Can {
            hold: holds_without,
            fail: !holds_without,
        }
    }
}

#[cfg(test)]
mod tests {
    use rsigma_parser::parse_sigma_yaml;

    use super::*;

    fn reach(detection: &str) -> Reach {
        let text = format!("title: t\nlogsource:\n  category: process_creation\ndetection:\n{detection}");
        let rules = parse_sigma_yaml(&text).unwrap();
        Reach::of(&rules.rules[0].detection, Channel::ProcessCreation)
    }

    #[test]
    fn what_no_event_has_is_followed_through_the_condition() {
        for (detection, never, unknown) in [
            ("  a:\n    Image: x\n  condition: a\n", false, 0),
            ("  a:\n    Hashes: x\n  condition: a\n", true, 1),
            ("  a:\n    Hashes: x\n    Image: x\n  condition: a\n", true, 1),
            (
                "  a:\n    Image: x\n  b:\n    Hashes: x\n  condition: a or b\n",
                false,
                1,
            ),
            (
                "  a:\n    Image: x\n  b:\n    Hashes: x\n  condition: a and not b\n",
                false,
                1,
            ),
            (
                "  a1:\n    Image: x\n  a2:\n    Hashes: x\n  condition: all of a*\n",
                true,
                1,
            ),
            (
                "  a1:\n    Image: x\n  a2:\n    Hashes: x\n  condition: 1 of them\n",
                false,
                1,
            ),
            ("  a:\n    Hashes: null\n  condition: a\n", false, 1),
            ("  a:\n    Hashes|exists: false\n  condition: a\n", false, 1),
            (
                "  a:\n    - Hashes: x\n    - Image: y\n  condition: a\n",
                false,
                1,
            ),
        ] {
            let reach = reach(detection);
            assert_eq!(
                (reach.never, reach.unknown.len()),
                (never, unknown),
                "{detection}"
            );
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_pointed_at() {
        let reach = reach("  a:\n    commandline: x\n  condition: a\n");
        assert_eq!(
            reach.why().unwrap(),
            "it cannot match: no event of its log source has the field commandline (is CommandLine meant?)"
        );
    }
}
