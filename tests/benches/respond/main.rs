//! What is done about it, and how soon: `cargo xtask bench respond` builds and runs this.

mod kernel;
mod kill;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use sensor_tests::{helper, numbers::Numbers};

#[derive(Parser)]
struct Args {
    /// Where the numbers go, as JSON. What is there already and not measured here stays.
    #[arg(long)]
    output: PathBuf,
    /// A smoke run: its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    if let Some(result) = helper::play() {
        return result;
    }
    let args = Args::parse();
    let (execs, kills, members, heirs) = match args.quick {
        true => (500, 50, 100, 100),
        false => (10_000, 900, 1_000, 900),
    };
    let mut numbers = Numbers::read(&args.output);
    kernel::measure(execs, &mut numbers)?;
    kill::one_by_one(kills, &mut numbers)?;
    kill::family(members, &mut numbers)?;
    kill::heirs(heirs, &mut numbers)?;
    numbers.write(&args.output)
}
