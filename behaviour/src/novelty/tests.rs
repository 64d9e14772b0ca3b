use proptest::prelude::*;

use super::{
    scope::{CONTEXT_BYTES, FACT_BYTES, SCOPE_BYTES},
    *,
};
use crate::snapshot::{Kind, seal};

fn model(events: u64) -> Novelty {
    let learning = Learning {
        events: Some(events),
        ..Learning::default()
    };
    Novelty::new(Limits::default(), learning)
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
        assert_eq!(model.observe(&["web"], b"nginx", fact, 0), Opinion::Learned);
    }
    let Opinion::Known(known) = model.observe(&["web"], b"nginx", b"logger", 0) else {
        panic!("it was learned")
    };
    assert_eq!((known.count, known.observations), (10, 100));
    assert!((known.p_value - (1.0 / 101.0 + 100.0 / 101.0 * 0.1)).abs() < 1e-12);
    for _ in 0..3 {
        let surprise = surprise(model.observe(&["web"], b"nginx", b"sh", 0));
        assert_eq!(surprise.p_value, 1.0 / 102.0);
        let here = surprise.here;
        assert_eq!(
            (here.observations, here.distinct, here.context_is_new),
            (101, 2, false)
        );
        assert_eq!(surprise.known_in(), None);
        assert_eq!(
            surprise.alternatives,
            [(b"nginx"[..].into(), 90), (b"logger"[..].into(), 11)]
        );
    }
    model.accept(&["web"], b"nginx", b"sh", 0);
    assert!(matches!(
        model.observe(&["web"], b"nginx", b"sh", 0),
        Opinion::Known(_)
    ));
}

#[test]
fn learning_ends_by_events_or_by_time_whichever_is_first() {
    let learning = Learning {
        events: Some(3),
        span_ns: Some(100),
        unseen: None,
    };
    let mut model = Novelty::new(Limits::default(), learning);
    for fact in [b"1", b"2", b"3"] {
        assert_eq!(model.observe(&["busy"], b"", fact, 5), Opinion::Learned);
    }
    surprise(model.observe(&["busy"], b"", b"4", 5));
    assert_eq!(model.observe(&["quiet"], b"", b"1", 5), Opinion::Learned);
    assert_eq!(model.observe(&["quiet"], b"", b"2", 104), Opinion::Learned);
    surprise(model.observe(&["quiet"], b"", b"3", 105));
    model.introduce("silent", 0);
    let first = surprise(model.observe(&["silent"], b"", b"1", 100));
    assert_eq!((first.p_value, first.here.observations), (1.0, 0));
}

#[test]
fn a_subject_is_ready_when_little_new_is_to_be_expected() {
    let learning = Learning {
        unseen: Some(0.05),
        ..Learning::default()
    };
    let mut model = Novelty::new(Limits::default(), learning);
    for number in 0..40_u8 {
        model.observe(&["monotonous"], b"", &[number % 2], 0);
        assert_eq!(model.observe(&["inventive"], b"", &[number], 0), Opinion::Learned);
    }
    assert!(model.unseen("monotonous") <= 0.05 && model.unseen("inventive") == 1.0);
    assert_eq!(model.unseen("nobody"), 1.0);
    surprise(model.observe(&["monotonous"], b"", b"new", 0));
}

#[test]
fn something_new_is_expected_of_the_inventive() {
    let mut model = model(50);
    for number in 0..50_u8 {
        model.observe(&["build"], b"make", &[number], 0);
    }
    assert_eq!(
        surprise(model.observe(&["build"], b"make", b"new", 0)).p_value,
        1.0
    );
    let elsewhere = surprise(model.observe(&["build"], b"other", b"new", 0));
    assert!(elsewhere.here.context_is_new && elsewhere.alternatives.is_empty());
    assert_eq!(elsewhere.here.observations, 50);
}

