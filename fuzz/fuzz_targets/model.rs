//! A snapshot of a model: whatever the bytes are, they are a model that works or an error. The first byte says of which kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor_behaviour::{
    Budget, Tails,
    edges::{self, Attempt, Edges},
    habits::{self, Habits},
    novelty::{Learning, Limits, Novelty},
    rates::{self, Rates},
    sequence::Sequence,
    vectors::Forest,
    windows::Windows,
};

const NOW: u64 = 1_700_000_000;

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, payload)) = bytes.split_first() else { return };
    let _ = Sequence::from_snapshot(payload);
    let number = kind % 9;
    let sealed = seal(number + 1, payload);
    match number {
        0 => sequence(&sealed, payload),
        1 => novelty(&sealed),
        2 => rates(&sealed),
        3 => edges(&sealed),
        4 => habits(&sealed),
        5 => forest(&sealed, payload),
        6 => budget(&sealed),
        7 => windows(&sealed),
        _ => tails(&sealed),
    }
});

/// Magic, kind, version and length stand before the payload, the checksum behind it: without them everything would be kept out.
fn seal(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut sealed = b"SNSM".to_vec();
    sealed.extend([kind, 1, 0]);
    sealed.extend((payload.len() as u32).to_le_bytes());
    sealed.extend(payload);
    let sum = crc32fast::hash(&sealed);
    sealed.extend(sum.to_le_bytes());
    sealed
}

fn sequence(sealed: &[u8], bytes: &[u8]) {
    let Ok(mut model) = Sequence::from_snapshot(sealed) else { return };
    assert_eq!(Sequence::from_snapshot(&model.to_snapshot()).as_ref(), Ok(&model));
    let symbols: Vec<u16> = bytes.iter().take(64).map(|&byte| u16::from(byte)).collect();
    let scores = model.scores(&symbols);
    assert!(scores.long >= 0.0 && scores.short >= 0.0);
    model.learn(&symbols);
    model.unlearn(&symbols);
    assert!(model.reasons(&symbols, 1).len() <= 1);
}

fn tails(sealed: &[u8]) {
    let Ok(mut all) = Tails::from_snapshot(sealed, 64) else { return };
    let again = Tails::from_snapshot(&all.to_snapshot(), 64);
    assert_eq!(again.map(|again| again.to_snapshot()), Ok(all.to_snapshot()));
    let first = sealed.get(11..).and_then(|rest| rest.first_chunk());
    let subject = first.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    all.learn(subject, 7.0);
    let p_value = all.p_value(subject, 7.0);
    assert!(p_value > 0.0 && p_value <= 1.0, "{p_value}");
}

fn windows(sealed: &[u8]) {
    let Ok(all) = Windows::from_snapshot(sealed) else { return };
    assert_eq!(Windows::from_snapshot(&all.to_snapshot()).as_ref(), Ok(&all));
    let mut twice = all.clone();
    twice.merge(&all);
    assert_eq!(twice.total(), all.total());
}

fn novelty(sealed: &[u8]) {
    let limits = Limits {
        subjects: 4,
        facts: 8,
        bytes: 8_192,
    };
    let Ok(mut model) = Novelty::from_snapshot(sealed, limits, Learning::default()) else { return };
    let again = Novelty::from_snapshot(&model.to_snapshot(), limits, Learning::default());
    assert_eq!(again.map(|model| model.to_snapshot()), Ok(model.to_snapshot()));
    model.merge(&Novelty::from_snapshot(sealed, limits, Learning::default()).unwrap());
    model.observe(&["a", "b"], b"c", b"d", 5);
    assert!(model.memory_bytes() <= limits.bytes);
}

fn rates(sealed: &[u8]) {
    let bounds = rates::Bounds {
        series: 4,
        ..rates::Bounds::default()
    };
    let Ok(mut model) = Rates::from_snapshot(sealed, bounds, 0, NOW) else { return };
    let again = Rates::from_snapshot(&model.to_snapshot(), bounds, 0, NOW);
    assert_eq!(again.map(|model| model.to_snapshot()), Ok(model.to_snapshot()));
    model.merge(&model.clone());
    for (_, judgement) in model.advance(NOW + 5_000) {
        assert!(judgement.p_value > 0.0 && judgement.p_value <= 1.0);
    }
}

fn edges(sealed: &[u8]) {
    let bounds = edges::Bounds {
        sources: 4,
        edges: 8,
        ..edges::Bounds::default()
    };
    let Ok(mut model) = Edges::from_snapshot(sealed, bounds, NOW) else { return };
    let again = Edges::from_snapshot(&model.to_snapshot(), bounds, NOW);
    assert_eq!(again.map(|model| model.to_snapshot()), Ok(model.to_snapshot()));
    model.merge(&model.clone());
    for port in 0..9 {
        let attempt = Attempt {
            source: "a",
            target: b"b",
            port,
            failed: port % 2 == 0,
            time_ns: NOW,
        };
        assert!(model.observe(&attempt).is_none_or(|burst| burst.score.is_finite()));
    }
    model.advance(u64::MAX);
}

fn forest(sealed: &[u8], bytes: &[u8]) {
    let Ok(mut model) = Forest::from_snapshot(sealed) else { return };
    assert_eq!(Forest::from_snapshot(&model.to_snapshot()).as_ref(), Ok(&model));
    let point: Vec<f64> = bytes.iter().take(20).map(|&byte| f64::from(byte).exp2()).collect();
    model.learn(&point);
    assert!(model.judge(&point).score.is_finite());
    model.merge(&model.clone());
}

fn habits(sealed: &[u8]) {
    let bounds = habits::Bounds {
        people: 3,
        symbols: 8,
        ..habits::Bounds::default()
    };
    let Ok(mut model) = Habits::from_snapshot(sealed, bounds) else { return };
    let again = Habits::from_snapshot(&model.to_snapshot(), bounds);
    assert_eq!(again.map(|model| model.to_snapshot()), Ok(model.to_snapshot()));
    model.merge(&model.clone());
    let judgement = model.observe("a", &[1, 2, 3]);
    assert!(judgement.score.is_finite() && judgement.p_value > 0.0);
    assert!(model.memory_bytes() <= bounds.max_bytes());
}

fn budget(sealed: &[u8]) {
    let Ok(mut model) = Budget::from_snapshot(sealed, 1.0) else { return };
    let again = Budget::from_snapshot(&model.to_snapshot(), 1.0);
    assert_eq!(again.map(|model| model.to_snapshot()), Ok(model.to_snapshot()));
    model.advance(NOW);
    model.push(9.0, true);
    assert!(model.threshold().is_finite() && model.expected_per_day(9.0) > 0.0);
}
