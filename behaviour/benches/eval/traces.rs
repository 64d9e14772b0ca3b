//! Traces of calls: of one service, or of a whole host.
//!
//! A model of a service is tried first; where what there is to learn does not fit it, the data is a whole host's.

use std::time::Instant;

use anyhow::{Result, bail};
use sensor_behaviour::{
    Conformal, fuse,
    sequence::{Scores, Sequence, Shape},
};

use crate::{
    alarms::{alarms, stretches},
    baselines::{Baseline, Stide, WittenBell},
    data::{Dataset, Split, Trace},
    measures::{Measures, Scored},
    report::{Figures, Model},
};

/// False alarms that are allowed.
const NOMINAL: f64 = 0.01;

/// Normal scores that it takes to know what one in a hundred is. If `calibrate` has fewer, the latest of `train` are added.
const CALIBRATION: usize = 300;

/// A service's model is too small if more than one in so many observations found no place in it.
const REFUSED: u64 = 1_000;

/// Parts of the normal traces that are left out in turn.
const FOLDS: usize = 10;

/// How often the time is taken.
const PASSES: usize = 9;

/// Calls of a stretch into which an attack is spliced.
const STRETCH: usize = 2_000;

const SEED: u64 = 4_711;

pub(crate) fn evaluate(dataset: &Dataset) -> Result<Figures> {
    let data = Data::new(dataset)?;
    let (kind, mut model) = data.learn();
    let detector = Detector::for_traces(&mut model, &data);
    let scored: Vec<Scored> = data
        .test
        .iter()
        .map(|(symbols, attack)| detector.scored(&model, symbols, *attack))
        .collect();
    let (attacks, normal): (Vec<_>, Vec<_>) = data.test.iter().partition(|(_, attack)| *attack);
    let diluted = Detector::for_stretches(&mut model, &data);
    let dilution = dilution(&normal, &attacks, |symbols| diluted.surprise(&model, symbols));
    let all: Vec<&Vec<u16>> = data.normal().collect();
    let learned = by_folds(&mut model, &all, stretches);
    let of = |traces: &[&(Vec<u16>, bool)]| -> Vec<_> {
        traces
            .iter()
            .map(|(symbols, _)| stretches(&model, symbols))
            .collect()
    };
    let alarms = alarms(&learned, &of(&normal), &of(&attacks));
    let model_bytes = model.memory_bytes();
    let model = Model {
        measures: Measures::of(&scored),
        ns_per_symbol: ns_per_symbol(&model, &data),
        model_bytes,
        dilution_tpr_1pct: dilution.map(|(tpr, _)| tpr),
        dilution_tpr_1pct_ci: dilution.map(|(_, ci)| ci),
    };
    Ok(Figures {
        kind,
        normal: normal.len(),
        attacks: attacks.len(),
        model,
        alarms,
        baselines: [
            (Stide::NAME, baseline::<Stide>(dataset, &data)),
            (WittenBell::NAME, baseline::<WittenBell>(dataset, &data)),
        ]
        .into(),
    })
}

struct Data {
    train: Vec<Vec<u16>>,
    calibrate: Vec<Vec<u16>>,
    /// With whether it is an attack.
    test: Vec<(Vec<u16>, bool)>,
}

impl Data {
    fn new(dataset: &Dataset) -> Result<Self> {
        let symbols = |trace: &Trace| {
            trace
                .symbols
                .iter()
                .map(|&symbol| u16::try_from(symbol))
                .collect()
        };
        let of = |split| {
            dataset
                .of(split)
                .map(symbols)
                .collect::<Result<Vec<Vec<u16>>, _>>()
        };
        let labels = dataset.of(Split::Test).map(|trace| !trace.normal);
        let (Ok(train), Ok(calibrate), Ok(test)) = (of(Split::Train), of(Split::Calibrate), of(Split::Test))
        else {
            bail!("more than 65,536 different symbols");
        };
        let data = Self {
            train,
            calibrate,
            test: test.into_iter().zip(labels).collect(),
        };
        let attacks = data.test.iter().filter(|(_, attack)| *attack).count();
        if data.train.is_empty() || attacks == 0 || attacks == data.test.len() {
            bail!("it takes traces to learn, and both normal traces and attacks in `test`");
        }
        Ok(data)
    }