#[test]
fn the_same_fact_elsewhere_is_another() {
    let mut model = model(1);
    model.observe(&["a"], b"x", b"sh", 0);
    model.observe(&["b"], b"x", b"ls", 0);
    surprise(model.observe(&["b"], b"x", b"sh", 0));
    surprise(model.observe(&["a"], b"y", b"sh", 0));
}

/// A new fact that other workloads of the image know is less surprising than one that nobody knows; and a wider scope counts workloads,
/// not observations.
#[test]
fn what_a_scope_does_not_know_the_next_wider_one_is_asked_for() {
    let mut model = model(60);
    let workloads: Vec<String> = (0..20).map(|number| format!("web-{number}")).collect();
    for workload in &workloads {
        for number in 0..60 {
            let fact = if number % 2 == 0 { "nginx" } else { "logger" };
            model.observe(&[workload, "image", "host"], b"nginx", fact.as_bytes(), 0);
        }
        if workload != "web-0" {
            model.accept(&[workload, "image", "host"], b"nginx", b"certbot", 0);
        }
    }
    let scopes = ["web-0", "image", "host"];
    let elsewhere = surprise(model.observe(&scopes, b"nginx", b"certbot", 0));
    assert_eq!((elsewhere.known_in(), elsewhere.wider[0].count), (Some(1), 19));
    assert_eq!(elsewhere.wider[0].observations, 59);
    let nowhere = surprise(model.observe(&scopes, b"nginx", b"sh", 0));
    assert_eq!((nowhere.known_in(), nowhere.wider.len()), (None, 2));
    // Of the image's 59 firsts none was the only one of its kind; the host saw three firsts, each once.
    assert!(
        (nowhere.p_value - 1.0 / 61.0 * (1.0 / 60.0)).abs() < 1e-12,
        "{nowhere:?}"
    );
    assert!(elsewhere.p_value > 10.0 * nowhere.p_value);
    let unknown = surprise(model.observe(&["web-0", "another image"], b"nginx", b"sh", 0));
    assert_eq!(unknown.p_value, unknown.here.unseen);
}

/// The promise: facts drawn from one distribution fall below p as often as p says, or less.
#[test]
fn p_values_are_p_values() {
    let mut random = fastrand::Rng::with_seed(7);
    // Few facts that are frequent and many that are rare.
    let mut fact = move || ((1.0 / random.f64().max(1e-4)) as u32).to_le_bytes();
    let mut model = Novelty::new(
        Limits {
            facts: 4_096,
            ..Limits::default()
        },
        Learning {
            events: Some(2_000),
            ..Learning::default()
        },
    );
    for _ in 0..2_000 {
        model.observe(&["host"], b"", &fact(), 0);
    }
    let mut below = [0_u32; 3];
    let levels = [0.05, 0.02, 0.01];
    for _ in 0..5_000 {
        let fact = fact();
        let p = match model.observe(&["host"], b"", &fact, 0) {
            Opinion::Known(known) => known.p_value,
            Opinion::Surprise(surprise) => surprise.p_value,
            Opinion::Learned => panic!("it has learned"),
        };
        for (count, level) in below.iter_mut().zip(levels) {
            *count += u32::from(p <= level);
        }
        model.accept(&["host"], b"", &fact, 0);
    }
    for (count, level) in below.into_iter().zip(levels) {
        assert!(f64::from(count) <= 1.2 * level * 5_000.0, "{count} at {level}");
    }
    assert!(below[0] > 50, "{below:?}: nothing is rare to it");
}

#[test]
fn the_subject_longest_unseen_is_forgotten_first() {
    let limits = Limits {
        subjects: 2,
        ..Limits::default()
    };
    let mut model = Novelty::new(limits, Learning::default());
    for subject in ["a", "b", "a", "c"] {
        model.observe(&[subject], b"", b"", 0);
    }
    assert_eq!(
        model.subjects().map(|(name, ..)| name).collect::<Vec<_>>(),
        ["c", "a"]
    );
}

