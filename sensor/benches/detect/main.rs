//! What detection costs for each event of the live stream: `cargo xtask bench detect` builds and runs this.
//!
//! What is measured is the detector alone: lineage, origin, facts, what is normal, and what all that adds up to. An event is made just before it is
//! looked at, as in the pipeline, so that it is in the processor's cache; what making it costs is measured apart and taken off. Each load is run a few times and the median counts; `ns_per_event` is that of the mixture, which is like a busy host.

mod load;

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use load::Load;
use sensor::{config, detect::Detector};

#[derive(Parser)]
struct Args {
    /// Where the numbers go, as JSON. What is there already and not measured here stays.
    #[arg(long)]
    output: Option<PathBuf>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const EVENTS: usize = 400_000;
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let args = Args::parse();
    let mut numbers = serde_json::Map::new();
    for (name, load) in load::all() {
        let ns = median(&load);
        println!("{name}: {ns:.0} ns per event");
        let key = if name == load::MIXTURE {
            "ns_per_event".to_owned()
        } else {
            format!("ns_per_event_{name}")
        };
        numbers.insert(key, ((ns * 10.0).round() / 10.0).into());
    }
    match args.output {
        Some(path) => write(&path, numbers),
        None => Ok(()),
    }
}

fn median(load: &Load) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| once(load)).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// The first half is warming up: a subject that is learned costs otherwise than one that is not.
fn once(load: &Load) -> f64 {
    let mut detector = Detector::new(&config::Detect::default(), "bench");
    for index in 0..EVENTS / 2 {
        detector.detect(&load.event(index), &load.processes);
    }
    let began = Instant::now();
    for index in EVENTS / 2..EVENTS {
        std::hint::black_box(detector.detect(&load.event(index), &load.processes));
    }
    let with = began.elapsed();
    let began = Instant::now();
    for index in EVENTS / 2..EVENTS {
        std::hint::black_box(load.event(index));
    }
    let events = (EVENTS - EVENTS / 2) as f64;
    (with.as_nanos() as f64 - began.elapsed().as_nanos() as f64) / events
}

fn write(path: &PathBuf, numbers: serde_json::Map<String, serde_json::Value>) -> Result<()> {
    let mut all: serde_json::Map<_, _> = fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    all.extend(numbers);
    let text = serde_json::to_string_pretty(&all)?;
    fs::write(path, text + "\n").with_context(|| format!("could not write {}", path.display()))
}
