//! What rules cost an event, and how long a directory of them takes to load: `cargo xtask bench respond` builds and runs this.
//!
//! The same events, of the kinds and in the shares that a busy host shows, are shown to no rule, to 50 and to 500, in turns, so that what else the
//! machine does falls on all alike; the result is the median of the rounds. What is measured is all that the agent does for rules: finding the log
//! sources, the view, the look-up, the evaluation.

mod events;
mod many;

use std::{hint::black_box, path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use sensor::{
    config,
    host::Event,
    rules::{Channels, RuleSet, View},
};
use serde_json::{Map, Value};

#[derive(Parser)]
struct Args {
    /// Where the numbers go, as JSON; those that are there under other names stay.
    #[arg(long)]
    output: PathBuf,
    /// A smoke run: its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const KEY: &str = "rules_ns_per_event";

const LOAD: &str = "rules_load_ms";

/// How many rules are in the directory.
const LOADED: usize = 500;

/// How many rules are loaded.
const COUNTS: [usize; 3] = [0, 50, 500];

fn main() -> Result<()> {
    let args = Args::parse();
    let (rounds, repeats) = if args.quick { (3, 2) } else { (21, 10) };
    let events = events::of_a_busy_host(20_000);
    let mut values = read(&args.output);
    values.insert(LOAD.to_owned(), load(rounds)?.into());
    let mut sets: Vec<RuleSet> = Vec::new();
    for count in COUNTS {
        let set = RuleSet::build(&many::rules(count), &[]);
        anyhow::ensure!(
            set.active() == count,
            "{} of {count} rules are in use: {:?}",
            set.active(),
            set.faults
        );
        sets.push(set);
    }
    let mut times = vec![Vec::new(); COUNTS.len()];
    let mut hits = 0;
    for _ in 0..rounds {
        for (set, times) in sets.iter_mut().zip(&mut times) {
            let begin = Instant::now();
            for _ in 0..repeats {
                hits += events.iter().map(|event| ask(set, event)).sum::<usize>();
            }
            times.push(begin.elapsed().as_nanos() as f64 / (events.len() * repeats) as f64);
        }
    }
    for (count, times) in COUNTS.into_iter().zip(&mut times) {
        let key = format!("{KEY}_{count}");
        let median = told(&key, times, "");
        values.insert(key, median.into());
    }
    println!("wanted: at most 1500 with 500 rules; {hits} matches in all");
    let text = serde_json::to_string_pretty(&values)?;
    std::fs::write(&args.output, text + "\n")
        .with_context(|| format!("could not write {}", args.output.display()))
}

/// A directory of 500 files is read, each rule checked and put in use: milliseconds.
fn load(rounds: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    for (number, source) in many::rules(LOADED).iter().enumerate() {
        std::fs::write(folder.path().join(format!("{number}.yml")), &source.text)?;
    }
    let config = config::Rules {
        builtin: false,
        paths: vec![folder.path().to_owned()],
        disable: Vec::new(),
    };
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        let set = RuleSet::load(black_box(&config));
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(set.active() == LOADED, "{:?}", set.faults);
    }
    let wanted = format!(" for {LOADED} files; wanted: less than 1000");
    Ok(told(LOAD, &mut times, &wanted))
}

/// The median, which is printed with the spread and what there is to say of it.
fn told(key: &str, times: &mut [f64], remark: &str) -> f64 {
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{key}: {median:.0} ({:.0} to {:.0}){remark}",
        times[0],
        times[times.len() - 1]
    );
    median
}

/// As the agent does it.
fn ask(set: &mut RuleSet, event: &Arc<Event>) -> usize {
    let channels = Channels::of_event(black_box(event)).common(set.channels);
    if channels.is_empty() {
        return 0;
    }
    let view = View::new(event, None, None);
    set.engine.evaluate(&view, channels, 1).len()
}

fn read(path: &PathBuf) -> Map<String, Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