    fn normal(&self) -> impl DoubleEndedIterator<Item = &Vec<u16>> {
        self.train.iter().chain(&self.calibrate)
    }

    fn learn(&self) -> (&'static str, Sequence) {
        let learned = |shape| {
            let mut model = Sequence::new(shape);
            self.normal().for_each(|trace| model.learn(trace));
            model
        };
        let service = learned(Shape::SERVICE);
        if service.refused() <= service.learned() / REFUSED {
            ("service", service)
        } else {
            ("host", learned(Shape::HOST))
        }
    }
}

/// The two views of a trace, each with its own calibration, and that of both together.
struct Detector {
    long: Conformal,
    short: Conformal,
    fused: Conformal,
    long_share: f64,
}

impl Detector {
    /// For traces as they are, from the latest normal ones, a tenth after the other left out as one: traces that are near in
    /// time are alike, and one left out alone would be known from its neighbours. (V. Vovk: *Cross-conformal predictors*, 2015.)
    fn for_traces(model: &mut Sequence, data: &Data) -> Self {
        let number = data.calibrate.len().max(CALIBRATION);
        let latest: Vec<&Vec<u16>> = data.normal().rev().take(number).collect();
        let normal = by_folds(model, &latest, Sequence::scores);
        Self::new(model.shape().long_share(), &normal)
    }

    /// For stretches of many traces: what is worst in 2,000 calls is worse than what is worst in 300, so they are calibrated by
    /// their like.
    fn for_stretches(model: &mut Sequence, data: &Data) -> Self {
        let mut random = fastrand::Rng::with_seed(SEED);
        let number = data.calibrate.len().max(CALIBRATION);
        let mut latest: Vec<&Vec<u16>> = data.normal().rev().take(number).collect();
        let mut one = || {
            random.shuffle(&mut latest);
            let mut length = 0;
            let enough = latest.iter().take_while(|trace| {
                let begins = length;
                length += trace.len();
                begins < STRETCH
            });
            let traces: Vec<&Vec<u16>> = enough.copied().collect();
            left_out(model, &traces, STRETCH)
        };
        let normal: Vec<Scores> = (0..number).map(|_| one()).collect();
        Self::new(model.shape().long_share(), &normal)
    }

    fn new(long_share: f64, normal: &[Scores]) -> Self {
        let mut detector = Self {
            long: Conformal::new(normal.len()),
            short: Conformal::new(normal.len()),
            fused: Conformal::new(normal.len()),
            long_share,
        };
        for scores in normal {
            detector.long.push(scores.long);
            detector.short.push(scores.short);
        }
        for scores in normal {
            let surprise = detector.fuse(scores);
            detector.fused.push(surprise);
        }
        detector
    }

    /// How surprising both views together are, in nats.
    fn fuse(&self, scores: &Scores) -> f64 {
        let long = (self.long.p_value(scores.long), self.long_share);
        let short = (self.short.p_value(scores.short), 1.0 - self.long_share);
        -fuse(&[long, short]).0.ln()
    }

    fn surprise(&self, model: &Sequence, symbols: &[u16]) -> f64 {
        self.fuse(&model.scores(symbols))
    }

    fn scored(&self, model: &Sequence, symbols: &[u16], attack: bool) -> Scored {
        let score = self.surprise(model, symbols);
        Scored {
            score,
            attack,
            flagged: self.fused.cautious_p_value(score) <= NOMINAL,
        }
    }
}

/// What there is to say of each trace, a tenth after the other left out as one.
fn by_folds<T>(model: &mut Sequence, traces: &[&Vec<u16>], one: impl Fn(&Sequence, &[u16]) -> T) -> Vec<T> {
    let mut all = Vec::with_capacity(traces.len());
    for fold in traces.chunks(traces.len().div_ceil(FOLDS)) {
        fold.iter().for_each(|trace| model.unlearn(trace));
        all.extend(fold.iter().map(|trace| one(model, trace)));
        fold.iter().for_each(|trace| model.learn(trace));
    }
    all
}

/// The scores of the first `length` symbols of several traces in a row, by the model without them.
fn left_out(model: &mut Sequence, traces: &[&Vec<u16>], length: usize) -> Scores {
    traces.iter().for_each(|trace| model.unlearn(trace));
    let symbols: Vec<u16> = traces
        .iter()
        .flat_map(|trace| trace.iter().copied())
        .take(length)
        .collect();
    let scores = model.scores(&symbols);
    traces.iter().for_each(|trace| model.learn(trace));
    scores
}

