//! How many attacks are detected, and how soon, beside what is normal: `cargo xtask bench detect` builds and runs this.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;
use sensor_tests::{
    helper,
    scenario::{Stage, attacks},
};
use serde_json::{Map, Value, json};

#[derive(Parser)]
struct Args {
    /// Where the numbers go, as JSON. What is there already and not measured here stays.
    #[arg(long)]
    output: PathBuf,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Hours of what is normal in which false incidents are counted.
const HOURS: u32 = 24 * 7;

fn main() -> ExitCode {
    let result = match helper::play() {
        Some(played) => played,
        None => measure(&Args::parse()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<()> {
    let mut stage = Stage::set()?.context("the programs for the scenarios are not here")?;
    let (mut detected, mut attributed, mut times) = (0, 0, Vec::new());
    let attacks = attacks();
    for attack in &attacks {
        let outcome = stage.judge(attack).context(attack.name)?;
        println!(
            "{}: detected {}, attributed {}, after {:?}",
            attack.name, outcome.detected, outcome.attributed, outcome.time_to_detect
        );
        detected += u32::from(outcome.detected);
        attributed += u32::from(outcome.attributed);
        times.extend(outcome.time_to_detect.map(|time| time.as_secs_f64() * 1e3));
    }
    times.sort_by(f64::total_cmp);
    let quantile = |share: f64| {
        times
            .get(((times.len() as f64 - 1.0) * share).round() as usize)
            .copied()
    };
    let false_incidents = stage.false_incidents(HOURS)? as f64;
    let days = f64::from(HOURS + 27) / 24.0;
    let interval = poisson(false_incidents).map(|bound| bound / days);
    let numbers = json!({
        "scenarios": attacks.len(),
        "detected": detected,
        "attributed": attributed,
        "time_to_detect_ms_p50": quantile(0.5),
        "time_to_detect_ms_p99": quantile(0.99),
        "false_incidents_per_day": false_incidents / days,
        "false_incidents_per_day_ci": interval,
    });
    write(&args.output, numbers)
}

/// About 95 of a hundred intervals for a count hold what it is a count of (square roots of Poisson counts spread alike).
fn poisson(count: f64) -> [f64; 2] {
    let low = (count.sqrt() - 0.98).max(0.0).powi(2);
    let high = ((count + 1.0).sqrt() + 0.98).powi(2);
    [if count == 0.0 { 0.0 } else { low }, high]
}

fn write(path: &PathBuf, numbers: Value) -> Result<()> {
    let mut all: Map<String, Value> = fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    if let Value::Object(numbers) = numbers {
        all.extend(numbers);
    }
    let text = serde_json::to_string_pretty(&all)?;
    fs::write(path, text + "\n").with_context(|| format!("could not write {}", path.display()))
}