#[test]
fn a_clock_that_began_anew_does_not_end_learning() {
    let learning = Learning {
        span_ns: Some(100),
        ..Learning::default()
    };
    let mut model = Novelty::new(Limits::default(), learning);
    model.observe(&["a"], b"", b"1", 1_000);
    model.observe(&["a"], b"", b"2", 1_060);
    let bytes = model.to_snapshot();
    let mut model = Novelty::from_snapshot(&bytes, Limits::default(), learning).unwrap();
    assert_eq!(model.observe(&["a"], b"", b"3", 5), Opinion::Learned);
    assert_eq!(model.observe(&["a"], b"", b"4", 44), Opinion::Learned);
    surprise(model.observe(&["a"], b"", b"5", 45));
}

type Observation = (u8, u8, String);

fn observations() -> impl Strategy<Value = Vec<Observation>> {
    prop::collection::vec((0..6_u8, 0..4_u8, "[a-c]{1,3}|[a-z]{90,150}"), 0..100)
}

fn learned(observations: &[Observation], limits: Limits) -> Novelty {
    let mut model = Novelty::new(limits, Learning::default());
    for (subject, context, fact) in observations {
        let subject = subject.to_string();
        model.observe(&[&subject, "host"], &[*context], fact.as_bytes(), 0);
    }
    model
}

