use proptest::prelude::*;

use super::*;

/// Small enough to see, large enough that nothing is refused.
fn model(order: usize) -> Sequence {
    Sequence::new(Shape::SERVICE.sized(order, 64 << 10))
}

fn learned(traces: &[Vec<u16>]) -> Sequence {
    let mut model = model(5);
    traces.iter().for_each(|trace| model.learn(trace));
    model
}

fn traces() -> impl Strategy<Value = Vec<Vec<u16>>> {
    prop::collection::vec(prop::collection::vec(0_u16..6, 0..30), 0..6)
}

/// Witten and Bell's formula by hand: after "0 1" has come "2" twice and "3" once.
#[test]
fn probability_is_that_of_the_longest_context_blended_with_shorter_ones() {
    let mut model = model(2);
    for trace in [[0, 1], [0, 1], [0, 2]] {
        model.learn(&trace);
    }
    let base = 1.0 / ALPHABET;
    // Six symbols, three different; 1 came twice. After 0, seen three times, two different; 1 came twice.
    let short = (2.0 + 3.0 * base) / (6.0 + 3.0);
    let long: f64 = (2.0 + 2.0 * short) / (3.0 + 2.0);
    let bits = model.surprises(&[0, 1]);
    assert!((bits[1] + long.log2()).abs() < 1e-12, "{bits:?}");
    // 3 was never seen: what is left for it is what is left for anything.
    let never = (2.0 / 5.0) * (3.0 / 9.0) * base;
    assert!((model.surprises(&[0, 3])[1] + never.log2()).abs() < 1e-12);
}

#[test]
fn knows_nothing_at_first() {
    let model = model(5);
    assert_eq!(model.surprises(&[1, 2]), [ALPHABET.log2(); 2]);
    assert_eq!(model.scores(&[]), Scores::default());
    assert_eq!(model.scores(&[1, 2, 3]).long, ALPHABET.log2());
}

#[test]
fn a_short_intrusion_is_seen_by_the_short_view() {
    let normal: Vec<u16> = (0..600).map(|at| at % 7).collect();
    let mut model = model(5);
    model.learn(&normal);
    let mut attack = normal.clone();
    attack.splice(300..300, [5, 1, 6, 2, 9]);
    let (before, after) = (model.scores(&normal), model.scores(&attack));
    assert!(after.short > before.short + 4.0, "{before:?} {after:?}");
}

#[test]
fn what_a_trace_repeats_counts_once_by_pattern_and_every_time_by_symbol() {
    let normal: Vec<u16> = (0..70).map(|at| at % 7).collect();
    let mut by_pattern = model(5);
    by_pattern.learn(&normal);
    let mut by_symbol = Sequence::new(Shape::HOST.sized(5, 64 << 10));
    by_symbol.learn(&normal);
    let mut trace = vec![3; 200];
    trace.extend(&normal);
    let mut once = vec![3; 5];
    once.extend(&normal);
    let more = |model: &Sequence| model.scores(&trace).long - model.scores(&once).long;
    assert!(more(&by_symbol) > 1.0);
    assert!(more(&by_pattern).abs() < 0.5);
}

#[test]
fn reasons_are_the_most_surprising_transitions_with_what_was_expected() {
    let mut model = model(5);
    for _ in 0..20 {
        model.learn(&[1, 2, 3, 4]);
    }
    model.learn(&[1, 2, 5, 4]);
    let reasons = model.reasons(&[1, 2, 9, 1, 2, 9, 1, 2, 3, 4], 2);
    assert_eq!(reasons.len(), 2);
    let Transition {
        at,
        times,
        context,
        symbol,
        expected,
        ..
    } = &reasons[0];
    assert_eq!((*at, *times, &context[..], *symbol), (2, 2, &[1, 2][..], 9));
    let symbols: Vec<u16> = expected.iter().map(|&(symbol, _)| symbol).collect();
    assert_eq!(symbols, [3, 5, 1]);
    assert!(expected[0].1 > 0.8 && expected[1].1 < 0.2);
    assert!(reasons[0].bits >= reasons[1].bits);
    assert!(model.reasons(&[1, 2, 3, 4], 0).is_empty());
}