/// To score and to learn; the best of several passes, since this machine has other things to do.
fn ns_per_symbol(model: &Sequence, data: &Data) -> f64 {
    let symbols: usize = data.test.iter().map(|(symbols, _)| symbols.len()).sum();
    let pass = || {
        let mut model = model.clone();
        let begin = Instant::now();
        for (symbols, _) in &data.test {
            std::hint::black_box(model.scores(symbols));
            model.learn(symbols);
        }
        begin.elapsed().as_nanos() as f64 / symbols as f64
    };
    (0..PASSES).map(|_| pass()).fold(f64::INFINITY, f64::min)
}

/// An attack of 20 calls in about 2,000 normal ones: the case that a mean over the whole trace misses. The share found at 1 %
/// of false alarms, with its interval; `None` where no attack is that long.
fn dilution(
    normal: &[&(Vec<u16>, bool)],
    attacks: &[&(Vec<u16>, bool)],
    surprise: impl Fn(&[u16]) -> f64,
) -> Option<(f64, [f64; 2])> {
    const ATTACK: usize = 20;
    const TRACES: usize = 500;
    let attacks: Vec<&[u16]> = attacks
        .iter()
        .map(|(symbols, _)| &symbols[..])
        .filter(|symbols| symbols.len() >= ATTACK)
        .collect();
    if attacks.is_empty() {
        return None;
    }
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut scored = Vec::with_capacity(2 * TRACES);
    for attack in (0..2 * TRACES).map(|number| number % 2 == 1) {
        let mut symbols = Vec::with_capacity(2 * STRETCH);
        while symbols.len() < STRETCH {
            symbols.extend(&normal[random.usize(..normal.len())].0);
        }
        symbols.truncate(STRETCH);
        if attack {
            let from = attacks[random.usize(..attacks.len())];
            let begin = random.usize(..=from.len() - ATTACK);
            let at = random.usize(..=STRETCH);
            symbols.splice(at..at, from[begin..begin + ATTACK].iter().copied());
        }
        scored.push(Scored {
            score: surprise(&symbols),
            attack,
            flagged: false,
        });
    }
    let measures = Measures::of(&scored);
    Some((measures.tpr_1pct, measures.tpr_1pct_ci))
}

/// Learns `train`, sets its threshold by `calibrate` alone.
fn baseline<B: Baseline>(dataset: &Dataset, data: &Data) -> Model {
    let mut model = B::default();
    let mut symbols = 0;
    let begin = Instant::now();
    for trace in dataset.of(Split::Train) {
        model.learn(&trace.symbols);
        symbols += trace.symbols.len();
    }
    let learning = begin.elapsed().as_nanos() as f64 / symbols as f64;
    let mut calibration: Vec<f64> = dataset
        .of(Split::Calibrate)
        .map(|trace| model.score(&trace.symbols))
        .collect();
    calibration.sort_by(|a, b| b.total_cmp(a));
    let above = (NOMINAL * (calibration.len() + 1) as f64) as usize;
    let threshold = calibration.get(above).copied().unwrap_or(f64::INFINITY);
    let begin = Instant::now();
    let scored: Vec<Scored> = dataset
        .of(Split::Test)
        .map(|trace| {
            let score = model.score(&trace.symbols);
            Scored {
                score,
                attack: !trace.normal,
                flagged: score > threshold,
            }
        })
        .collect();
    let symbols: usize = dataset.of(Split::Test).map(|trace| trace.symbols.len()).sum();
    let scoring = begin.elapsed().as_nanos() as f64 / symbols as f64;
    let (attacks, normal): (Vec<_>, Vec<_>) = data.test.iter().partition(|(_, attack)| *attack);
    let dilution = dilution(&normal, &attacks, |symbols| {
        let symbols: Vec<u32> = symbols.iter().copied().map(u32::from).collect();
        model.score(&symbols)
    });
    Model {
        measures: Measures::of(&scored),
        ns_per_symbol: learning + scoring,
        model_bytes: model.bytes(),
        dilution_tpr_1pct: dilution.map(|(tpr, _)| tpr),
        dilution_tpr_1pct_ci: dilution.map(|(_, ci)| ci),
    }
}
