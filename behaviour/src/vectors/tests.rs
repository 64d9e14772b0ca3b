use proptest::prelude::*;

use super::*;
use crate::snapshot::seal;

/// Two modes, busy and idle; in each the numbers go together.
fn minute(random: &mut fastrand::Rng) -> [f64; 5] {
    let busy = if random.bool() { 1_000.0 } else { 10.0 };
    let mut about = |value: f64| value * (0.7 + 0.6 * random.f64());
    [about(busy), about(busy / 2.0), about(20.0), about(3.0), 0.0]
}

fn forest(windows: u64) -> (Forest, fastrand::Rng) {
    let mut random = fastrand::Rng::with_seed(11);
    let mut forest = Forest::new(5);
    for _ in 0..windows * u64::from(WINDOW) {
        forest.learn(&minute(&mut random));
    }
    (forest, random)
}

#[test]
fn knows_nothing_before_the_first_window() {
    let mut forest = Forest::new(5);
    forest.learn(&[1.0; 5]);
    assert_eq!((forest.judge(&[9e9; 5]).score, forest.windows()), (0.0, 0));
    assert_eq!(Forest::new(0), Forest::new(1));
    assert_eq!(Forest::new(99), Forest::new(DIMENSIONS));
}

#[test]
fn what_is_odd_is_told_from_what_is_not_and_why() {
    let (forest, mut random) = forest(4);
    let mut usual: Vec<f64> = (0..1_000)
        .map(|_| forest.judge(&minute(&mut random)).score)
        .collect();
    usual.sort_by(f64::total_cmp);
    let (median, high) = (usual[500], usual[990]);
    let odd = forest.judge(&[1_000.0, 500.0, 20.0, 90.0, 0.0]);
    assert!(
        odd.score > high && odd.score > median + 2.0,
        "{median} {high} {odd:?}"
    );
    let (dimension, value, usual, bits) = odd.reasons[0];
    assert_eq!((dimension, value), (3, 90.0));
    assert!((2.0..4.0).contains(&usual) && bits > 1.0);
    let never = forest.judge(&[1_000.0, 500.0, 20.0, 3.0, 50.0]);
    assert!(never.score > high && never.reasons[0].0 == 4, "{never:?}");
}

/// Each number by itself is usual.
#[test]
fn numbers_that_do_not_go_together_are_odd() {
    let (forest, mut random) = forest(4);
    let mean = |point: &mut dyn FnMut() -> [f64; 5]| {
        (0..300).map(|_| forest.judge(&point()).score).sum::<f64>() / 300.0
    };
    let usual = mean(&mut || minute(&mut random));
    let mut random = fastrand::Rng::with_seed(12);
    let apart = mean(&mut || {
        let [a, b] = [minute(&mut random), minute(&mut random)];
        let [low, high] = if a[0] < b[0] { [a, b] } else { [b, a] };
        [high[0], low[1].min(6.0), 20.0, 3.0, 0.0]
    });
    assert!(apart > usual + 1.0, "{usual} {apart}");
}

#[test]
fn what_becomes_usual_is_followed() {
    let (mut forest, mut random) = forest(2);
    let mut later = move || minute(&mut random).map(|number| number * 30.0);
    let before = forest.judge(&later()).score;
    (0..2 * WINDOW).for_each(|_| forest.learn(&later()));
    assert!(forest.judge(&later()).score < before - 1.0);
    assert_eq!(forest.windows(), 4);
}

#[test]
fn counts_add_up_where_the_frame_is_the_same() {
    let (parent, mut random) = forest(1);
    let [mut here, mut there] = [parent.clone(), parent.clone()];
    for _ in 0..100 {
        here.learn(&minute(&mut random));
        there.learn(&minute(&mut random));
    }
    let mut both = here.clone();
    both.merge(&there);
    assert_eq!((both.gathered, both.windows), (200, 2));
    assert_eq!(both.latest[0], here.latest[0] + there.latest[0]);
    let mut newcomer = Forest::new(5);
    newcomer.learn(&minute(&mut random));
    newcomer.merge(&here);
    assert_eq!((newcomer.gathered, newcomer.frame), (101, here.frame));
    let mut stranger = Forest::new(5);
    (0..WINDOW).for_each(|number| stranger.learn(&[f64::from(number); 5]));
    let before = here.clone();
    here.merge(&stranger);
    assert_eq!(here, before);
}

#[test]
fn bounded() {
    let (forest, _) = forest(2);
    let held = size_of::<Forest>() + 2 * (forest.reference.len() + forest.latest.len());
    assert!(held <= Forest::MAX_BYTES);
    const { assert!(Forest::MAX_BYTES < 72 << 10) }
    assert!(forest.to_snapshot().len() < 20 << 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_snapshot_is_the_forest(points in prop::collection::vec(prop::collection::vec(0.0_f64..1e9, 3), 0..600)) {
        let mut forest = Forest::new(3);
        points.iter().for_each(|point| forest.learn(point));
        prop_assert_eq!(Forest::from_snapshot(&forest.to_snapshot()), Ok(forest));
    }

    #[test]
    fn any_bytes_are_a_forest_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..600), framed in 0_u8..2, point in prop::collection::vec(any::<f64>(), 0..20)) {
        let mut head = vec![3];
        head.extend(1_u64.to_le_bytes());
        head.extend(2_u32.to_le_bytes());
        head.push(framed);
        head.extend((0..2 * DIMENSIONS).flat_map(|_| 1.0_f32.to_le_bytes()));
        head.extend(&payload);
        if let Ok(mut forest) = Forest::from_snapshot(&seal(crate::snapshot::Kind::Forest, 1, &head)) {
            forest.learn(&point);
            prop_assert!(forest.judge(&point).score.is_finite());
        }
    }
}

#[test]
fn a_snapshot_that_makes_no_sense_inside_is_refused() {
    let snapshot = forest(1).0.to_snapshot();
    let inside = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = snapshot[11..snapshot.len() - 4].to_vec();
        change(&mut payload);
        let sealed = seal(crate::snapshot::Kind::Forest, 1, &payload);
        Forest::from_snapshot(&sealed).unwrap_err().to_string()
    };
    type Change = &'static dyn Fn(&mut Vec<u8>);
    let changes: [(Change, &str); 6] = [
        (&|bytes| bytes.truncate(9), "it ends before its first number"),
        (&|bytes| bytes[0] = 17, "a size that no forest has"),
        (&|bytes| bytes[10] = 1, "a size that no forest has"),
        (
            &|bytes| bytes[14..18].copy_from_slice(&f32::NAN.to_le_bytes()),
            "a number is missing or makes no sense",
        ),
        (
            &|bytes| bytes.truncate(500),
            "a number is missing or makes no sense",
        ),
        (&|bytes| bytes.push(0), "more after the last number"),
    ];
    for (change, message) in changes {
        assert_eq!(inside(change), format!("damaged inside: {message}"));
    }
}