#[test]
fn the_shapes_keep_their_promises() {
    assert!(Sequence::new(Shape::SERVICE).memory_bytes() <= 256 << 10);
    assert!(Sequence::new(Shape::HOST).memory_bytes() <= 8 << 20);
    assert_eq!(BUCKET_BYTES / 8, 8);
    const { assert!(Trace::MAX_BYTES <= 256 << 10) }
}

#[test]
fn a_flood_of_novelty_changes_neither_the_size_nor_what_is_frequent() {
    let mut model = Sequence::new(Shape::SERVICE.sized(4, 4 << 10));
    let normal = [1, 2, 3, 4];
    (0..1_000).for_each(|_| model.learn(&normal));
    let (bytes, before) = (model.memory_bytes(), model.scores(&normal).long);
    let mut word = 1_u32;
    let flood: Vec<u16> = (0..10_000)
        .map(|_| {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (word >> 16) as u16
        })
        .collect();
    model.learn(&flood);
    assert_eq!(model.memory_bytes(), bytes);
    assert!(model.refused() > 1_000);
    assert!(model.ngrams() <= bytes / 8);
    assert!(model.scores(&normal).long < before + 5.0);
}

#[test]
fn what_is_frequent_outlives_newcomers_and_whatever_keeps_coming_gets_in() {
    // One bucket: eight places.
    let mut model = Sequence::new(Shape::SERVICE.sized(1, 64));
    for symbol in 0..8 {
        model.learn(&[symbol; 100]);
    }
    (100..150).for_each(|symbol| model.learn(&[symbol]));
    assert!((0..8).all(|symbol| model.count(&[symbol]) > 0));
    assert_eq!(model.refused(), 50);
    model.learn(&[200; 1_000]);
    assert!(model.count(&[200]) > 0);
    assert_eq!((0..8).filter(|&symbol| model.count(&[symbol]) > 0).count(), 7);
}

#[test]
fn a_snapshot_of_something_else_is_refused_by_name() {
    let snapshot = learned(&[vec![1, 2, 3]]).to_snapshot();
    let open = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = snapshot.clone();
        change(&mut bytes);
        Sequence::from_snapshot(&bytes).unwrap_err().to_string()
    };
    assert_eq!(
        open(&|bytes| bytes.clear()),
        "not a snapshot of a model: it does not begin with \"SNSM\""
    );
    assert!(
        open(&|bytes| bytes[4] = 77)
            .starts_with("a snapshot of a kind of model that this version does not know")
    );
    assert!(open(&|bytes| bytes[5] = 9).starts_with("version 9 of the format"));
    assert!(open(&|bytes| bytes.truncate(bytes.len() - 1)).contains("cut off or added to"));
    assert!(open(&|bytes| bytes.truncate(6)).contains("cut off or added to"));
    assert!(open(&|bytes| bytes.push(0)).contains("cut off or added to"));
    assert!(open(&|bytes| bytes[20] ^= 1).starts_with("the checksum is wrong"));
}

/// Whoever makes up a snapshot makes up its checksum too.
#[test]
fn a_snapshot_that_makes_no_sense_inside_is_refused() {
    let snapshot = learned(&[vec![1, 2, 3]]).to_snapshot();
    let inside = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = snapshot[11..snapshot.len() - 4].to_vec();
        change(&mut payload);
        let sealed = crate::snapshot::seal(crate::snapshot::Kind::Sequence, 1, &payload);
        Sequence::from_snapshot(&sealed).unwrap_err().to_string()
    };
    for (change, message) in [
        (
            &(|bytes: &mut Vec<u8>| bytes.truncate(9)) as &dyn Fn(&mut Vec<u8>),
            "it ends before its first bucket",
        ),
        (&|bytes| bytes[0] = 0, "an order that no model has"),
        (&|bytes| bytes[0] = 13, "an order that no model has"),
        (&|bytes| bytes[1] = 2, "a weighting that does not exist"),
        (&|bytes| bytes[2] = 101, "a share of more than all"),
        (&|bytes| bytes[3..7].fill(0), "a size that no model has"),
        (&|bytes| bytes[3..7].fill(0xff), "a size that no model has"),
        (
            &|bytes| bytes[3..7].copy_from_slice(&500_000_u32.to_le_bytes()),
            "fewer buckets than it says",
        ),
        (&|bytes| bytes[27] = 9, "more than eight nodes in a bucket"),
        (
            &|bytes| {
                let node = [7, 0, 0, 0, 1, 0, 0, 0];
                bytes[27] = 2;
                bytes.truncate(28);
                bytes.extend([node, node].concat());
                bytes.extend([0; 2_000]);
            },
            "a node is there twice",
        ),
        (
            &|bytes| {
                bytes[27] = 1;
                bytes[28..36].fill(0);
            },
            "an empty node where one was said to be",
        ),
        (&|bytes| bytes.push(0), "more after the last bucket"),
    ] {
        assert_eq!(inside(change), format!("damaged inside: {message}"));
    }
}

