use proptest::prelude::*;

use super::*;
use crate::snapshot::seal;

/// Peaks that come at random, so many a day, exponential; how many of them reach the threshold, per day, after the first two weeks.
fn realised(per_day: f64, peaks_per_day: f64, days: u32, scale: impl Fn(u32) -> f64) -> f64 {
    let mut random = fastrand::Rng::with_seed(42);
    let mut exponential = move || -random.f64().max(1e-300).ln();
    let mut budget = Budget::new(per_day);
    let (mut time, mut alarms) = (0.0, 0_u32);
    while time < f64::from(days) {
        time += exponential() / peaks_per_day;
        budget.advance((time * DAY_NS as f64) as u64);
        let peak = 3.0 + exponential() * scale(time as u32);
        let opened = peak >= budget.threshold();
        alarms += u32::from(opened && time >= 14.0);
        budget.push(peak, opened);
    }
    f64::from(alarms) / f64::from(days - 14)
}

/// The promise, whatever peaks look like and however many there are.
#[test]
fn the_realised_rate_is_the_nominal_one() {
    for (per_day, days) in [(0.1, 1_500), (1.0, 500), (10.0, 100)] {
        for (peaks, scale) in [(30.0, 1.0), (100.0, 2.5)] {
            let ratio = realised(per_day, peaks, days, |_| scale) / per_day;
            assert!(
                (1.0 / 1.5..1.5).contains(&ratio),
                "{ratio} of {per_day} a day, {peaks} peaks, scale {scale}"
            );
        }
    }
}

/// Peaks double in height halfway: too many for some weeks, then no more.
#[test]
fn drift_is_followed() {
    let late = |day: u32| if day < 100 { 1.0 } else { 2.0 };
    let ratio = realised(1.0, 50.0, 400, late);
    assert!((1.0 / 1.5..1.5).contains(&ratio), "{ratio}");
}

#[test]
fn before_anything_is_known_a_busy_host_is_assumed() {
    let budget = Budget::new(1.0);
    assert!((budget.threshold() - 5e3_f64.ln()).abs() < 1e-12);
    assert!((budget.expected_per_day(budget.threshold()) - 1.0).abs() < 1e-9);
    assert!((Budget::new(0.1).threshold() - 5e4_f64.ln()).abs() < 1e-12);
    assert_eq!(Budget::new(f64::NAN).per_day(), 1.0);
    assert_eq!(Budget::new(0.0).per_day(), 1e-3);
}

fn quiet(per_day: f64) -> Budget {
    let mut budget = Budget::new(per_day);
    for hour in 0..24 * 40_u64 {
        budget.advance(hour * DAY_NS / 24);
        budget.push(3.0 + ((hour * 7_919) % 1_000) as f64 / 250.0, false);
    }
    budget
}

#[test]
fn an_attacker_moves_the_threshold_by_little() {
    let mut budget = quiet(1.0);
    let before = budget.threshold();
    for number in 0..500 {
        budget.advance(40 * DAY_NS + number * DAY_NS / 500);
        budget.push(1e9, true);
    }
    // What was counted counts from the next day on.
    budget.advance(41 * DAY_NS);
    let after = budget.threshold();
    assert!((after - before).abs() < 0.6, "{before} {after}");
}

#[test]
fn what_is_expected_and_what_is_allowed_agree() {
    for per_day in [0.1, 1.0, 5.0] {
        let budget = quiet(per_day);
        let expected = budget.expected_per_day(budget.threshold());
        assert!((expected / per_day - 1.0).abs() < 0.1, "{expected} {per_day}");
    }
    let budget = quiet(1.0);
    assert!(budget.expected_per_day(3.0) > 20.0);
    assert!(budget.expected_per_day(50.0) < 1e-3);
}

#[test]
fn days_are_forgotten_after_four_weeks_and_those_without_anything_do_not_count() {
    let mut budget = quiet(1.0);
    assert_eq!(budget.days.len(), DAYS);
    assert!((budget.fit.days - 27.0).abs() < 1.0);
    budget.advance(100 * DAY_NS);
    assert_eq!(budget.days.len(), 1);
    budget.advance(3 * DAY_NS);
    assert_eq!(budget.days.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bounded(steps in prop::collection::vec((0_u64..DAY_NS / 4, -5.0_f64..50.0, any::<bool>()), 0..800)) {
        let mut budget = Budget::new(2.0);
        let mut time = 0;
        for (passed, peak, opened) in steps {
            time += passed;
            budget.advance(time);
            budget.push(peak, opened);
            prop_assert!(budget.days.len() <= DAYS && budget.fit.peaks.len() <= DAYS * PEAKS);
            prop_assert!(budget.days.iter().all(|day| day.peaks.len() <= PEAKS));
            prop_assert!(budget.threshold().is_finite() && budget.expected_per_day(peak) > 0.0);
        }
    }

    #[test]
    fn a_higher_score_is_expected_no_more_often(a in -5.0_f64..60.0, b in -5.0_f64..60.0) {
        let budget = quiet(1.0);
        prop_assert!(budget.expected_per_day(a.max(b)) <= budget.expected_per_day(a.min(b)));
    }

    #[test]
    fn a_snapshot_goes_on_where_it_was(peaks in prop::collection::vec(0.0_f64..30.0, 0..300), hours in 1_u64..30) {
        let mut budget = Budget::new(1.0);
        for (number, &peak) in peaks.iter().enumerate() {
            budget.advance(number as u64 * hours * DAY_NS / 24);
            budget.push(peak, false);
        }
        budget.refit();
        let bytes = budget.to_snapshot();
        prop_assert!(bytes.len() <= 7_680);
        let mut back = Budget::from_snapshot(&bytes, 1.0).unwrap();
        prop_assert_eq!(back.to_snapshot(), bytes);
        prop_assert!((back.threshold() - budget.threshold()).abs() < 1e-3);
        back.advance(5);
        prop_assert!(back.days.len() <= DAYS);
    }

    #[test]
    fn any_bytes_are_a_budget_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..200), days in 0_u8..3) {
        let mut head = vec![days, 2, 0, 0, 0, 0, 0];
        head.extend(&payload);
        if let Ok(mut budget) = Budget::from_snapshot(&seal(crate::snapshot::Kind::Budget, 1, &head), 1.0) {
            budget.advance(7);
            budget.push(5.0, true);
            prop_assert!(budget.threshold().is_finite());
        }
    }
}

#[test]
fn a_snapshot_that_makes_no_sense_inside_is_refused() {
    let snapshot = quiet(1.0).to_snapshot();
    let inside = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = snapshot[11..snapshot.len() - 4].to_vec();
        change(&mut payload);
        let budget = Budget::from_snapshot(&seal(crate::snapshot::Kind::Budget, 1, &payload), 1.0);
        budget.unwrap_err().to_string()
    };
    type Change = &'static dyn Fn(&mut Vec<u8>);
    let nonsense = "days that are cut off or make no sense";
    let changes: [(Change, &str); 6] = [
        (&|bytes| bytes.truncate(100), nonsense),
        (&|bytes| bytes[1] = 200, nonsense),
        (
            &|bytes| bytes[3..7].copy_from_slice(&2.0_f32.to_le_bytes()),
            nonsense,
        ),
        (&|bytes| bytes[7] = 65, nonsense),
        (
            &|bytes| bytes[12..16].copy_from_slice(&99.0_f32.to_le_bytes()),
            nonsense,
        ),
        (&|bytes| bytes.push(0), "more after the last day"),
    ];
    for (change, message) in changes {
        assert_eq!(inside(change), format!("damaged inside: {message}"));
    }
}
