//! What a list of scores is worth, with bootstrap intervals.

use serde::Serialize;

const RESAMPLES: usize = 1_000;
const SEED: u64 = 20_110;

/// A test trace that was scored.
#[derive(Clone, Copy)]
pub(crate) struct Scored {
    /// Higher is more suspicious.
    pub(crate) score: f64,
    pub(crate) attack: bool,
    /// Whether it was flagged by the threshold for a nominal 1 %.
    pub(crate) flagged: bool,
}

/// 95 % intervals are of a percentile bootstrap over traces, attacks and normal ones apart.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Measures {
    pub(crate) auc: f64,
    pub(crate) auc_ci: [f64; 2],
    pub(crate) tpr_0_1pct: f64,
    pub(crate) tpr_0_1pct_ci: [f64; 2],
    pub(crate) tpr_1pct: f64,
    pub(crate) tpr_1pct_ci: [f64; 2],
    pub(crate) tpr_5pct: f64,
    pub(crate) tpr_5pct_ci: [f64; 2],
    pub(crate) realised_fpr: f64,
    pub(crate) realised_fpr_ci: [f64; 2],
    /// Of the attacks, by the same threshold as `realised_fpr`.
    pub(crate) realised_tpr: f64,
    pub(crate) realised_tpr_ci: [f64; 2],
}

const NUMBER: usize = 6;

impl Measures {
    pub(crate) fn of(scored: &[Scored]) -> Self {
        let (attacks, normal): (Vec<Scored>, Vec<Scored>) = scored.iter().partition(|trace| trace.attack);
        let values = measure(&normal, &attacks);
        let mut resampled = vec![Vec::new(); NUMBER];
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut again = |from: &[Scored]| -> Vec<Scored> {
            from.iter().map(|_| from[random.usize(..from.len())]).collect()
        };
        for _ in 0..RESAMPLES {
            let values = measure(&again(&normal), &again(&attacks));
            for (all, value) in resampled.iter_mut().zip(values) {
                all.push(value);
            }
        }
        let interval = |measure: usize| {
            let mut all = resampled[measure].clone();
            all.sort_by(f64::total_cmp);
            [all[RESAMPLES / 40], all[RESAMPLES - 1 - RESAMPLES / 40]]
        };
        let [auc, tpr_0_1pct, tpr_1pct, tpr_5pct, realised_fpr, realised_tpr] = values;
        Self {
            auc,
            auc_ci: interval(0),
            tpr_0_1pct,
            tpr_0_1pct_ci: interval(1),
            tpr_1pct,
            tpr_1pct_ci: interval(2),
            tpr_5pct,
            tpr_5pct_ci: interval(3),
            realised_fpr,
            realised_fpr_ci: interval(4),
            realised_tpr,
            realised_tpr_ci: interval(5),
        }
    }
}

fn measure(normal: &[Scored], attacks: &[Scored]) -> [f64; NUMBER] {
    let mut descending: Vec<f64> = normal.iter().map(|trace| trace.score).collect();
    descending.sort_by(|a, b| b.total_cmp(a));
    let flagged = |traces: &[Scored]| share(traces, |trace| trace.flagged);
    let at = |fpr| tpr(&descending, attacks, fpr);
    [
        auc(&descending, attacks),
        at(0.001),
        at(0.01),
        at(0.05),
        flagged(normal),
        flagged(attacks),
    ]
}

/// The chance that an attack scores higher than something normal; a tie is half a win.
fn auc(descending: &[f64], attacks: &[Scored]) -> f64 {
    let wins = attacks.iter().map(|attack| {
        let above = descending.partition_point(|&score| score > attack.score);
        let not_below = descending.partition_point(|&score| score >= attack.score);
        (descending.len() - not_below) as f64 + (not_below - above) as f64 / 2.0
    });
    wins.sum::<f64>() / (descending.len() * attacks.len()) as f64
}

/// Share of attacks above a threshold that at most a share `fpr` of what is normal is above.
fn tpr(descending: &[f64], attacks: &[Scored], fpr: f64) -> f64 {
    let allowed = (fpr * descending.len() as f64) as usize;
    let threshold = descending[allowed.min(descending.len() - 1)];
    share(attacks, |attack| attack.score > threshold)
}

fn share(traces: &[Scored], is: impl Fn(&Scored) -> bool) -> f64 {
    traces.iter().filter(|trace| is(trace)).count() as f64 / traces.len() as f64
}
