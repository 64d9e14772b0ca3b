//! What is done about it, and how soon: `cargo xtask bench respond` builds and runs this.

mod kernel;
mod kill;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use sensor_tests::{helper, numbers::Numbers};

#[derive(Parser)]
struct Args {
    /// Where the numbers go, as JSON. What is there already and not measured here stays.
    #[arg(long)]
    output: PathBuf,
    /// A smoke run: its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// Only these parts: kernel, user, tree, heirs.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Kernel,
    User,
    Tree,
    Heirs,
}

fn main() -> Result<()> {
    if let Some(result) = helper::play() {
        return result;
    }
    let args = Args::parse();
    let is_wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let (execs, kills, members, rounds, heirs) = match args.quick {
        true => (500, 50, 100, 1, 100),
        false => (10_000, 900, 1_000, 10, 900),
    };
    let mut numbers = Numbers::read(&args.output);
    if is_wanted(Part::Kernel) {
        kernel::measure(execs, &mut numbers)?;
    }
    if is_wanted(Part::User) {
        kill::one_by_one(kills, &mut numbers)?;
    }
    if is_wanted(Part::Tree) {
        kill::family(members, &mut numbers)?;
    }
    if is_wanted(Part::Heirs) {
        kill::heirs(rounds, heirs, &mut numbers)?;
    }
    numbers.write(&args.output)
}
