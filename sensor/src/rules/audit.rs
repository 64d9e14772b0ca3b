//! Rules of the audit system ask for the type of a record, and here all records of an event are one: what they ask is known beforehand.
//!
//! Without this every rule of that log source would be evaluated for every event, since each of them has the type that it asks for.

use rsigma_parser::{Detection, DetectionItem, Detections, SigmaValue};

/// Types that the records of every event have.
const ALWAYS: [&str; 4] = ["SYSCALL", "PATH", "CWD", "PROCTITLE"];

/// The type of the arguments of a program.
const PROGRAM: &str = "EXECVE";

/// Takes out what holds anyway, for an event about a program or for any other.
pub(super) fn settle(detections: &mut Detections, is_program: bool) {
    for detection in detections.named.values_mut() {
        settle_one(detection, is_program);
    }
}

fn settle_one(detection: &mut Detection, is_program: bool) {
    match detection {
        Detection::AllOf(items) => {
            let rest: Vec<_> = items
                .iter()
                .filter(|item| !holds(item, is_program))
                .cloned()
                .collect();
            // Nothing at all would be a mistake to the engine.
            if !rest.is_empty() {
                *items = rest;
            }
        }
        Detection::AnyOf(parts) | Detection::And(parts) => {
            parts.iter_mut().for_each(|part| settle_one(part, is_program));
        }
        Detection::Keywords(_) | Detection::ArrayMatch { .. } | Detection::Conditional { .. } => {}
    }
}

fn holds(item: &DetectionItem, is_program: bool) -> bool {
    let is_true = |value: &SigmaValue| match value {
        SigmaValue::String(text) => {
            let is = |name: &str| text.original.eq_ignore_ascii_case(name);
            ALWAYS.into_iter().any(is) || is_program && is(PROGRAM)
        }
        _ => false,
    };
    item.field.name.as_deref() == Some("type")
        && item.field.modifiers.is_empty()
        && item.values.iter().any(is_true)
}

#[cfg(test)]
mod tests {
    use rsigma_parser::parse_sigma_yaml;

    use super::*;

    #[test]
    fn what_holds_anyway_is_taken_out() {
        let text = "title: t\nlogsource:\n  service: auditd\ndetection:\n  a:\n    type: EXECVE\n    a0: x\n  b:\n    type: [PATH, EXECVE]\n    \
                    name: y\n  c:\n    type: SYSCALL\n  condition: 1 of them\n";
        let rule = &parse_sigma_yaml(text).unwrap().rules[0];
        let left = |is_program: bool| {
            let mut detections = rule.detection.clone();
            settle(&mut detections, is_program);
            ["a", "b", "c"].map(|name| match &detections.named[name] {
                Detection::AllOf(items) => items.len(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(left(true), [1, 1, 1]);
        assert_eq!(left(false), [2, 1, 1]);
    }
}
