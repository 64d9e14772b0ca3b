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
            .map(|(at, &was)| if is_new(at) { 9_000 + was % 3 } else { was })
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
