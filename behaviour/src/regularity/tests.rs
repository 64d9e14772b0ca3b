use proptest::prelude::*;

use super::*;

/// The last beacon of contacts at these times, in seconds.
fn beacon(times: impl IntoIterator<Item = f64>) -> Option<Beacon> {
    let mut regularity = Regularity::new(4);
    let contacts = times.into_iter();
    contacts
        .filter_map(|time| regularity.observe("a→b", (time * 1e9) as u64, 100.0))
        .last()
}

fn renewal(seed: u64, number: usize, interval: impl Fn(&mut fastrand::Rng) -> f64) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut time = 1_000.0;
    let mut next = || {
        time += interval(&mut random);
        time
    };
    (0..number).map(|_| next()).collect()
}

#[test]
fn a_clock_is_seen_whatever_its_jitter_and_however_often_it_speaks_at_once() {
    for (jitter, number, least) in [(0.0, 12, 20.0), (0.2, 16, 12.0), (0.5, 33, 12.0)] {
        let times = renewal(1, number, |random| {
            60.0 * (1.0 + jitter * (2.0 * random.f64() - 1.0))
        });
        let beacon = beacon(times).unwrap();
        assert!(beacon.score > least, "{jitter}: {beacon:?}");
        assert!((beacon.period - 60.0).abs() < 10.0 && (beacon.jitter - jitter / 3_f64.sqrt()).abs() < 0.1);
        assert!(beacon.amount_jitter < 1e-6);
    }
    let bursts = renewal(2, 12, |_| 30.0)
        .into_iter()
        .flat_map(|time| [time, time + 0.1, time + 0.3]);
    assert!(beacon(bursts).unwrap().score > 20.0);
}

#[test]
fn a_host_that_slept_does_not_hide_it() {
    let times: Vec<f64> = renewal(1, 40, |random| 55.0 + 10.0 * random.f64());
    let slept = times
        .iter()
        .enumerate()
        .map(|(at, time)| if at > 20 { time + 40_000.0 } else { *time });
    assert!(beacon(slept).unwrap().score > 20.0);
}

#[test]
fn too_few_say_nothing_and_the_one_seen_the_longest_ago_is_forgotten() {
    assert_eq!(beacon(renewal(1, LEAST, |_| 60.0)), None);
    assert!(beacon(renewal(1, LEAST + 1, |_| 60.0)).is_some());
    let mut regularity = Regularity::new(2);
    for edge in ["a", "b", "a", "c", "b"] {
        regularity.observe(edge, 0, 0.0);
    }
    assert_eq!(regularity.len(), 2);
    let names: Vec<_> = regularity.edges.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    assert!(!regularity.is_empty());
}

/// The promise: independent contacts, slow or fast, are as regular as p says in p of all cases, and bursty ones less often.
#[test]
fn chance_is_as_regular_as_promised() {
    for (mean, shape) in [(60.0, 1.0), (2.0, 1.0), (60.0, 0.5)] {
        let cases = 2_000;
        let regular = (0..cases)
            .filter(|&seed| {
                let exponential = |random: &mut fastrand::Rng| -random.f64().max(1e-12).ln();
                let times = renewal(seed, 33, |random| mean * exponential(random).powf(1.0 / shape));
                beacon(times).is_some_and(|beacon| beacon.score >= 100_f64.ln())
            })
            .count();
        assert!(
            regular <= 40,
            "{regular} of {cases} at 1 %, mean {mean}, shape {shape}"
        );
        assert!(
            shape < 1.0 || mean < 10.0 || regular >= 10,
            "{regular}: nothing is ever regular"
        );
    }
}

proptest! {
    #[test]
    fn whatever_comes_numbers_are_numbers(contacts in prop::collection::vec((any::<u64>(), 0.0_f64..1e12), 0..100)) {
        let mut regularity = Regularity::new(1);
        for (time, amount) in contacts {
            if let Some(beacon) = regularity.observe("a", time, amount) {
                prop_assert!(beacon.score >= 0.0 && beacon.score.is_finite() && beacon.period.is_finite());
            }
        }
    }
}
