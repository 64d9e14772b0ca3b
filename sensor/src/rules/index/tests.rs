use std::{borrow::Cow, collections::BTreeMap};

use proptest::prelude::*;
use rsigma_eval::{MapEvent, compile_rule, evaluate_rule};
use rsigma_parser::parse_sigma_yaml;

use super::*;

/// Fields by name.
struct Named(BTreeMap<String, Value<'static>>);

impl Fields for Named {
    fn field(&self, name: &str) -> Option<Value<'_>> {
        self.0.get(name).cloned()
    }

    fn is_program(&self) -> bool {
        false
    }

    fn texts(&self, _: &mut dyn FnMut(&str)) {}
}

fn text(text: &str) -> Value<'static> {
    Value::Text(Cow::Owned(text.to_owned()))
}

fn rule(detection: &str) -> CompiledRule {
    let yaml = format!("title: t\nlogsource:\n  category: process_creation\ndetection:\n{detection}");
    let rules = parse_sigma_yaml(&yaml).unwrap();
    assert!(rules.errors.is_empty(), "{yaml}\n{:?}", rules.errors);
    compile_rule(&rules.rules[0]).unwrap()
}

fn clues(detection: &str) -> String {
    let Some(clues) = clues_of(&rule(detection)) else {
        return "none".to_owned();
    };
    let mut all: Vec<_> = clues
        .iter()
        .map(|clue| match &clue.sign {
            Sign::Number(number) => format!("{} {number}", clue.field),
            Sign::Text { text, begins, ends } => {
                let mark = |is: &bool, mark| if *is { mark } else { "" };
                format!("{} {}{text}{}", clue.field, mark(begins, "^"), mark(ends, "$"))
            }
        })
        .collect();
    all.sort();
    all.join(", ")
}

#[test]
fn what_a_rule_does_not_match_without() {
    for (detection, wanted) in [
        ("  a:\n    Image: /bin/sh\n  condition: a\n", "Image ^/bin/sh$"),
        (
            "  a:\n    Image|endswith: [/nc, /ncat]\n  condition: a\n",
            "Image /nc$, Image /ncat$",
        ),
        (
            "  a:\n    Image|startswith: /usr/\n    CommandLine|contains: LD_PRELOAD\n  condition: a\n",
            "CommandLine ld_preload",
        ),
        ("  a:\n    Port: 4444\n  condition: a\n", "Port 4444"),
        ("  a:\n    Port|gt: 1024\n  condition: a\n", "none"),
        (
            "  a:\n    Image: /bin/sh\n  b:\n    Image: /bin/ls\n  condition: a and not b\n",
            "Image ^/bin/sh$",
        ),
        (
            "  a:\n    Image: /bin/sh\n  b:\n    User: root\n  condition: a or b\n",
            "Image ^/bin/sh$, User ^root$",
        ),
        (
            "  a:\n    Image: /bin/sh\n  b:\n    User: null\n  condition: 1 of them\n",
            "none",
        ),
        (
            "  a:\n    Image: /bin/sh\n  b:\n    User: null\n  condition: all of them\n",
            "Image ^/bin/sh$",
        ),
        (
            "  a:\n    CommandLine|contains|all: [abc, defg]\n  condition: a\n",
            "CommandLine defg",
        ),
        (
            "  a:\n    CommandLine|re: 'curl.*\\|\\s*sh'\n  condition: a\n",
            "CommandLine curl",
        ),
        (
            "  a:\n    CommandLine: '*/etc/?hadow'\n  condition: a\n",
            "CommandLine /etc/",
        ),
        (
            "  a:\n    - Image: /bin/sh\n    - User: root\n  condition: a\n",
            "Image ^/bin/sh$, User ^root$",
        ),
        ("  a:\n    User|exists: true\n  condition: a\n", "none"),
        ("  a:\n    - one\n    - two\n  condition: a\n", "none"),
        ("  a:\n    Image: Größe\n  condition: a\n", "none"),
        ("  a:\n    Image: /bin/sh\n  condition: not a\n", "none"),
    ] {
        assert_eq!(clues(detection), wanted, "{detection}");
    }
}

