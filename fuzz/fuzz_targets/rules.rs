//! A file of rules: whatever it says, it is parsed, checked and put into an engine that can be asked, and one bad rule does not stop a good one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor::rules::{Channel, Channels, Fields, RuleSet, Source, Value};

struct Answers;

impl Fields for Answers {
    fn field(&self, name: &str) -> Option<Value<'_>> {
        Some(match name.len() % 4 {
            0 => Value::Text(name.to_owned().into()),
            1 => Value::Number(name.len() as i64),
            2 => Value::Flag(true),
            _ => Value::List(vec![name.to_owned().into(), "/usr/bin/x".into()]),
        })
    }

    fn is_program(&self) -> bool {
        true
    }

    fn texts(&self, show: &mut dyn FnMut(&str)) {
        show("/usr/bin/x");
    }
}

const GOOD: &str = "title: Good\nid: good\nlogsource:\n  category: process_creation\ndetection:\n  a:\n    Image: Image\n  condition: a\n";

fuzz_target!(|text: &str| {
    let source = |file: &str, text: &str| Source {
        file: file.into(),
        text: text.to_owned(),
    };
    let mut set = RuleSet::build(&[source("good.yml", GOOD), source("fuzz.yml", text)], &[]);
    let is_good = set.rules.iter().any(|loaded| &*loaded.rule.id == "good" && loaded.active);
    assert!(is_good, "the good rule is gone");
    for fault in &set.faults {
        assert!(!fault.message.is_empty() && !fault.remedy.is_empty());
    }
    set.engine.evaluate(&Answers, Channels::of(&Channel::ALL), 1);
});
