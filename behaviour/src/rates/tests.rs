use proptest::prelude::*;

use super::*;
use crate::snapshot::{Kind, seal};

const PERIOD: u64 = 600;
/// 2026-01-05 was a Monday.
const MONDAY: u64 = 1_767_571_200;

fn hour(period: u64) -> HourOfWeek {
    HourOfWeek::at((MONDAY + period * PERIOD) as i64, 0)
}

/// Bytes as they are: Pareto's tail with exponent 1.5, and thirty times as many by day.
fn bytes(random: &mut fastrand::Rng, period: u64) -> f64 {
    let base = if (8..18).contains(&hour(period).hour()) {
        30_000.0
    } else {
        1_000.0
    };
    base * random.f64().max(1e-9).powf(-1.0 / 1.5)
}

fn learned(periods: u64, value: impl Fn(&mut fastrand::Rng, u64) -> f64) -> Series {
    let mut random = fastrand::Rng::with_seed(3);
    let mut series = Series::new();
    for period in 0..periods {
        series.observe(hour(period), value(&mut random, period));
    }
    series
}

#[test]
fn the_week_begins_on_monday_where_the_clocks_are() {
    let place = |unix: u64, offset: i32| {
        let hour = HourOfWeek::at(unix as i64, offset);
        (hour.day(), hour.hour())
    };
    assert_eq!(place(0, 0), (3, 0));
    assert_eq!(place(MONDAY, 0), (0, 0));
    assert_eq!(place(MONDAY, -3_600), (6, 23));
    assert_eq!(place(MONDAY + 86_400 * 5 + 3_600 * 13 + 1, 7_200), (5, 15));
    assert_eq!(HourOfWeek::at(-1, 0).hour(), 23);
}

#[test]
fn speaks_after_hours() {
    assert_eq!(Series::new().judge(hour(0), 9e9).p_value, 1.0);
    let series = learned(5, |_, _| 100.0);
    assert_eq!(series.judge(hour(5), 9e9).p_value, 1.0);
    // Six hours of night.
    let series = learned(36, bytes);
    let much = series.judge(hour(36), 1e8);
    assert!(much.p_value < 1e-3 && much.value > much.high, "{much:?}");
    let usual = series.judge(hour(36), 1_500.0);
    assert!(usual.p_value > 0.1 && usual.value < usual.high, "{usual:?}");
    assert!(series.judge(hour(36), 10.0).p_value > 0.9);
}

#[test]
fn what_is_usual_by_day_is_not_at_night_once_there_were_some_nights() {
    let series = learned(6 * 24 * 5, bytes);
    let [day, night] = [12 * 6, 3 * 6].map(|period| series.judge(hour(period), 300_000.0));
    assert!(day.p_value > 0.02 && night.p_value < 2e-3, "{day:?} {night:?}");
    assert!(day.expected > 10.0 * night.expected && day.hour_known > 0.8);
}

#[test]
fn a_weekly_job_is_expected_after_some_weeks() {
    let weekly = |random: &mut fastrand::Rng, period: u64| {
        let usual = 100.0 * random.f64().max(1e-9).powf(-1.0 / 1.5);
        if hour(period).index() == 26 { 1e5 } else { usual }
    };
    let tuesday = 26 * 6;
    let [early, late] = [1, 6].map(|weeks| learned(6 * 168 * weeks, weekly));
    assert!(late.judge(hour(tuesday), 1e5).p_value > 0.01);
    assert!(late.judge(hour(tuesday + 6 * 24), 1e5).p_value < 0.002);
    assert!(late.judge(hour(tuesday), 1e5).expected > 10.0 * early.judge(hour(tuesday), 1e5).expected);
}

/// The promise, while habits are learned, with a daily course and a heavy tail.
#[test]
fn as_many_are_surprising_as_promised() {
    let levels = [0.05, 0.01, 0.002];
    let (mut below, mut all) = ([0_u32; 3], 0_u32);
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut series = Series::new();
        for period in 0..6 * 24 * 28 {
            let judgement = series.observe(hour(period), bytes(&mut random, period));
            if period < 6 * 24 * 3 {
                continue;
            }
            all += 1;
            for (count, level) in below.iter_mut().zip(levels) {
                *count += u32::from(judgement.p_value <= level);
            }
        }
    }
    for (count, level) in below.into_iter().zip(levels) {
        let ratio = f64::from(count) / (level * f64::from(all));
        assert!((1.0 / 1.5..1.5).contains(&ratio), "{ratio} times {level}");
    }
}

/// The bound: three scales over what is remembered, for each period.
#[test]
fn whoever_wants_to_be_learned_has_to_be_patient() {
    let mut series = learned(6 * 24 * 14, bytes);
    let night = hour(3 * 6);
    let before = series.judge(night, 1e9).expected;
    for _ in 0..6 {
        let judgement = series.observe(night, 1e9);
        assert!(judgement.p_value < 1e-2, "{judgement:?}");
    }
    let after = series.judge(night, 1e9);
    assert!(after.expected < 5.0 * before, "{before} {after:?}");
    assert!(after.p_value < 0.01, "{after:?}");
}

#[test]
fn a_period_is_judged_while_it_runs_and_when_it_has_ended() {
    let mut rates = Rates::new(Bounds::default(), 0);
    assert_eq!(rates.so_far("a"), None);
    for period in 0..50 {
        let ended = rates.advance(MONDAY + period * PERIOD);
        assert_eq!(ended.len(), if period == 0 { 0 } else { 2 });
        for name in ["b", "a"] {
            (0..10).for_each(|_| _ = rates.add(name, MONDAY + period * PERIOD, 1.0));
        }
    }
    rates.add("a", MONDAY + 50 * PERIOD - 1, 1e6);
    rates.add("a", MONDAY + 50 * PERIOD - 1, f64::NAN);
    let now = rates.so_far("a").unwrap();
    assert!(now.p_value < 0.05 && now.value == 1e6 + 10.0, "{now:?}");
    let ended = rates.advance(MONDAY + 50 * PERIOD);
    assert_eq!(ended[0], ("a".to_owned(), now));
    assert!(ended[1].1.p_value > 0.5);
}