#[test]
fn candidates_are_of_their_log_sources_and_come_once() {
    let both = rule("  a:\n    Image|endswith: [sh, ash, dash]\n  condition: a\n");
    let always = rule("  a:\n    User: null\n  condition: a\n");
    let index = Index::new(&[(0b01, both.clone()), (0b10, both), (0b11, always)]).unwrap();
    let mut found = Vec::new();
    let dash = Named([("Image".to_owned(), text("/bin/DASH"))].into());
    index.candidates(&dash, 0b01, &mut found);
    assert_eq!(found, [0, 2]);
    index.candidates(&dash, 0b10, &mut found);
    assert_eq!(found, [1, 2]);
    index.candidates(&dash, 0b100, &mut found);
    assert!(found.is_empty(), "{found:?}");
    index.candidates(&Named(BTreeMap::new()), 0b01, &mut found);
    assert_eq!(found, [2]);
}

/// One of three fields, with what is asked of it.
fn item() -> impl Strategy<Value = String> {
    let modifiers = prop::sample::select(vec![
        "",
        "|contains",
        "|startswith",
        "|endswith",
        "|contains|all",
        "|re",
        "|cased",
        "|contains|cased",
        "|neq",
        "|windash|contains",
    ]);
    let value = prop::sample::select(vec!["a", "ab", "BA", "a*b", "?b", "7", "'7'", "k", "ba", "abab"]);
    let values = prop::collection::vec(value, 2..4);
    ("[XYZ]", modifiers, values).prop_map(|(field, modifiers, values)| {
        let values = values.into_iter().map(|value| match (modifiers, value) {
            ("|re", "?b" | "7") => "a(b|ba)?",
            ("|re", "a*b") => "(ab)+|b",
            (_, value) => value,
        });
        format!(
            "{field}{modifiers}: [{}]",
            values
                .map(|value| format!("'{}'", value.trim_matches('\'')))
                .collect::<Vec<_>>()
                .join(", ")
        )
    })
}

fn detection() -> impl Strategy<Value = String> {
    let items = prop::collection::vec(item(), 1..3);
    (items, any::<bool>()).prop_map(|(items, is_list)| {
        let (first, rest) = if is_list {
            ("    - ", "    - ")
        } else {
            ("    ", "    ")
        };
        // A mapping may name a field but once.
        let mut seen = Vec::new();
        let mut text = String::new();
        for item in items {
            let key = item.split(':').next().unwrap_or_default().to_owned();
            if !seen.contains(&key) {
                text += if seen.is_empty() { first } else { rest };
                text += &item;
                text.push('\n');
                seen.push(key);
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the engine says of an event, the index has not kept it from saying so.
    #[test]
    fn what_matches_is_a_candidate(
        a in detection(),
        b in detection(),
        condition in prop::sample::select(vec!["a and b", "a or b", "a and not b", "not a", "1 of them", "all of them", "2 of them", "a or not b"]),
        values in prop::collection::btree_map("[XYZ]", prop::sample::select(vec!["a", "ab", "BAB", "aab-ba", "7", " 7", "7.0", "\u{212a}ab", "b", ""]), 0..4),
    ) {
        let rule = rule(&format!("  a:\n{a}  b:\n{b}  condition: {condition}\n"));
        let index = Index::new(&[(1, rule.clone())]).unwrap();
        let event: HashMap<String, String> =
            values.iter().map(|(name, value)| (name.clone(), (*value).to_owned())).collect();
        let fields = Named(values.into_iter().map(|(name, value)| (name, text(value))).collect());
        let mut found = Vec::new();
        index.candidates(&fields, 1, &mut found);
        if evaluate_rule(&rule, &MapEvent::new(event)).is_some() {
            prop_assert_eq!(found, [0]);
        }
    }
}
