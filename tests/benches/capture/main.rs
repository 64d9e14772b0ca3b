//! What capture costs: `cargo xtask bench capture` builds and runs this.
//!
//! Time is measured with and without the agent in turns, so that what else the machine does falls on both sides alike;
//! the result is the median of the pairs' ratios.

mod latency;
mod memory;
mod overhead;
mod report;
mod storm;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use report::Report;
use rustix::process::setpriority_process;
use sensor_tests::collector::Collector;

#[derive(Parser)]
struct Args {
    /// Where the numbers go, as JSON.
    #[arg(long)]
    output: PathBuf,
    /// A smoke run: its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much of everything.
struct Size {
    pairs: usize,
    execs: u32,
    connects: u32,
    /// Half of them before the first look at the agent's memory, half after.
    execs_for_memory: u32,
    execs_for_latency: u32,
}

const FULL: Size = Size {
    pairs: 21,
    execs: 1000,
    connects: 6000,
    execs_for_memory: 200_000,
    execs_for_latency: 10_000,
};
const QUICK: Size = Size {
    pairs: 2,
    execs: 300,
    connects: 500,
    execs_for_memory: 4000,
    execs_for_latency: 1000,
};

fn main() -> Result<()> {
    let args = Args::parse();
    let size = if args.quick { QUICK } else { FULL };
    // It belongs on another machine: here it takes what the others leave.
    setpriority_process(None, 19)?;
    let collector = Collector::start()?;
    setpriority_process(None, 0)?;
    let address = collector.address();

    eprintln!("exec storm: {} pairs of {} execs", size.pairs, size.execs);
    let exec = overhead::measure(&address, size.pairs, size.execs, |_, count| storm::execs(count))?;
    eprintln!(
        "connect storm: {} pairs of {} connections",
        size.pairs, size.connects
    );
    let connect = overhead::measure(&address, size.pairs, size.connects, storm::connects)?;
    eprintln!("memory: {} execs", size.execs_for_memory);
    let memory = memory::measure(&address, size.execs_for_memory)?;
    eprintln!("latency: {} execs, 1,000 a second", size.execs_for_latency);
    let latency = latency::measure(&address, size.execs_for_latency)?;

    let report = Report::new(size.pairs, &exec, &connect, &memory, &latency);
    println!("{}", report.table());
    report.write(&args.output)
}
