use proptest::prelude::*;

use super::*;
use crate::snapshot::seal;

const WINDOW: u64 = 600_000_000_000;

struct Host {
    edges: Edges,
    window: u64,
}

impl Host {
    fn attempt(&mut self, target: &str, port: u16, failed: bool) -> Option<Burst> {
        self.edges.observe(&Attempt {
            source: "unit:web.service",
            target: target.as_bytes(),
            port,
            failed,
            time_ns: self.window * WINDOW + 5,
        })
    }

    /// A day of a service that asks three others again and again, someone new in every tenth window, and fails now and then.
    fn after_a_day() -> Self {
        let mut host = Self {
            edges: Edges::new(Bounds::default()),
            window: 0,
        };
        for window in 0..144 {
            host.window = window;
            for request in 0..60_u64 {
                host.attempt(["db", "cache", "auth"][request as usize % 3], 443, false);
            }
            if window % 10 == 0 {
                host.attempt(&format!("new-{window}"), 443, false);
                host.attempt("db", 443, true);
            }
        }
        host.window = 144;
        host
    }

    fn last(&mut self, attempts: impl Iterator<Item = (String, u16, bool)>) -> Burst {
        let bursts = attempts.filter_map(|(target, port, failed)| self.attempt(&target, port, failed));
        bursts.last().expect("something new")
    }
}

#[test]
fn what_is_known_and_works_says_nothing_and_one_new_edge_little() {
    let mut host = Host::after_a_day();
    assert_eq!(host.attempt("db", 443, false), None);
    assert_eq!(host.attempt("new-140", 443, false), None);
    let burst = host.attempt("new", 443, false).unwrap();
    assert!(
        burst.score < 3.0 && burst.new == 1 && burst.windows == 144,
        "{burst:?}"
    );
    assert!((burst.usual[0] - 0.12).abs() < 0.02, "{burst:?}");
}

#[test]
fn bursts_are_told_by_what_they_look_like() {
    let ports = (1..40).map(|port| ("db".to_owned(), port, true));
    let burst = Host::after_a_day().last(ports);
    assert_eq!((burst.kind, burst.targets, burst.ports), (Kind::PortScan, 1, 39));
    assert!(burst.score > 20.0);
    let hosts = (0..40).map(|host| (format!("10.0.0.{host}"), 8_080, host % 5 > 0));
    let burst = Host::after_a_day().last(hosts);
    assert_eq!((burst.kind, burst.targets, burst.ports), (Kind::Sweep, 40, 1));
    assert_eq!(burst.examples[0], (b"10.0.0.0"[..].into(), 8_080));
    let sites = (0..40).map(|host| (format!("10.0.0.{host}"), 443, false));
    assert_eq!(Host::after_a_day().last(sites).kind, Kind::FanOut);
    let neighbours = (0..8).map(|host| (format!("10.0.0.{host}"), 22, false));
    let burst = Host::after_a_day().last(neighbours);
    assert_eq!((burst.kind, burst.new), (Kind::LateralMovement, 8));
    assert!(burst.score > BURST, "{burst:?}");
}

#[test]
fn brute_force_is_many_failures_of_one_edge_and_worst_when_it_succeeds() {
    let mut host = Host::after_a_day();
    let burst = host.last((0..50).map(|_| ("db".to_owned(), 22, true)));
    assert_eq!((burst.kind, burst.failures, burst.new), (Kind::BruteForce, 50, 1));
    assert!(burst.score > 20.0 && !burst.succeeded);
    assert_eq!(burst.examples, [(b"db"[..].into(), 22)]);
    assert!(host.attempt("db", 22, false).is_some_and(|burst| burst.succeeded));
}

/// Of whom nothing is known, only what nobody does is a burst.
#[test]
fn a_newcomer_may_do_something_new() {
    let mut host = Host {
        edges: Edges::new(Bounds::default()),
        window: 3,
    };
    for site in 0..12 {
        let some = host.attempt(&format!("site-{site}"), 443, false);
        assert!(some.is_none_or(|burst| burst.score < 2.0));
    }
    let many = host.last((0..300).map(|host| (format!("10.0.0.{host}"), 445, true)));
    assert!(many.score > BURST, "{many:?}");
}

#[test]
fn whoever_insists_stays_new_and_moves_the_rates_by_little() {
    let mut host = Host::after_a_day();
    for window in 144..150 {
        host.window = window;
        let burst = host.last((0..40).map(|host| (format!("10.0.0.{host}"), 22, false)));
        assert!(burst.score > BURST && burst.new == 40, "{window}: {burst:?}");
    }
    let (_, _, known) = host.edges.sources().next().unwrap();
    assert!(known < 20);
    host.edges.accept("unit:web.service", b"10.0.0.1", 22);
    assert_eq!(host.attempt("10.0.0.1", 22, false), None);
}

