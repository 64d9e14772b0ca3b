use proptest::prelude::*;

use super::*;

fn model(events: u64) -> FirstSeen {
    FirstSeen::new(
        Limits::default(),
        Learning {
            events: Some(events),
            span_ns: None,
        },
    )
}

fn surprise(opinion: Opinion) -> Surprise {
    match opinion {
        Opinion::Surprise(surprise) => surprise,
        other => panic!("{other:?}"),
    }
}

#[test]
fn learns_then_flags_and_does_not_learn_by_repetition() {
    let mut model = model(100);
    for number in 0..100 {
        let fact: &[u8] = if number % 10 == 0 { b"logger" } else { b"nginx" };
        assert_eq!(model.observe("web", b"nginx", fact, 0), Opinion::Learned);
    }
    assert_eq!(model.observe("web", b"nginx", b"logger", 0), Opinion::Known);
    for _ in 0..3 {
        let surprise = surprise(model.observe("web", b"nginx", b"sh", 0));
        assert_eq!(surprise.p_value, 1.0 / 102.0);
        assert_eq!(
            (surprise.observations, surprise.distinct, surprise.context_is_new),
            (101, 2, false)
        );
        assert_eq!(
            surprise.alternatives,
            [(b"nginx"[..].into(), 90), (b"logger"[..].into(), 11)]
        );
    }
    model.accept("web", b"nginx", b"sh", 0);
    assert_eq!(model.observe("web", b"nginx", b"sh", 0), Opinion::Known);
}

#[test]
fn learning_ends_by_events_or_by_time_whichever_is_first() {
    let learning = Learning {
        events: Some(3),
        span_ns: Some(100),
    };
    let mut model = FirstSeen::new(Limits::default(), learning);
    for fact in [b"1", b"2", b"3"] {
        assert_eq!(model.observe("busy", b"", fact, 5), Opinion::Learned);
    }
    surprise(model.observe("busy", b"", b"4", 5));
    assert_eq!(model.observe("quiet", b"", b"1", 5), Opinion::Learned);
    assert_eq!(model.observe("quiet", b"", b"2", 104), Opinion::Learned);
    surprise(model.observe("quiet", b"", b"3", 105));
    model.introduce("silent", 0);
    let first = surprise(model.observe("silent", b"", b"1", 100));
    assert_eq!((first.p_value, first.observations), (1.0, 0));
}

#[test]
fn something_new_is_expected_of_the_inventive() {
    let mut model = model(50);
    for number in 0..50_u8 {
        model.observe("build", b"make", &[number], 0);
    }
    assert_eq!(surprise(model.observe("build", b"make", b"new", 0)).p_value, 1.0);
    let elsewhere = surprise(model.observe("build", b"other", b"new", 0));
    assert!(elsewhere.context_is_new && elsewhere.alternatives.is_empty());
    assert_eq!(elsewhere.observations, 50);
}

#[test]
fn the_same_fact_elsewhere_is_another() {
    let mut model = model(1);
    model.observe("a", b"x", b"sh", 0);
    model.observe("b", b"x", b"ls", 0);
    surprise(model.observe("b", b"x", b"sh", 0));
    surprise(model.observe("a", b"y", b"sh", 0));
}

#[test]
fn the_subject_longest_unseen_is_forgotten_first() {
    let limits = Limits {
        subjects: 2,
        ..Limits::default()
    };
    let mut model = FirstSeen::new(limits, Learning::default());
    for subject in ["a", "b", "a", "c"] {
        model.observe(subject, b"", b"", 0);
    }
    assert_eq!(
        model.subjects().map(|(name, ..)| name).collect::<Vec<_>>(),
        ["c", "a"]
    );
}

proptest! {
    #[test]
    fn bounded_and_deterministic(
        observations in proptest::collection::vec((0..6_u8, 0..4_u8, "[a-z]{1,150}"), 0..100),
        facts in 1..9_usize, subjects in 1..5_usize, bytes in 0..5_000_usize,
    ) {
        let limits = Limits { subjects, facts, bytes };
        let learning = Learning { events: Some(20), span_ns: None };
        let mut models = [FirstSeen::new(limits, learning), FirstSeen::new(limits, learning)];
        for (subject, context, fact) in &observations {
            let [left, right] = models.each_mut().map(|model| {
                model.observe(&subject.to_string(), &[*context], fact.as_bytes(), 0)
            });
            prop_assert_eq!(left, right);
            prop_assert!(models[0].memory_bytes() <= bytes);
            prop_assert!(models[0].subjects().count() <= subjects);
            prop_assert!(models[0].subjects().all(|(.., held)| held <= facts));
            let sum: usize = models[0].subjects.iter().map(|(name, subject)| {
                let facts = subject.facts.values().map(|fact| FACT_BYTES + fact.name.len()).sum::<usize>();
                SUBJECT_BYTES + name.len() + facts
            }).sum();
            prop_assert_eq!(models[0].memory_bytes(), sum);
        }
    }
}
