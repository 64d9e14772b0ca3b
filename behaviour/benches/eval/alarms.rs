//! The promise of the alert budget on data that was held out: how many incidents a day normal traces open by chance, and which attacks do.
//!
//! A trace is a process: its stretches of 50 calls are observations, their p-values by the scores of normal stretches that were left out; its worst three
//! calls in a row are the cause. A process begins every half an hour, so a day has 48: of `test` there are some days, and 0.1 incidents a day are one
//! or none. The budget has seen what was learned, each trace left out, and then sees the normal traces of `test`.

use sensor_behaviour::{
    Budget, Conformal,
    correlation::{Bounds, Correlation, Key},
    sequence::Sequence,
};
use serde::Serialize;

/// Incidents a day that are allowed.
const BUDGETS: [f64; 5] = [0.1, 0.3, 1.0, 3.0, 10.0];

/// Calls of an observation.
const STRETCH: usize = 50;

const DAY_NS: u64 = 86_400_000_000_000;
const TRACES_PER_DAY: u64 = 48;

#[derive(Serialize)]
pub(crate) struct Alarms {
    pub(crate) budget_per_day: f64,
    pub(crate) realised_per_day: f64,
    /// 95 %, of a Poisson count, by the normal approximation of its square root.
    pub(crate) realised_per_day_ci: [f64; 2],
    /// Days of normal traces.
    pub(crate) days: f64,
    /// Share of attacks that opened an incident.
    pub(crate) found: f64,
}

/// Surprise and cause of each stretch of a trace.
pub(crate) type Stretches = Vec<(f64, u64)>;

pub(crate) fn stretches(model: &Sequence, symbols: &[u16]) -> Stretches {
    let bits = model.surprises(symbols);
    let one = |(bits, symbols): (&[f64], &[u16])| {
        let mean = bits.iter().sum::<f64>() / bits.len() as f64;
        let sums = bits.windows(3).map(|three| three.iter().sum::<f64>());
        let worst = sums.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        let at = worst.map_or(0, |(at, _)| at);
        let three = &symbols[at..symbols.len().min(at + 3)];
        let cause = three
            .iter()
            .fold(0, |hash, &symbol| hash << 16 | u64::from(symbol));
        (mean, cause)
    };
    bits.chunks(STRETCH)
        .zip(symbols.chunks(STRETCH))
        .map(one)
        .collect()
}

/// `learned` are the stretches of normal traces, each by a model without it.
pub(crate) fn alarms(learned: &[Stretches], normal: &[Stretches], attacks: &[Stretches]) -> Vec<Alarms> {
    let mut calibration = Conformal::new(usize::MAX >> 8);
    for &(score, _) in learned.iter().flatten() {
        calibration.push(score);
    }
    let one = |&per_day: &f64| {
        let mut host = Host {
            calibration: &calibration,
            correlation: Correlation::new(Bounds::default(), Budget::new(per_day)),
            processes: 0,
        };
        for trace in learned {
            host.run(trace);
        }
        let before = host.correlation.clone();
        let begun = host.processes;
        let opened = normal.iter().filter(|trace| host.run(trace)).count() as f64;
        let found = attacks.iter().filter(|trace| {
            let mut host = Host {
                calibration: &calibration,
                correlation: before.clone(),
                processes: begun,
            };
            host.run(trace)
        });
        let days = normal.len() as f64 / TRACES_PER_DAY as f64;
        let bound = |sign: f64| ((opened + 0.375).sqrt() + sign * 0.98).max(0.0).powi(2) / days;
        Alarms {
            budget_per_day: per_day,
            realised_per_day: opened / days,
            realised_per_day_ci: [bound(-1.0), bound(1.0)],
            days,
            found: found.count() as f64 / attacks.len() as f64,
        }
    };
    BUDGETS.iter().map(one).collect()
}

struct Host<'a> {
    calibration: &'a Conformal,
    correlation: Correlation,
    processes: u64,
}

impl Host<'_> {
    /// Whether a process opens an incident.
    fn run(&mut self, trace: &Stretches) -> bool {
        let begin = self.processes * DAY_NS / TRACES_PER_DAY;
        self.processes += 1;
        let mut opened = false;
        for (number, &(score, cause)) in trace.iter().enumerate() {
            let time = begin + number as u64 * 1_000_000_000;
            let p = self.calibration.p_value(score);
            let key = [Key::Tree(self.processes)];
            let incident = self.correlation.observe(&key, "sequence", cause, p, time);
            opened |= incident.is_some();
        }
        opened
    }
}
