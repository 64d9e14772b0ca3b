use proptest::prelude::*;

use super::*;

fn of(scores: impl IntoIterator<Item = f64>) -> Conformal {
    let mut conformal = Conformal::new(10_000);
    scores.into_iter().for_each(|score| conformal.push(score));
    conformal
}

#[test]
fn ranks_below_the_tail_and_decays_in_it() {
    let conformal = of((1..=100).map(f64::from));
    assert_eq!(conformal.p_value(0.0), 1.0);
    assert_eq!(conformal.p_value(51.0), 51.0 / 101.0);
    // The tail begins at 95, with five scores above it, 3 on average.
    assert_eq!(conformal.p_value(95.0), 7.0 / 101.0);
    let in_tail = 6.0 / 101.0 / 1.2_f64.powi(5);
    assert!((conformal.p_value(98.0) / in_tail - 1.0).abs() < 1e-12);
    assert!(conformal.p_value(200.0) < 6.0 / 101.0 * 1e-4);
    assert_eq!(conformal.p_value(f64::INFINITY), P_MIN);
    assert_eq!(conformal.p_value(f64::NAN), 1.0);
}

#[test]
fn down_to_one_in_a_hundred_the_ranks_speak() {
    let conformal = of((1..=1_000).map(|score| f64::from(score).powi(3)));
    assert_eq!(conformal.p_value(985_f64.powi(3)), 17.0 / 1_001.0);
    assert_eq!(conformal.p_value(990_f64.powi(3)), 12.0 / 1_001.0);
}

#[test]
fn knows_nothing_at_first_and_little_from_few() {
    assert_eq!(Conformal::new(10).p_value(9e9), 1.0);
    assert_eq!(Conformal::new(10).threshold(0.01), f64::INFINITY);
    assert_eq!(of([1.0, 2.0, 3.0]).p_value(9e9), 0.25);
    assert_eq!(of([2.0; 100]).p_value(3.0), 1.0 / 101.0);
}

#[test]
fn forgets_the_oldest_and_keeps_no_nonsense() {
    let mut conformal = Conformal::new(3);
    for score in [9.0, 1.0, f64::NAN, f64::INFINITY, 2.0, 3.0] {
        conformal.push(score);
    }
    assert_eq!(conformal.len(), 3);
    assert_eq!(conformal.p_value(4.0), 0.25);
    let bytes = size_of::<Conformal>() + (conformal.by_age.capacity() + conformal.sorted.capacity()) * 8;
    assert!(bytes <= conformal.max_bytes());
}

/// However the calibration turned out, the promise is kept five times in six.
#[test]
fn who_is_cautious_keeps_the_promise_more_often_than_not() {
    let mut random = fastrand::Rng::with_seed(6);
    let (mut kept, mut cautious, draws) = (0, 0, 2_000);
    for _ in 0..draws {
        let conformal = of((0..500).map(|_| random.f64()));
        // Scores are uniform: what is flagged is above the threshold, and its share is what is left of 1.
        let flagged = |p: &dyn Fn(f64) -> f64| {
            let flagged = (0..1_000)
                .rev()
                .take_while(|&score| p(f64::from(score) / 1_000.0) <= 0.02);
            flagged.count() as f64 / 1_000.0
        };
        kept += u32::from(flagged(&|score| conformal.p_value(score)) <= 0.02);
        cautious += u32::from(flagged(&|score| conformal.cautious_p_value(score)) <= 0.02);
    }
    let [kept, cautious] = [kept, cautious].map(|kept| f64::from(kept) / f64::from(draws));
    assert!(
        (0.45..0.7).contains(&kept) && (0.8..0.95).contains(&cautious),
        "{kept} {cautious}"
    );
    assert_eq!(Conformal::new(10).cautious_p_value(5.0), 1.0);
}

proptest! {
    #[test]
    fn a_higher_score_is_never_less_surprising(scores in prop::collection::vec(-1e3_f64..1e3, 0..200), a in -2e3_f64..2e3, b in -2e3_f64..2e3) {
        let conformal = of(scores);
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(conformal.p_value(high) <= conformal.p_value(low));
    }

    #[test]
    fn the_threshold_is_where_the_p_value_is_reached(scores in prop::collection::vec(0.0_f64..1e3, 30..200), p in 0.001_f64..0.5) {
        let conformal = of(scores);
        let threshold = conformal.threshold(p);
        prop_assert!(conformal.p_value(threshold + 1e-6) <= p + 1.5 / 31.0);
        prop_assert!(conformal.p_value(threshold - 1e-6) >= p - 1e-6);
    }
}

/// However few scores the tail is known from: each draws its own calibration.
#[test]
fn the_tail_promises_no_more_than_it_knows() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut exponential = move || -random.f64().max(1e-300).ln();
    let (mut flagged, draws) = (0, 40_000);
    for _ in 0..draws {
        let conformal = of((0..30).map(|_| exponential()));
        flagged += u32::from(conformal.p_value(exponential()) <= 0.002);
    }
    let ratio = f64::from(flagged) / (0.002 * f64::from(draws));
    assert!((0.75..1.25).contains(&ratio), "{ratio}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The promise itself: of exchangeable scores, as many fall below p as p says, within what the tail may miss.
    #[test]
    fn as_many_are_flagged_as_promised(seed in any::<u64>()) {
        let mut word = seed;
        let mut uniform = move || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (word >> 11) as f64 / (1_u64 << 53) as f64
        };
        let conformal = of((0..2_000).map(|_| uniform().powi(3)));
        let flagged = (0..5_000).filter(|_| conformal.p_value(uniform().powi(3)) <= 0.05).count();
        prop_assert!((125..=400).contains(&flagged), "{flagged} of 5000 at 5 %");
    }
}
