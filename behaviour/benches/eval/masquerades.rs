//! Blocks of several people in the order of time, some of them somebody else's.
//!
//! Everybody's `train` and `calibrate` are learned first; then each person's next block is judged, and perhaps learned, in turn. No label is looked at but to
//! count.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Result, bail};
use sensor_behaviour::{
    Conformal,
    habits::{Bounds, Habits},
};

use crate::{
    baselines::{Baseline, Stide, WittenBell},
    data::{Dataset, Split, Trace},
    measures::{Measures, Scored},
    report::{Figures, Model},
};

/// False alarms that are allowed.
const NOMINAL: f64 = 0.01;

type People<'a> = BTreeMap<&'a str, Vec<&'a Trace>>;

pub(crate) fn evaluate(dataset: &Dataset, people: &People<'_>) -> Result<Figures> {
    let attacks = dataset.of(Split::Test).filter(|trace| !trace.normal).count();
    let normal = dataset.of(Split::Test).count() - attacks;
    if attacks == 0 || normal == 0 {
        bail!("it takes both normal blocks and others in `test`");
    }
    Ok(Figures {
        kind: "masquerade",
        normal,
        attacks,
        model: habits(people),
        alarms: Vec::new(),
        baselines: [
            (Stide::NAME, baseline::<Stide>(people)),
            (WittenBell::NAME, baseline::<WittenBell>(people)),
        ]
        .into(),
    })
}

fn habits(people: &People<'_>) -> Model {
    let mut model = Habits::new(Bounds::default());
    for (person, blocks) in people {
        let normal = blocks.iter().filter(|block| block.split != Split::Test);
        normal.for_each(|block| model.learn(person, &block.symbols));
    }
    model.settle();
    let (mut scored, mut symbols) = (Vec::new(), 0);
    let begin = Instant::now();
    for (person, block) in in_turn(people) {
        let judgement = model.observe(person, &block.symbols);
        symbols += block.symbols.len();
        scored.push(Scored {
            score: judgement.deviation,
            attack: !block.normal,
            flagged: judgement.p_value <= NOMINAL,
        });
    }
    Model {
        ns_per_symbol: begin.elapsed().as_nanos() as f64 / symbols as f64,
        measures: Measures::of(&scored),
        model_bytes: model.memory_bytes(),
        dilution_tpr_1pct: None,
        dilution_tpr_1pct_ci: None,
    }
}

/// The blocks of `test`, everybody's first, then everybody's second, and so on.
fn in_turn<'a>(people: &'a People<'a>) -> impl Iterator<Item = (&'a str, &'a Trace)> {
    let test = |blocks: &'a Vec<&'a Trace>| blocks.iter().filter(|block| block.split == Split::Test);
    let longest = people.values().map(|blocks| test(blocks).count()).max();
    (0..longest.unwrap_or(0)).flat_map(move |turn| {
        people
            .iter()
            .filter_map(move |(person, blocks)| Some((*person, *test(blocks).nth(turn)?)))
    })
}

/// A model per person, never updated; scores in standard deviations of the person's own, each block left out
/// in turn.
fn baseline<B: Baseline>(people: &People<'_>) -> Model {
    let mut calibration = Conformal::new(usize::MAX >> 8);
    let (mut judged, mut bytes, mut symbols, mut nanos) = (Vec::new(), 0, 0, 0);
    for blocks in people.values() {
        let (train, test): (Vec<&Trace>, Vec<&Trace>) =
            blocks.iter().partition(|block| block.split != Split::Test);
        let left_out: Vec<f64> = (0..train.len())
            .map(|out| {
                let others = train.iter().enumerate().filter(|&(number, _)| number != out);
                learned::<B>(others.map(|(_, block)| *block)).score(&train[out].symbols)
            })
            .collect();
        let number = left_out.len() as f64;
        let mean = left_out.iter().sum::<f64>() / number;
        let variance = left_out.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / number;
        let deviation = |score: f64| (score - mean) / variance.sqrt().max(1e-3);
        left_out
            .iter()
            .for_each(|&score| calibration.push(deviation(score)));
        let begin = Instant::now();
        let model = learned::<B>(train.iter().copied());
        judged.extend(
            test.iter()
                .map(|block| (deviation(model.score(&block.symbols)), !block.normal)),
        );
        nanos += begin.elapsed().as_nanos();
        symbols += test.iter().map(|block| block.symbols.len()).sum::<usize>();
        bytes += model.bytes();
    }
    let scored: Vec<Scored> = judged
        .into_iter()
        .map(|(score, attack)| Scored {
            score,
            attack,
            flagged: calibration.p_value(score) <= NOMINAL,
        })
        .collect();
    Model {
        measures: Measures::of(&scored),
        ns_per_symbol: nanos as f64 / symbols as f64,
        model_bytes: bytes,
        dilution_tpr_1pct: None,
        dilution_tpr_1pct_ci: None,
    }
}

fn learned<'a, B: Baseline>(blocks: impl Iterator<Item = &'a Trace>) -> B {
    let mut model = B::default();
    blocks.for_each(|block| model.learn(&block.symbols));
    model
}