proptest! {
    // A merge looks at every symbol that there can be.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn probabilities_add_up_to_one_at_most(known in traces(), trace in prop::collection::vec(0_u16..7, 0..12)) {
        let model = learned(&known);
        let mut cursor = Cursor::default();
        for symbol in trace {
            model.advance(&mut cursor, symbol);
        }
        let all: f64 = (0..512).map(|symbol| model.probability(&cursor, symbol).0).sum();
        prop_assert!(all <= 1.0 + 1e-9, "{all}");
        prop_assert!((0..512).all(|symbol| model.probability(&cursor, symbol).0 > 0.0));
    }

    #[test]
    fn unlearning_is_as_if_it_had_never_been(known in traces(), more in prop::collection::vec(0_u16..6, 0..40)) {
        let before = learned(&known);
        let mut after = before.clone();
        after.learn(&more);
        after.unlearn(&more);
        prop_assert_eq!(after.total, before.total);
        prop_assert_eq!(after.distinct, before.distinct);
        for trace in known.iter().chain([&more]) {
            prop_assert_eq!(after.surprises(trace), before.surprises(trace));
        }
    }

    #[test]
    fn merged_models_know_what_one_would_that_had_seen_both(here in traces(), there in traces()) {
        let both = learned(&[here.clone(), there.clone()].concat());
        let mut merged = learned(&here);
        merged.merge(&learned(&there));
        prop_assert_eq!(merged.learned(), both.learned());
        prop_assert_eq!(merged.distinct, both.distinct);
        for trace in here.iter().chain(&there) {
            prop_assert_eq!(merged.surprises(trace), both.surprises(trace));
        }
    }

    #[test]
    fn a_snapshot_is_the_model(known in traces()) {
        let model = learned(&known);
        let bytes = model.to_snapshot();
        prop_assert!(bytes.len() <= 64 + model.shape.buckets + 8 * model.ngrams());
        prop_assert_eq!(Sequence::from_snapshot(&bytes), Ok(model));
    }

    #[test]
    fn any_bytes_are_a_model_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..200), order in 0_u8..15, buckets in 0_u32..4) {
        prop_assert!(Sequence::from_snapshot(&payload).is_err());
        let mut head = vec![order, 0, 50];
        head.extend(buckets.to_le_bytes());
        // Everything counted as far as it goes.
        head.extend([0xff; 20]);
        head.extend(&payload);
        let sealed = crate::snapshot::seal(crate::snapshot::Kind::Sequence, 1, &head);
        if let Ok(mut model) = Sequence::from_snapshot(&sealed) {
            prop_assert!(model.scores(&[1, 2, 3]).long > 0.0);
            model.learn(&[1, 2, 3]);
            model.unlearn(&[3, 2, 1]);
        }
    }
}

/// More patterns than a trace tells apart.
#[test]
fn a_trace_stays_within_its_bound() {
    let model = model(3);
    let mut trace = Trace::new(Weighting::ByPattern);
    let mut word = 7_u32;
    for _ in 0..20_000 {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        trace.push(&model, (word >> 20) as u16);
    }
    assert!(trace.memory_bytes() <= Trace::MAX_BYTES);
    assert!((trace.scores().long - ALPHABET.log2()).abs() < 1e-6);
}