/// Bytes as they should have been counted.
fn counted(model: &Novelty) -> usize {
    let scope = |(name, scope): (&String, &Scope)| {
        let facts = scope.by_age();
        let mut contexts: Vec<u64> = facts.iter().map(|(context, _)| *context).collect();
        contexts.sort_unstable();
        contexts.dedup();
        let facts: usize = facts.iter().map(|(_, fact)| FACT_BYTES + fact.name.len()).sum();
        SCOPE_BYTES + name.len() + CONTEXT_BYTES * contexts.len() + facts
    };
    model.scopes.iter().map(scope).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn bounded_and_deterministic(
        observations in observations(), facts in 1..9_usize, subjects in 1..5_usize, bytes in 0..9_000_usize,
    ) {
        let limits = Limits { subjects, facts, bytes };
        let learning = Learning { events: Some(20), ..Learning::default() };
        let mut models = [Novelty::new(limits, learning), Novelty::new(limits, learning)];
        for (subject, context, fact) in &observations {
            let [left, right] = models.each_mut().map(|model| {
                model.observe(&[&subject.to_string(), "host"], &[*context], fact.as_bytes(), 0)
            });
            if let Opinion::Surprise(surprise) = &left {
                prop_assert!(surprise.p_value > 0.0 && surprise.p_value <= 1.0);
            }
            prop_assert_eq!(left, right);
            prop_assert!(models[0].memory_bytes() <= bytes);
            prop_assert!(models[0].subjects().count() <= subjects);
            prop_assert!(models[0].subjects().all(|(.., held)| held <= facts));
            prop_assert_eq!(models[0].memory_bytes(), counted(&models[0]));
        }
    }

    #[test]
    fn a_snapshot_is_the_model(observations in observations(), facts in 1..40_usize) {
        let limits = Limits { facts, ..Limits::default() };
        let model = learned(&observations, limits);
        let bytes = model.to_snapshot();
        let back = Novelty::from_snapshot(&bytes, limits, Learning::default()).unwrap();
        prop_assert_eq!(back.to_snapshot(), bytes);
        prop_assert_eq!(back.memory_bytes(), model.memory_bytes());
        for (subject, context, fact) in &observations {
            let (key, context) = scope::keys(&[*context], fact.as_bytes());
            for name in [&subject.to_string(), "host"] {
                let [ours, theirs] = [&model, &back].map(|model| model.scopes.peek(name).map(|scope| (scope.known(context, key), scope.level(context, key))));
                prop_assert_eq!(ours, theirs);
            }
        }
    }

    /// Of workloads that do not run on both, or the wider scopes would count those twice.
    #[test]
    fn merged_models_know_what_one_would_that_had_seen_both(here in observations(), there in observations()) {
        let there: Vec<Observation> = there.into_iter().map(|(subject, context, fact)| (subject + 100, context, fact)).collect();
        let limits = Limits { facts: 1_000, ..Limits::default() };
        let both = learned(&[here.clone(), there.clone()].concat(), limits);
        let mut merged = learned(&here, limits);
        merged.merge(&learned(&there, limits));
        prop_assert_eq!(merged.memory_bytes(), counted(&merged));
        for (subject, context, fact) in here.iter().chain(&there) {
            let (key, context) = scope::keys(&[*context], fact.as_bytes());
            for name in [&subject.to_string(), "host"] {
                let [ours, theirs] = [&merged, &both].map(|model| {
                    let scope = model.scopes.peek(name).unwrap();
                    (scope.known(context, key), scope.level(context, key), scope.unseen(), scope.observed())
                });
                prop_assert_eq!(ours, theirs);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_model_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..200), scopes in 0_u32..3, name in 0_u16..4) {
        let mut head = scopes.to_le_bytes().to_vec();
        head.extend(name.to_le_bytes());
        head.extend(&payload);
        let limits = Limits { facts: 3, bytes: 2_000, subjects: 2 };
        if let Ok(mut model) = Novelty::from_snapshot(&seal(Kind::Novelty, 1, &head), limits, Learning::default()) {
            model.observe(&["a"], b"", b"", 0);
            prop_assert!(model.memory_bytes() <= 2_000);
        }
    }
}

#[test]
fn a_snapshot_that_makes_no_sense_inside_is_refused() {
    let mut model = Novelty::new(Limits::default(), Learning::default());
    model.observe(&["ab"], b"", b"sh", 0);
    let snapshot = model.to_snapshot();
    let inside = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = snapshot[11..snapshot.len() - 4].to_vec();
        change(&mut payload);
        let sealed = seal(Kind::Novelty, 1, &payload);
        let model = Novelty::from_snapshot(&sealed, Limits::default(), Learning::default());
        model.unwrap_err().to_string()
    };
    type Change = &'static dyn Fn(&mut Vec<u8>);
    let changes: [(Change, &str); 8] = [
        (&|bytes| bytes.truncate(2), "it ends before its first scope"),
        (&|bytes| bytes[6] = 0xff, "a scope's name is not UTF-8"),
        (&|bytes| bytes.truncate(20), "a scope is cut off"),
        (&|bytes| bytes.truncate(30), "a fact is cut off"),
        (
            &|bytes| bytes[44..48].fill(0),
            "a fact that was never seen, or has too long a name",
        ),
        (&|bytes| bytes.push(0), "more after the last scope"),
        (
            &|bytes| {
                bytes[24] = 2;
                bytes.extend(bytes[28..].to_vec());
            },
            "a fact is there twice",
        ),
        (
            &|bytes| {
                bytes[0] = 2;
                bytes.extend(bytes[4..].to_vec());
            },
            "a scope is there twice or has too long a name",
        ),
    ];
    for (change, message) in changes {
        assert_eq!(inside(change), format!("damaged inside: {message}"));
    }
}

/// What a host has learned: these facts, in one context, of a workload, and so of the host.
fn host(facts: &[&[u8]]) -> Novelty {
    let mut model = model(100);
    for fact in facts {
        model.observe(&["web", "host"], b"nginx", fact, 0);
    }
    model
}

fn fleet<'a>(hosts: impl IntoIterator<Item = &'a Novelty>, veil: Option<&Veil>) -> Prevalence {
    let mut prevalence = Prevalence::default();
    for host in hosts {
        let bytes = host.share(&["host"], veil).to_snapshot();
        prevalence.add(&Novelty::shared_from_snapshot(&bytes).unwrap());
    }
    prevalence
}

/// The p-value of something new at a subject that has learned, on a host with these neighbours.
fn asked(fact: &[u8], neighbours: &[Novelty], veil: Option<Veil>) -> Surprise {
    let mut own = host(&[&b"a"[..]; 200]);
    let prevalence = fleet(neighbours.iter().chain([&own]), veil.as_ref());
    assert_eq!(prevalence.hosts() as usize, neighbours.len() + 1);
    let prior = prevalence
        .without(&own.share(&["host"], veil.as_ref()))
        .to_snapshot();
    own.set_prior(
        Novelty::prior_from_snapshot(&prior).unwrap(),
        prevalence.hosts() - 1,
        veil,
    );
    surprise(own.observe(&["web", "host"], b"nginx", fact, 0))
}

