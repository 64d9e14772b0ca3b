use proptest::prelude::*;

use super::*;

/// Each person has commands of their own; all have some in common, and try something now and then.
fn block(person: u32, turn: u32) -> Vec<u32> {
    let mut word = person * 1_000 + turn;
    let mut below = |limit: u32| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 8) % limit
    };
    let one = |below: &mut dyn FnMut(u32) -> u32| match below(20) {
        0 => 5_000 + below(50),
        1..8 => below(6),
        _ => 100 * (person + 1) + below(9),
    };
    (0..40).map(|_| one(&mut below)).collect()
}

fn population() -> Habits {
    let mut habits = Habits::new(Bounds::default());
    for person in 0..8 {
        for turn in 0..30 {
            habits.learn(&person.to_string(), &block(person, turn));
        }
    }
    habits.settle();
    habits
}

#[test]
fn somebody_else_is_told_from_the_person() {
    let mut habits = population();
    let own = habits.observe("3", &block(3, 40));
    assert!(own.p_value > 0.05 && own.accepted && own.score < 0.0, "{own:?}");
    let other = habits.observe("3", &block(5, 40));
    assert!(
        other.p_value < 0.01 && !other.accepted && other.score > 0.0,
        "{other:?}"
    );
}

#[test]
fn the_commands_that_speak_for_somebody_else_are_the_reasons() {
    let habits = population();
    let reasons = habits.reasons("3", &block(5, 40), 3);
    assert_eq!(reasons.len(), 3);
    for reason in &reasons {
        assert!((600..700).contains(&reason.symbol), "{reason:?}");
        assert!(
            reason.own < 1e-3 && reason.others > 0.005 && reason.times >= 1,
            "{reason:?}"
        );
    }
    assert!(reasons[0].nats >= reasons[2].nats);
    let own = habits.reasons("3", &block(3, 40), 3);
    assert!(
        own.iter()
            .all(|reason| reason.symbol < 100 || reason.symbol >= 5_000),
        "{own:?}"
    );
}

#[test]
fn nobody_is_suspected_who_is_not_known() {
    let mut habits = population();
    assert_eq!(habits.observe("nobody", &[1, 2, 3]).p_value, 1.0);
    assert!(habits.reasons("nobody", &[1, 2, 3], 3).is_empty());
    assert_eq!(
        Habits::new(Bounds::default()).observe("nobody", &[1]).p_value,
        1.0
    );
}

/// Repetition does not make an intruder welcome.
#[test]
fn an_intruder_who_insists_is_not_learned() {
    let mut habits = population();
    for turn in 0..60 {
        let judgement = habits.observe("3", &block(5, turn));
        assert!(
            !judgement.accepted && judgement.p_value < 0.01,
            "{turn}: {judgement:?}"
        );
    }
    assert!(habits.observe("3", &block(3, 99)).p_value > 0.05);
}

#[test]
fn a_person_who_changes_slowly_is_followed() {
    let mut habits = population();
    let changed = |turn: u32, new: u32| -> Vec<u32> {
        let old = block(3, turn);
        let is_new = |at: usize| (at as u32 * 13) % 40 < new;
        old.iter()
            .enumerate()
            .map(|(at, &was)| if is_new(at) { 600 + was % 3 } else { was })
            .collect()
    };
    assert!(habits.clone().observe("3", &changed(0, 30)).p_value < 0.01);
    for turn in 0..300 {
        habits.observe("3", &changed(turn, turn / 10));
    }
    let judgement = habits.observe("3", &changed(301, 30));
    assert!(judgement.p_value > 0.05, "{judgement:?}");
}

#[test]
fn what_is_no_longer_done_fades() {
    let mut habits = population();
    let old = |habits: &Habits| {
        (5_000..5_050)
            .map(|symbol| habits.people["3"].current.of(symbol))
            .sum::<f64>()
    };
    let before = old(&habits);
    for turn in 0..200 {
        let mut usual = block(3, turn);
        usual.retain(|&symbol| symbol < 5_000);
        habits.observe("3", &usual);
    }
    assert!(before > 20.0 && old(&habits) < before / 10.0);
}

#[test]
fn what_waits_is_dropped_when_something_alarming_comes() {
    let mut habits = Habits::new(Bounds {
        delay: 2,
        ..Bounds::default()
    });
    for person in 0..8 {
        (0..30).for_each(|turn| habits.learn(&person.to_string(), &block(person, turn)));
    }
    habits.settle();
    let known = |habits: &Habits| habits.people["3"].current.total();
    let before = known(&habits);
    habits.observe("3", &block(3, 40));
    habits.observe("3", &block(3, 41));
    assert_eq!(known(&habits), before);
    habits.observe("3", &block(5, 42));
    assert!(habits.people["3"].waiting.is_empty());
    for turn in 0..3 {
        habits.observe("3", &block(3, turn));
    }
    assert_ne!(known(&habits), before);
}

