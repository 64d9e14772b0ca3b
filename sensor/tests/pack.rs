//! The rules that the agent brings along: whole, and tested by the events beside them.

use std::{collections::HashSet, path::Path};

use proptest::prelude::*;
use sensor::rules::{PACK, Rule, RuleSet, Source, read, sample};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../rules"))
}

fn sources() -> Vec<Source> {
    let (sources, faults) = read(&[folder()]);
    assert_eq!(faults, []);
    sources
}

/// What is wrong with what a rule says of itself.
fn flaw(rule: &Rule) -> Option<&'static str> {
    let is_uuid = rule.id.len() == 36 && rule.id.bytes().filter(|byte| *byte == b'-').count() == 4;
    if !is_uuid {
        return Some("its id is no UUID");
    }
    if rule.techniques.is_empty() {
        return Some("it names no technique");
    }
    if rule.description.len() < 40 {
        return Some("it does not say why it is bad");
    }
    if rule.false_positives.is_empty() {
        return Some("it does not say what else looks like it");
    }
    None
}

#[test]
fn every_rule_can_match_and_says_what_it_is() {
    let set = RuleSet::build(&sources(), &[]);
    let mut faults: Vec<String> = set.faults.iter().map(ToString::to_string).collect();
    for loaded in &set.rules {
        let place = &loaded.rule.place;
        if let Some(why) = &loaded.why {
            faults.push(format!("{place}: {why}"));
        }
        if let Some(flaw) = flaw(&loaded.rule) {
            faults.push(format!("{place}: {flaw}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let incidents = set
        .rules
        .iter()
        .filter(|loaded| loaded.rule.level.severity().is_some());
    assert!(incidents.count() >= 60);
}

#[test]
fn every_rule_finds_what_it_is_for_and_nothing_else() {
    let mut faults = Vec::new();
    for source in &sources() {
        let path = sample::beside(Path::new(&*source.file));
        match sample::load(&path) {
            Err(why) => faults.push(format!("{}: {why}", path.display())),
            Ok(samples) if samples.positive.is_empty() || samples.negative.is_empty() => {
                faults.push(format!(
                    "{}: it has no positive or no negative test",
                    path.display()
                ));
            }
            Ok(samples) => {
                let verdicts = samples.check(source).into_iter();
                let wrong = verdicts.filter_map(|verdict| Some((verdict.why, verdict.fault?)));
                faults.extend(wrong.map(|(test, fault)| format!("{}: {test}: {fault}", path.display())));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What is found by a rule alone is found by it among all others, where only those are evaluated that an index names.
#[test]
fn every_rule_finds_the_same_among_all() {
    let sources = sources();
    let mut all = RuleSet::build(&sources, &[]);
    for source in &sources {
        let alone = RuleSet::build(std::slice::from_ref(source), &[]);
        let own: HashSet<String> = alone
            .rules
            .iter()
            .map(|loaded| loaded.rule.id.to_string())
            .collect();
        let channel = alone.channels.iter().next().unwrap().name();
        let samples = sample::load(&sample::beside(Path::new(&*source.file))).unwrap();
        // What is told by a correlation alone is not told by itself.
        let told = alone
            .rules
            .iter()
            .filter(|loaded| loaded.rule.level.severity().is_some());
        let mut unfound: HashSet<String> = told.map(|loaded| loaded.rule.id.to_string()).collect();
        for sample in samples.positive {
            let sample = sample.in_source(channel);
            let found = sample.play(&mut all).unwrap();
            let is_found = found.iter().any(|id| own.contains(id));
            assert!(is_found, "{}: {}: {found:?}", source.file, sample.why);
            unfound.retain(|id| !found.contains(id));
        }
        assert!(unfound.is_empty(), "{}: no test finds {unfound:?}", source.file);
    }
}

#[test]
fn the_agent_brings_all_of_them_along() {
    let embedded: Vec<_> = PACK.iter().map(|(_, text)| *text).collect();
    let mut sources = sources();
    assert_eq!(embedded.len(), sources.len());
    sources.retain(|source| !embedded.contains(&&*source.text));
    assert_eq!(sources, []);
}

const GOOD: &str = "title: Good\nid: good\nlogsource:\n  category: process_creation\ndetection:\n  a:\n    Image: /x\n  condition: a\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// The fuzz target `rules` does the same with any bytes.
    #[test]
    fn a_mangled_rule_is_told_of_and_stops_no_other(
        index in 0..PACK.len(),
        wounds in proptest::collection::vec((any::<proptest::sample::Index>(), "[ \\[\\]{}:|*&'\"\\\\()?+\n\ta-z0-9é-]{0,3}"), 1..6),
    ) {
        let mut text: Vec<char> = PACK[index].1.chars().collect();
        for (place, wound) in wounds {
            let at = place.index(text.len());
            let end = (at + wound.len()).min(text.len());
            text.splice(at..end, wound.chars());
        }
        let source = |file: &str, text: String| Source { file: file.into(), text };
        let sources = [source("mangled.yml", text.into_iter().collect()), source("good.yml", GOOD.to_owned())];
        let set = RuleSet::build(&sources, &[]);
        prop_assert!(set.rules.iter().any(|loaded| &*loaded.rule.id == "good" && loaded.active));
        for fault in &set.faults {
            prop_assert!(!fault.message.is_empty() && !fault.remedy.is_empty());
        }
    }
}