#[test]
fn what_other_hosts_do_surprises_less_and_what_none_does_more() {
    for veil in [None, Some(Veil::new(b"sixteen secret b"))] {
        let neighbours: Vec<Novelty> = (0..20).map(|_| host(&[b"a", b"b"])).collect();
        let alone = asked(b"b", &[], veil);
        let known = asked(b"b", &neighbours, veil);
        let unknown = asked(b"c", &neighbours, veil);
        // Nobody is there to ask: as if there were no fleet.
        assert_eq!(alone.p_value, alone.here.unseen * alone.wider[0].unseen);
        assert_eq!(known.known_in(), Some(2));
        assert_eq!(known.wider[1].count, 20);
        assert_eq!(known.p_value, 20.0 * 19.0 / (20.0 * 21.0));
        assert!(unknown.p_value < alone.p_value / 30.0, "{unknown:?}");
    }
}

#[test]
fn one_host_that_lies_makes_nothing_usual() {
    let mut neighbours: Vec<Novelty> = (0..20).map(|_| host(&[b"a"])).collect();
    let before = asked(b"evil", &neighbours, None).p_value;
    neighbours.push(host(&[&b"evil"[..]; 90]));
    let after = asked(b"evil", &neighbours, None);
    assert_eq!(after.wider[1].count, 1);
    // It is as rare as can be: about the chance of something new.
    assert!(
        after.p_value < before * 5.0 && after.p_value < 0.2 * after.here.unseen * after.wider[0].unseen,
        "{before} {after:?}"
    );
}

#[test]
fn behind_a_veil_nothing_is_named_and_other_keys_understand_nothing() {
    let [first, second] = [b"sixteen secret b", b"sixteen secret c"].map(Veil::new);
    let bytes = host(&[b"/home/ada/diary"])
        .share(&["host"], Some(&first))
        .to_snapshot();
    assert!(!bytes.windows(3).any(|part| part == b"ada"));
    let prevalence = fleet([&host(&[b"x", b"y"])], Some(&first));
    let mut own = host(&[&b"a"[..]; 200]);
    own.set_prior(prevalence.without(&host(&[])), 1, Some(second));
    let found = surprise(own.observe(&["web", "host"], b"nginx", b"x", 0));
    assert_eq!(found.known_in(), None);
}

#[test]
fn a_fleet_is_bounded_and_says_what_it_left_out() {
    let names: Vec<Vec<u8>> = (0..SHARED * 9)
        .map(|number| number.to_string().into_bytes())
        .collect();
    let hosts = names
        .chunks(SHARED)
        .map(|names| host(&names.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    // A scope of the model has 256 facts by its own limits, so these are made wide first.
    let mut prevalence = Prevalence::default();
    for host in hosts {
        prevalence.add(&host.share(&["host"], None));
    }
    assert!(prevalence.facts() <= COUNTED);
    let mut wide = Novelty::new(
        Limits {
            facts: SHARED,
            ..Limits::default()
        },
        Learning::default(),
    );
    for chunk in names.chunks(SHARED) {
        for name in chunk {
            wide.accept(&["web", "host"], b"", name, 0);
        }
        prevalence.add(&wide.share(&["host"], None));
    }
    assert_eq!(prevalence.facts(), COUNTED);
    assert!(prevalence.left_out() > 0);
    let prior = prevalence.without(&host(&[]));
    assert_eq!(
        Novelty::prior_from_snapshot(&prior.to_snapshot())
            .unwrap()
            .to_snapshot(),
        prior.to_snapshot()
    );
    assert!(prior.memory_bytes() < 4 << 20, "{}", prior.memory_bytes());
}
