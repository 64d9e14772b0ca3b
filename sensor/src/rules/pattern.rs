//! Regular expressions of rules mean ASCII by `\w`, `\d`, `\s` and `\b`, as in the expressions of PCRE that Sigma's authors write.
//!
//! Letters and digits of all scripts would cost some 100 KB for each expression, and their word boundaries cannot be found by an automaton.

use rsigma_parser::{Detection, DetectionItem, Detections, Modifier, SigmaString, SigmaValue, StringPart};

/// Rewrites the expressions of a rule.
pub(super) fn restrict(detections: &mut Detections) {
    detections.named.values_mut().for_each(restrict_one);
}

fn restrict_one(detection: &mut Detection) {
    match detection {
        Detection::AllOf(items) => items.iter_mut().for_each(restrict_item),
        Detection::AnyOf(parts) | Detection::And(parts) => parts.iter_mut().for_each(restrict_one),
        Detection::Keywords(_) | Detection::ArrayMatch { .. } | Detection::Conditional { .. } => {}
    }
}

fn restrict_item(item: &mut DetectionItem) {
    if !item.field.has_modifier(Modifier::Re) {
        return;
    }
    for value in &mut item.values {
        if let SigmaValue::String(pattern) = value {
            let text = ascii(&pattern.original);
            *pattern = SigmaString {
                original: text.clone(),
                parts: vec![StringPart::Plain(text)],
            };
        }
    }
}

/// The same expression with classes of ASCII. What stands for all others (`\W`) within a class is left as it is.
fn ascii(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len() * 2);
    let mut characters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let Some(escaped) = characters.next() else {
                    text.push('\\');
                    break;
                };
                match class_of(escaped, in_class) {
                    Some(class) => text.push_str(class),
                    None => text.extend(['\\', escaped]),
                }
            }
            '[' if !in_class => {
                in_class = true;
                text.push('[');
                // A bracket right at the beginning is one of the characters.
                for first in ['^', ']'] {
                    text.extend(characters.next_if_eq(&first));
                }
            }
            ']' if in_class => {
                in_class = false;
                text.push(']');
            }
            _ => text.push(character),
        }
    }
    text
}

fn class_of(escaped: char, in_class: bool) -> Option<&'static str> {
    Some(match (escaped, in_class) {
        ('w', true) => "0-9A-Za-z_",
        ('d', true) => "0-9",
        ('s', true) => r" \t\n\r\x0B\x0C",
        ('w', false) => "[0-9A-Za-z_]",
        ('d', false) => "[0-9]",
        ('s', false) => r"[ \t\n\r\x0B\x0C]",
        ('W', false) => "[^0-9A-Za-z_]",
        ('D', false) => "[^0-9]",
        ('S', false) => r"[^ \t\n\r\x0B\x0C]",
        ('b', false) => r"(?-u:\b)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_ascii() {
        for (pattern, wanted) in [
            (r"\d+", "[0-9]+"),
            (r"[\w.-]", "[0-9A-Za-z_.-]"),
            (r"\\w\b", r"\\w(?-u:\b)"),
            (r"[]\d]\d", "[]0-9][0-9]"),
            (r"[^]\W]\W", r"[^]\W][^0-9A-Za-z_]"),
            (r"\[\s\]", r"\[[ \t\n\r\x0B\x0C]\]"),
            (r"\x{202e}\.", r"\x{202e}\."),
            ("end\\", "end\\"),
        ] {
            assert_eq!(ascii(pattern), wanted, "{pattern}");
        }
    }

    #[test]
    fn they_mean_the_same_for_ascii() {
        for pattern in [r"^\w+\s\S+$", r"\bnc\b", r"[\d\s]{2}", r"\D\W"] {
            let [before, after] =
                [pattern, &ascii(pattern)].map(|pattern| regex::Regex::new(pattern).unwrap());
            for text in ["nc -e", "12", "ncat", "a\tb", "", "1 ", "--"] {
                assert_eq!(before.is_match(text), after.is_match(text), "{pattern} {text:?}");
            }
        }
    }
}
