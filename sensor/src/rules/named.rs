//! Executables that a rule names by their paths alone: whatever else is so, it matches when one of them is run. The kernel can refuse these before
//! their first instruction, where the response's policy would end them.
//!
//! Only what is certain counts: a path without wildcards, in the letters that the rule has it in, in a selection that asks for nothing else.

use std::{collections::BTreeSet, path::PathBuf};

use rsigma_parser::{ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier, SigmaValue};

/// The field that has the executable's path.
const IMAGE: &str = "Image";

/// Of one rule, at most.
const MOST: usize = 256;

/// What a rule names so, in order.
pub(super) fn named(rule: &Detections) -> Vec<PathBuf> {
    let mut paths = BTreeSet::new();
    for condition in &rule.conditions {
        enough(condition, rule, &mut paths);
    }
    paths.into_iter().take(MOST).collect()
}

/// Paths each of which fulfils the condition by itself.
fn enough(condition: &ConditionExpr, rule: &Detections, paths: &mut BTreeSet<PathBuf>) {
    match condition {
        ConditionExpr::Or(parts) => parts.iter().for_each(|part| enough(part, rule, paths)),
        ConditionExpr::Identifier(name) => {
            if let Some(detection) = rule.named.get(name) {
                of_detection(detection, paths);
            }
        }
        ConditionExpr::Selector {
            quantifier: Quantifier::Any | Quantifier::Count(1),
            pattern,
        } => {
            for (_, detection) in rule
                .named
                .iter()
                .filter(|(name, _)| pattern.matches_detection_name(name))
            {
                of_detection(detection, paths);
            }
        }
        _ => {}
    }
}

fn of_detection(detection: &Detection, paths: &mut BTreeSet<PathBuf>) {
    match detection {
        Detection::AllOf(items) => {
            if let [item] = &items[..] {
                of_item(item, paths);
            }
        }
        Detection::AnyOf(parts) => parts.iter().for_each(|part| of_detection(part, paths)),
        _ => {}
    }
}

fn of_item(item: &DetectionItem, paths: &mut BTreeSet<PathBuf>) {
    let modifiers = &item.field.modifiers;
    if item.field.name.as_deref() != Some(IMAGE) || !modifiers.iter().all(|one| *one == Modifier::Cased) {
        return;
    }
    let texts = item.values.iter().filter_map(|value| match value {
        SigmaValue::String(text) => text.as_plain(),
        _ => None,
    });
    paths.extend(texts.filter(|text| text.starts_with('/')).map(PathBuf::from));
}

#[cfg(test)]
mod tests {
    use crate::rules::{RuleSet, Source};

    /// What a rule with this detection names.
    fn named(detection: &str) -> Vec<String> {
        named_with(detection, "")
    }

    fn named_with(detection: &str, more: &str) -> Vec<String> {
        let text = format!(
            "title: One\nid: one\nlevel: high\nlogsource:\n  product: linux\n  category: process_creation\ndetection:\n{detection}{more}"
        );
        let source = Source {
            file: "one.yml".into(),
            text,
        };
        let set = RuleSet::build(&[source], &[]);
        assert!(set.rules[0].active, "{:?} {:?}", set.rules[0].why, set.faults);
        let paths = set.rules[0].named.iter();
        paths.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn paths_that_are_enough_are_named() {
        let one = "  a:\n    Image: /opt/Bad\n  condition: a\n";
        assert_eq!(named(one), ["/opt/Bad"]);
        let either = "  a:\n    Image:\n      - /b\n      - /a\n      - '*/c'\n      - d\n  b:\n    CommandLine: x\n  condition: a or b\n";
        assert_eq!(named(either), ["/a", "/b"]);
        let list = "  a:\n    - Image: /a\n    - Image: /b\n      User: x\n  condition: 1 of a*\n";
        assert_eq!(named(list), ["/a"]);
    }

    #[test]
    fn what_asks_for_more_names_nothing() {
        for detection in [
            "  a:\n    Image: /a\n    User: x\n  condition: a\n",
            "  a:\n    Image: /a\n  b:\n    User: x\n  condition: a and not b\n",
            "  a:\n    Image: /a\n  b:\n    Image: /b\n  condition: all of them\n",
            "  a:\n    Image|endswith: /a\n  condition: a\n",
            "  a:\n    ParentImage: /a\n  condition: a\n",
        ] {
            assert_eq!(named(detection), [""; 0], "{detection}");
        }
    }

    #[test]
    fn where_filters_may_say_otherwise_nothing_is_named() {
        let filter = "---\ntitle: F\nlogsource:\n  product: linux\n  category: process_creation\nfilter:\n  rules:\n    - one\n  x:\n    User: root\n  condition: not x\n";
        let one = "  a:\n    Image: /a\n  condition: a\n";
        assert_eq!(named_with(one, filter), [""; 0]);
    }
}