/// The promise of the score: of windows like those that were learned, few are bursts.
#[test]
fn normal_windows_are_seldom_bursts() {
    let mut random = fastrand::Rng::with_seed(9);
    let mut host = Host {
        edges: Edges::new(Bounds::default()),
        window: 0,
    };
    let (mut bursts, mut name) = (0, 0);
    for window in 0..5_000 {
        host.window = window;
        // Clumps of one to five, in one window of seven.
        let clump = if random.u8(..7) == 0 { random.u8(1..6) } else { 0 };
        let mut worst = 0.0_f64;
        for _ in 0..clump {
            name += 1;
            let burst = host.attempt(&name.to_string(), 443, false);
            worst = worst.max(burst.map_or(0.0, |burst| burst.score));
        }
        bursts += u32::from(window > 144 && worst > BURST);
    }
    assert!(bursts <= 5, "{bursts}");
}

#[test]
fn a_window_that_ended_is_reported_once() {
    let mut host = Host::after_a_day();
    host.last((0..40).map(|host| (format!("10.0.0.{host}"), 22, false)));
    assert_eq!(host.edges.advance(144 * WINDOW + 9), []);
    let ended = host.edges.advance(145 * WINDOW);
    assert!(ended.len() == 1 && ended[0].1 > BURST);
    assert_eq!(host.edges.advance(145 * WINDOW), []);
    assert_eq!(
        host.edges.advance(150 * WINDOW),
        [("unit:web.service".to_owned(), 0.0)]
    );
}

type Step = (u8, u8, u16, bool, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0_u8..4, 0_u8..30, 0_u16..3, any::<bool>(), 0_u8..2), 0..200)
}

const SMALL: Bounds = Bounds {
    sources: 3,
    edges: 8,
    window_ns: 100,
};

fn learned(steps: &[Step], bounds: Bounds) -> Edges {
    let mut edges = Edges::new(bounds);
    let mut time_ns = 0;
    for &(source, target, port, failed, passes) in steps {
        time_ns += u64::from(passes) * 60;
        edges.observe(&Attempt {
            source: &source.to_string(),
            target: &[target],
            port,
            failed,
            time_ns,
        });
    }
    edges.advance(time_ns + 100);
    edges
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bounded(steps in steps()) {
        let edges = learned(&steps, SMALL);
        prop_assert!(edges.sources.len() <= 3);
        for (_, source) in edges.sources.iter() {
            prop_assert!(source.known.len() <= 8 && source.known.is_sorted());
        }
    }

    #[test]
    fn a_snapshot_is_the_model(steps in steps()) {
        let edges = learned(&steps, SMALL);
        let bytes = edges.to_snapshot();
        let back = Edges::from_snapshot(&bytes, SMALL, 0).unwrap();
        prop_assert_eq!(back.to_snapshot(), bytes);
    }

    #[test]
    fn merged_models_know_what_either_knew(here in steps(), there in steps()) {
        let bounds = Bounds { sources: 9, edges: 200, ..SMALL };
        let (here, there) = (learned(&here, bounds), learned(&there, bounds));
        let mut both = here.clone();
        both.merge(&there);
        for (name, windows, known) in both.sources() {
            let of = |edges: &Edges| edges.sources.peek(name).map(|source| (source.new.learned, source.known.iter().map(|edge| edge.0).collect::<Vec<_>>())).unwrap_or_default();
            let ((ours, mut keys), (theirs, others)) = (of(&here), of(&there));
            keys.extend(others);
            keys.sort_unstable();
            keys.dedup();
            prop_assert_eq!((windows, known), (ours + theirs, keys.len()));
        }
    }

    #[test]
    fn any_bytes_are_a_model_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..200), number in 0_u32..3) {
        let mut head = number.to_le_bytes().to_vec();
        head.extend([1, 0, b'a']);
        head.extend(&payload);
        if let Ok(mut edges) = Edges::from_snapshot(&seal(crate::snapshot::Kind::Edges, 1, &head), SMALL, 0) {
            let attempt = Attempt { source: "a", target: b"b", port: 1, failed: true, time_ns: 5 };
            prop_assert!(edges.observe(&attempt).is_none_or(|burst| burst.score.is_finite()));
        }
    }
}

#[test]
fn a_snapshot_that_makes_no_sense_inside_is_refused() {
    let snapshot = learned(&[(1, 2, 3, true, 1)], SMALL).to_snapshot();
    let inside = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = snapshot[11..snapshot.len() - 4].to_vec();
        change(&mut payload);
        let sealed = seal(crate::snapshot::Kind::Edges, 1, &payload);
        Edges::from_snapshot(&sealed, SMALL, 0).unwrap_err().to_string()
    };
    type Change = &'static dyn Fn(&mut Vec<u8>);
    let changes: [(Change, &str); 6] = [
        (&|bytes| bytes.truncate(3), "it ends before its first source"),
        (&|bytes| bytes[6] = 0xff, "a source without a proper name"),
        (
            &|bytes| bytes[7..15].copy_from_slice(&(-1.0_f64).to_le_bytes()),
            "a source is cut off or damaged",
        ),
        (&|bytes| bytes.truncate(30), "a source is cut off or damaged"),
        (&|bytes| bytes.push(0), "more after the last source"),
        (
            &|bytes| {
                bytes[0] = 2;
                bytes.extend(bytes[4..].to_vec());
            },
            "a source is there twice",
        ),
    ];
    for (change, message) in changes {
        assert_eq!(inside(change), format!("damaged inside: {message}"));
    }
}
