use super::*;

const MODEL: &str = "rates";

fn normal(random: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}

/// Share of `number` judgements at or below `level`, of scores that are moved by `shift(n)` and learned.
fn share(calibration: &mut Calibration, number: u32, level: f64, shift: impl Fn(u32) -> f64) -> f64 {
    let mut random = fastrand::Rng::with_seed(number.into());
    let below = (0..number)
        .filter(|&n| calibration.learn("web", MODEL, normal(&mut random) + shift(n)) <= level)
        .count();
    below as f64 / f64::from(number)
}

#[test]
fn a_newcomer_is_judged_by_everybody_and_then_by_itself() {
    let mut calibration = Calibration::new(Bounds::default());
    assert_eq!(calibration.p_value("web", MODEL, 9.0), 1.0);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        calibration.learn("web", MODEL, normal(&mut random));
    }
    assert!(calibration.p_value("db", MODEL, 4.0) < 0.005);
    assert_eq!(calibration.p_value("db", "another", 4.0), 1.0);
    // The database scores higher, and that is soon its own affair.
    for _ in 0..300 {
        calibration.learn("db", MODEL, normal(&mut random) + 4.0);
    }
    assert!(calibration.p_value("db", MODEL, 4.0) > 0.3);
    assert!(calibration.p_value("web", MODEL, 5.0) < 0.1);
}

#[test]
fn as_many_fall_below_as_promised() {
    let mut calibration = Calibration::new(Bounds::default());
    share(&mut calibration, 300, 0.01, |_| 0.0);
    for level in [0.05, 0.01, 0.002] {
        let share = share(&mut calibration, 40_000, level, |_| 0.0);
        assert!((level / 1.5..level * 1.5).contains(&share), "{share} at {level}");
    }
}

/// Scores creep up by three deviations over 600, for some subjects: ranks alone flag a multiple of what was promised.
#[test]
fn drift_is_noticed_and_made_up_for() {
    let (mut with, mut without, mut drifts) = (0, 0, 0);
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut calibration = Calibration::new(Bounds::default());
        let mut ranks = Conformal::new(Bounds::default().scores);
        for n in -300..600 {
            let score = normal(&mut random) + f64::from(n.max(0)) / 200.0;
            let flagged = u32::from(n >= 0);
            without += flagged * u32::from(ranks.p_value(score) <= 0.01);
            ranks.push(score);
            with += flagged * u32::from(calibration.learn("web", MODEL, score) <= 0.01);
        }
        drifts += u32::from(calibration.drift("web", MODEL) < 1.0);
    }
    let [with, without] = [with, without].map(|flagged| f64::from(flagged) / 12_000.0);
    assert!(drifts > 10, "{drifts} of 20 are seen");
    assert!(with < 0.75 * without, "{with}, without feedback {without}");
}

#[test]
fn drift_that_is_over_is_forgotten() {
    let mut calibration = Calibration::new(Bounds::default());
    share(&mut calibration, 300, 0.01, |_| 0.0);
    share(&mut calibration, 600, 0.01, |n| f64::from(n) / 200.0);
    let after = share(&mut calibration, 20_000, 0.01, |_| 3.0);
    assert!((0.01 / 1.5..0.015).contains(&after), "{after}");
}

#[test]
fn what_is_extreme_is_not_learned_however_often_it_comes() {
    let mut calibration = Calibration::new(Bounds::default());
    share(&mut calibration, 400, 0.01, |_| 0.0);
    for _ in 0..50 {
        assert!(calibration.learn("web", MODEL, 40.0) < 1e-3);
    }
    assert!(calibration.p_value("web", MODEL, 40.0) < 1e-3);
}

#[test]
fn bounded() {
    let bounds = Bounds {
        subjects: 2,
        scores: 5,
    };
    let mut calibration = Calibration::new(bounds);
    for number in 0..20_u32 {
        calibration.learn(&(number % 3).to_string(), MODEL, number.into());
    }
    assert_eq!(calibration.own.len(), 2);
    assert!(calibration.own.iter().all(|(_, own)| own.scores.len() <= 5));
    assert_eq!(calibration.shared[MODEL].len(), 5);
    assert!(calibration.max_bytes(1) < 8_192);
}
