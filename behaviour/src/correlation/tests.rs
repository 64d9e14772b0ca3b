use super::*;

const HOUR: u64 = 3_600_000_000_000;
const DAY: f64 = 24.0 * HOUR as f64;

fn correlation(per_day: f64) -> Correlation {
    Correlation::new(Bounds::default(), Budget::new(per_day))
}

/// A host as it may be: how many observations a day, of what p-values, how often the same cause again.
#[derive(Clone, Copy)]
struct Host {
    observations: f64,
    /// p = u^exponent: more than 1 promises too much.
    exponent: f64,
    /// Observations of one cause in a row, at most.
    clump: u32,
    /// By day so many times as busy as at night.
    course: f64,
}

const CALM: Host = Host {
    observations: 200.0,
    exponent: 1.0,
    clump: 1,
    course: 1.0,
};

/// Incidents a day on normal observations, after two weeks.
fn realised(host: Host, per_day: f64, days: u32) -> f64 {
    let mut random = fastrand::Rng::with_seed(4);
    let mut correlation = correlation(per_day);
    let (mut time, mut incidents, mut cause) = (0.0_f64, 0_u32, 0);
    while time < f64::from(days) {
        let busy = if time.fract() < 0.4 { host.course } else { 1.0 };
        time -= random.f64().max(1e-300).ln() / (host.observations * busy);
        let user = random.u64(..8);
        let keys = [
            Key::Tree(random.u64(..60)),
            Key::Session(user * 2),
            Key::User(user),
        ];
        cause += 1;
        let p = random.f64().max(1e-300).powf(host.exponent);
        for _ in 0..1 + random.u32(..host.clump) {
            let opened = correlation.observe(&keys, "novelty", cause, p, (time * DAY) as u64);
            incidents += u32::from(opened.is_some() && time >= 14.0);
        }
    }
    f64::from(incidents) / f64::from(days - 14)
}

/// The promise, for budgets between 0.1 and 10 a day, and p-values that need not be right.
#[test]
fn as_many_incidents_by_chance_as_the_budget_says() {
    for (per_day, days, observations) in [(0.1, 1_000, 200.0), (1.0, 300, 200.0), (10.0, 80, 1_500.0)] {
        let calm = Host { observations, ..CALM };
        for (name, host) in [
            ("calm", calm),
            (
                "overconfident",
                Host {
                    exponent: 1.5,
                    ..calm
                },
            ),
            (
                "in clumps, by day",
                Host {
                    clump: 4,
                    course: 4.0,
                    ..calm
                },
            ),
        ] {
            let ratio = realised(host, per_day, days) / per_day;
            assert!(
                (1.0 / 1.5..1.5).contains(&ratio),
                "{name}: {ratio} of {per_day} a day"
            );
        }
    }
}

fn experienced() -> Correlation {
    let mut random = fastrand::Rng::with_seed(8);
    let mut correlation = correlation(1.0);
    for number in 0..20_000_u64 {
        let keys = [Key::Tree(number % 50), Key::User(number % 5)];
        correlation.observe(
            &keys,
            "novelty",
            number,
            random.f64(),
            (number as f64 / 1_000.0 * DAY) as u64,
        );
    }
    correlation
}

const NOW: u64 = 21 * 24 * HOUR;

#[test]
fn several_things_that_say_little_each_are_an_incident_together() {
    let mut correlation = experienced();
    let keys = [Key::Tree(999), Key::User(9)];
    let mut opened = Vec::new();
    for (minute, source) in ["novelty", "rates", "edges", "sequence", "habits"]
        .into_iter()
        .enumerate()
    {
        let time = NOW + minute as u64 * HOUR / 60;
        opened.extend(correlation.observe(&keys, source, 7, 2e-3, time));
    }
    assert_eq!(opened.len(), 1, "{opened:?}");
    let incident = &opened[0];
    assert_eq!(incident.key, Key::Tree(999));
    assert!(incident.evidence.len() >= 2, "{incident:?}");
    assert!(incident.expected_per_day <= incident.budget_per_day);
    assert!(
        (incident.evidence[0].nats + 2e-3_f64.ln()).abs() < 0.5,
        "{incident:?}"
    );
}

#[test]
fn the_same_again_and_again_says_it_once() {
    let mut correlation = experienced();
    let again = (0..1_000).filter_map(|second| {
        correlation.observe(&[Key::User(9)], "novelty", 7, 2e-3, NOW + second * HOUR / 3_600)
    });
    assert_eq!(again.count(), 0);
}

/// Nor is a strong one hidden among many that are nothing.
#[test]
fn nobody_hides_by_being_busy() {
    let mut correlation = experienced();
    for number in 0..5_000 {
        correlation.observe(&[Key::User(9)], "novelty", 1, 1.0, NOW + number);
    }
    let opened = correlation.observe(&[Key::User(9)], "edges", 2, 1e-7, NOW + 6_000);
    assert!(opened.is_some_and(|incident| incident.evidence[0].source == "edges"));
}

#[test]
fn a_story_is_one_incident_and_a_new_one_another() {
    let mut correlation = experienced();
    let mut opened = 0;
    for minute in 0..240_u64 {
        let time = NOW + minute * HOUR / 60;
        let p = if minute % 40 == 0 { 1e-8 } else { 0.5 };
        opened += u32::from(
            correlation
                .observe(&[Key::User(9)], "edges", minute, p, time)
                .is_some(),
        );
    }
    assert_eq!(opened, 1);
    let faded = correlation.observe(&[Key::User(9)], "edges", 1, 0.5, NOW + 12 * HOUR);
    assert_eq!(faded, None);
    let later = correlation.observe(&[Key::User(9)], "edges", 1, 1e-9, NOW + 13 * HOUR);
    assert!(later.is_some());
}

#[test]
fn what_fades_does_not_begin_anew() {
    let mut trail = Trail::default();
    assert!(trail.rise(20.0, 0, HOUR).is_none() && trail.opens(5.0));
    let over = trail.rise(9.0, HOUR + HOUR / 4, HOUR);
    assert!(over.is_some_and(|over| over.peak == 20.0 && over.opened));
    assert!(trail.excursion.is_none() && !trail.opens(5.0));
    trail.rise(6.0, 2 * HOUR, HOUR);
    assert!(trail.excursion.is_none());
    trail.rise(12.5, 2 * HOUR, HOUR);
    assert!(trail.opens(5.0));
}

#[test]
fn bounded() {
    let bounds = Bounds {
        keys: 10,
        ..Bounds::default()
    };
    let mut correlation = Correlation::new(bounds, Budget::new(1.0));
    for number in 0..5_000_u64 {
        let keys = [Key::Tree(number / 100), Key::User(number % 7)];
        correlation.observe(&keys, "novelty", number, 0.01, number * HOUR / 5_000);
        assert!(correlation.keys() <= 10);
    }
    let most = correlation
        .trails
        .iter()
        .map(|(_, trail)| trail.causes.len())
        .max();
    assert_eq!(most, Some(CAUSES));
    assert!(correlation.max_bytes() < 64 << 10);
    assert!(Correlation::new(Bounds::default(), Budget::new(1.0)).max_bytes() < 4 << 20);
    assert_eq!(correlation.observe(&[], "novelty", 1, 0.0, 0), None);
}