#[test]
fn nights_are_learned_and_a_host_that_slept_is_not() {
    let mut rates = Rates::new(Bounds::default(), 0);
    rates.add("a", MONDAY, 5.0);
    assert_eq!(rates.advance(MONDAY + 10 * PERIOD).len(), 10);
    assert_eq!(rates.advance(MONDAY + 3_000 * PERIOD).len(), 1);
    assert_eq!(rates.series().collect::<Vec<_>>(), [("a", 11)]);
    assert_eq!(rates.advance(MONDAY).len(), 0);
}

fn rates(values: &[(u8, u16)]) -> Rates {
    let mut rates = Rates::new(
        Bounds {
            series: 4,
            ..Bounds::default()
        },
        0,
    );
    for (number, &(name, value)) in values.iter().enumerate() {
        let now = MONDAY + number as u64 * PERIOD;
        rates.advance(now);
        rates.add(&name.to_string(), now, value.into());
    }
    rates
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bounded_and_numbers_are_numbers(values in prop::collection::vec((0_u8..6, any::<u16>()), 1..100)) {
        let mut rates = rates(&values);
        prop_assert!(rates.series().count() <= 4);
        for (_, judgement) in rates.advance(MONDAY + 1_000 * PERIOD) {
            prop_assert!(judgement.p_value > 0.0 && judgement.p_value <= 1.0 && judgement.score.is_finite());
        }
        for (_, running) in rates.series.iter() {
            prop_assert!(running.series.residues.len() <= series::RESIDUES);
        }
    }

    #[test]
    fn a_snapshot_is_the_model(values in prop::collection::vec((0_u8..6, any::<u16>()), 1..100)) {
        let rates = rates(&values);
        let bytes = rates.to_snapshot();
        prop_assert!(bytes.len() <= 32 + rates.series().count() * 3_072);
        let back = Rates::from_snapshot(&bytes, rates.bounds, 0, MONDAY).unwrap();
        prop_assert_eq!(back.to_snapshot(), bytes);
        for (name, running) in rates.series.iter() {
            let judge = |series: &Series| series.judge(hour(0), 1_234.0);
            let (ours, theirs) = (judge(&running.series), judge(&back.series.peek(name).unwrap().series));
            prop_assert!((ours.score - theirs.score).abs() < 1e-3 && (ours.p_value - theirs.p_value).abs() < 0.02);
        }
    }

    /// In whatever order, but for the order of the residues.
    #[test]
    fn merging_adds_evidence(here in prop::collection::vec((0_u8..3, any::<u16>()), 1..60), there in prop::collection::vec((0_u8..3, any::<u16>()), 1..60)) {
        let (here, there) = (rates(&here), rates(&there));
        let [mut one, mut other] = [here.clone(), there.clone()];
        one.merge(&there);
        other.merge(&here);
        for (name, periods) in one.series() {
            let of = |rates: &Rates| rates.series.peek(name).map_or(0, |running| running.series.periods);
            prop_assert_eq!(periods, of(&here) + of(&there));
            let judge = |rates: &Rates| rates.series.peek(name).map(|running| running.series.judge(hour(3), 77.0)).unwrap();
            let (ours, theirs) = (judge(&one), judge(&other));
            prop_assert!((ours.score - theirs.score).abs() < 1e-9 && (ours.p_value - theirs.p_value).abs() < 1e-9);
        }
    }

    #[test]
    fn any_bytes_are_a_model_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..300), number in 0_u32..3) {
        let mut head = number.to_le_bytes().to_vec();
        head.extend([1, 0, b'a']);
        head.extend(&payload);
        if let Ok(mut rates) = Rates::from_snapshot(&seal(Kind::Rates, 1, &head), Bounds::default(), 0, MONDAY) {
            rates.advance(MONDAY + PERIOD);
        }
    }
}

/// More evidence than anybody has, and a number that is none.
#[test]
fn a_snapshot_that_makes_no_sense_inside_is_refused() {
    let snapshot = rates(&[(1, 5), (1, 6), (1, 7)]).to_snapshot();
    let inside = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = snapshot[11..snapshot.len() - 4].to_vec();
        change(&mut payload);
        let rates = Rates::from_snapshot(&seal(Kind::Rates, 1, &payload), Bounds::default(), 0, 0);
        rates.unwrap_err().to_string()
    };
    type Change = &'static dyn Fn(&mut Vec<u8>);
    let changes: [(Change, &str); 6] = [
        (&|bytes| bytes.truncate(3), "it ends before its first series"),
        (&|bytes| bytes[6] = 0xff, "a series without a proper name"),
        (
            &|bytes| bytes[15..19].copy_from_slice(&f32::NAN.to_le_bytes()),
            "a series is cut off or damaged",
        ),
        (
            &|bytes| bytes[15..19].copy_from_slice(&(-1_f32).to_le_bytes()),
            "a series is cut off or damaged",
        ),
        (&|bytes| bytes.push(0), "more after the last series"),
        (
            &|bytes| {
                bytes[0] = 2;
                bytes.extend(bytes[4..].to_vec());
            },
            "a series is there twice",
        ),
    ];
    for (change, message) in changes {
        assert_eq!(inside(change), format!("damaged inside: {message}"));
    }
}