#[test]
fn the_person_seen_the_longest_ago_is_forgotten() {
    let mut habits = Habits::new(Bounds {
        people: 2,
        ..Bounds::default()
    });
    for name in ["a", "b", "a", "c"] {
        habits.learn(name, &[1, 2, 3]);
    }
    assert_eq!(habits.people.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(habits.everyone.total(), 9.0);
}

proptest! {
    #[test]
    fn whatever_comes_memory_is_bounded_and_numbers_are_numbers(
        blocks in prop::collection::vec((0_u8..6, prop::collection::vec(0_u32..400, 0..60), any::<bool>()), 1..120),
    ) {
        let bounds = Bounds { people: 3, symbols: 50, blocks: 4, delay: 1 };
        let mut habits = Habits::new(bounds);
        for (person, block, learn) in blocks {
            let person = person.to_string();
            if learn {
                habits.learn(&person, &block);
            } else {
                habits.settle();
                let judgement = habits.observe(&person, &block);
                prop_assert!(judgement.score.is_finite() && judgement.deviation.is_finite());
                prop_assert!(judgement.p_value > 0.0 && judgement.p_value <= 1.0);
            }
            prop_assert!(habits.memory_bytes() <= bounds.max_bytes());
            prop_assert!(habits.people.len() <= bounds.people);
            for known in habits.people.values() {
                prop_assert!(known.current.kinds() <= bounds.symbols && known.unsettled.len() <= bounds.blocks);
            }
        }
    }
}

fn judgements(habits: &Habits) -> Vec<Judgement> {
    let mut habits = habits.clone();
    (0..8)
        .flat_map(|person| [block(person, 50), block((person + 1) % 8, 50)].map(|block| (person, block)))
        .map(|(person, block)| habits.observe(&person.to_string(), &block))
        .collect()
}

/// Up to the precision of its numbers.
fn alike(ours: &[Judgement], theirs: &[Judgement]) -> bool {
    ours.iter().zip(theirs).all(|(ours, theirs)| {
        (ours.score - theirs.score).abs() < 1e-4
            && (ours.deviation - theirs.deviation).abs() < 1e-3
            && (ours.p_value - theirs.p_value).abs() < 0.01
            && ours.accepted == theirs.accepted
    })
}

#[test]
fn a_snapshot_is_the_model() {
    let mut habits = population();
    for turn in 60..110 {
        habits.observe("3", &block(3, turn));
    }
    let bytes = habits.to_snapshot();
    assert!(bytes.len() < 16 << 10, "{}", bytes.len());
    let back = Habits::from_snapshot(&bytes, Bounds::default()).unwrap();
    assert_eq!(back.to_snapshot(), bytes);
    assert!(alike(&judgements(&habits), &judgements(&back)));
    let few = Bounds {
        people: 2,
        symbols: 4,
        ..Bounds::default()
    };
    let back = Habits::from_snapshot(&bytes, few).unwrap();
    assert_eq!(back.people.keys().collect::<Vec<_>>(), ["3", "7"]);
    assert!(back.people.values().all(|person| person.current.kinds() <= 4));
}

#[test]
fn merged_models_know_everybody_and_of_the_same_person_everything() {
    let learned = |people: std::ops::Range<u32>, turns: std::ops::Range<u32>| {
        let mut habits = Habits::new(Bounds::default());
        for person in people {
            turns
                .clone()
                .for_each(|turn| habits.learn(&person.to_string(), &block(person, turn)));
        }
        habits.settle();
        habits
    };
    let mut both = learned(0..5, 0..30);
    both.merge(&learned(4..8, 0..30));
    assert_eq!(both.people.len(), 8);
    let one = learned(0..8, 0..30);
    assert_eq!(
        both.people["4"].learned.total(),
        2.0 * one.people["4"].learned.total()
    );
    assert_eq!(both.people["5"].learned.total(), one.people["5"].learned.total());
    assert_eq!(
        both.everyone.total(),
        one.everyone.total() + one.people["4"].learned.total()
    );
    let own = both.observe("2", &block(2, 40));
    let other = both.observe("2", &block(6, 40));
    assert!(own.p_value > 0.05 && other.p_value < 0.01, "{own:?} {other:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_a_model_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..200), people in 0_u32..3) {
        let mut head = people.to_le_bytes().to_vec();
        head.extend([1, 0, b'a', 1, 0, 0, 0]);
        head.extend(&payload);
        if let Ok(mut habits) = Habits::from_snapshot(&crate::snapshot::seal(crate::snapshot::Kind::Habits, 1, &head), Bounds::default()) {
            let judgement = habits.observe("a", &[1, 2, 3]);
            prop_assert!(judgement.score.is_finite() && judgement.p_value > 0.0);
        }
    }
}

#[test]
fn a_snapshot_that_makes_no_sense_inside_is_refused() {
    let mut habits = Habits::new(Bounds::default());
    habits.learn("ab", &[1, 2]);
    habits.settle();
    let snapshot = habits.to_snapshot();
    let inside = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = snapshot[11..snapshot.len() - 4].to_vec();
        change(&mut payload);
        let sealed = crate::snapshot::seal(crate::snapshot::Kind::Habits, 1, &payload);
        Habits::from_snapshot(&sealed, Bounds::default())
            .unwrap_err()
            .to_string()
    };
    type Change = &'static dyn Fn(&mut Vec<u8>);
    let damaged = "a person is cut off or damaged";
    let changes: [(Change, &str); 8] = [
        (&|bytes| bytes.truncate(3), "it ends before the first person"),
        (&|bytes| bytes[6] = 0xff, "a person without a proper name"),
        (&|bytes| bytes.truncate(30), damaged),
        (&|bytes| bytes[12] = 9, damaged),
        (
            &|bytes| bytes[16..20].copy_from_slice(&f32::NAN.to_le_bytes()),
            damaged,
        ),
        (
            &|bytes| bytes[16..20].copy_from_slice(&0.0_f32.to_le_bytes()),
            damaged,
        ),
        (&|bytes| bytes.push(0), "more after the last deviation"),
        (
            &|bytes| {
                bytes[0] = 2;
                let person = bytes[4..bytes.len() - 6].to_vec();
                bytes.splice(4..4, person);
            },
            "a person is there twice",
        ),
    ];
    for (change, message) in changes {
        assert_eq!(inside(change), format!("damaged inside: {message}"));
    }
}
