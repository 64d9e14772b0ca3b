//! `cargo xtask bench`: what the agent costs. The measuring itself is a benchmark of the tests' crate.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    binaries, cargo,
    remedy::{Remedy, is_root},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Storms of programs, connections and files, a build and system calls with and without the agent; its memory, its latency
    /// and how much it can take; writes `target/bench/capture.json`.
    Capture {
        /// A smoke run: few rounds, small storms; its numbers mean little.
        #[arg(long)]
        quick: bool,
        /// Only this measurement: exec, connect, open, open_distinct, build, syscall, rate, memory, latency or loader. May be
        /// given several times.
        #[arg(long)]
        only: Vec<String>,
    },
    /// What detection costs for each event, and what it makes of attacks; writes `target/bench/detect.json`.
    Detect {
        /// Only what it costs.
        #[arg(long)]
        cost: bool,
    },
    /// What rules cost an event, and whether anything survives a verdict of the kernel programs; writes `target/bench/respond.json`.
    Respond {
        /// A smoke run: its numbers mean little.
        #[arg(long)]
        quick: bool,
        /// Only this part: what rules cost, verdicts of the kernel programs, one process, a thousand with all that descends from them,
        /// and whoever gets the id of one that was to be killed. May be given several times.
        #[arg(long, value_parser = ["rules", "kernel", "user", "tree", "heirs"])]
        only: Vec<String>,
    },
    /// What the spool takes, what a collector takes and answers, and what is left of it all when it is killed again and again; writes
    /// `target/bench/delivery.json`.
    Delivery {
        /// A smoke run: its numbers mean little.
        #[arg(long)]
        quick: bool,
        /// Only this part. May be given several times.
        #[arg(long, value_parser = ["spool", "ingest", "agents", "query", "faults"])]
        only: Vec<String>,
        /// Events that queries are asked about; all of them have to be made first.
        #[arg(long)]
        events: Option<u64>,
    },
}

pub(crate) fn main(args: &Args) -> Result<()> {
    match &args.bench {
        Bench::Capture { quick, only } => capture(*quick, only),
        Bench::Detect { cost } => detect(*cost),
        Bench::Respond { quick, only } => respond(*quick, only),
        Bench::Delivery { quick, only, events } => delivery(*quick, only, *events),
    }
}

fn detect(cost: bool) -> Result<()> {
    let toolchain = setup::for_build()?;
    let output = folder()?.join("detect.json");
    let mut bench = cargo::cargo(Some(toolchain));
    bench.args(["bench", "-p", "sensor", "--bench", "detect", "--", "--output"]);
    cargo::run(bench.arg(&output))?;
    if cost {
        return Ok(());
    }
    if !is_root() {
        return Err(Remedy::error(
            "only root can load kernel programs: run `cargo xtask bench` as root, or with --cost",
        ));
    }
    let programs = binaries::programs(toolchain, "release")?;
    let mut bench = cargo::cargo(Some(toolchain));
    bench.args([
        "bench",
        "-p",
        "sensor-tests",
        "--bench",
        "scenarios",
        "--",
        "--output",
    ]);
    bench.arg(&output).env("SENSOR_BIN", &programs.sensor);
    cargo::run(&mut bench)
}

fn folder() -> Result<PathBuf> {
    let folder = cargo::target().join("bench");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn respond(quick: bool, only: &[String]) -> Result<()> {
    const RULES: &str = "rules";
    let on_kernel: Vec<&String> = only.iter().filter(|part| *part != RULES).collect();
    let is_on_kernel = only.is_empty() || !on_kernel.is_empty();
    if is_on_kernel && !is_root() {
        return Err(Remedy::error(
            "only root can load kernel programs: run `cargo xtask bench` as root, or with --only rules",
        ));
    }
    let toolchain = setup::for_build()?;
    let output = folder()?.join("respond.json");
    let bench = |package, name| adding(toolchain, package, name, &output, quick);
    if only.is_empty() || only.iter().any(|part| part == RULES) {
        cargo::run(&mut bench("sensor", "rules"))?;
    }
    if !is_on_kernel {
        return Ok(());
    }
    let programs = binaries::programs(toolchain, "release")?;
    let mut bench = bench("sensor-tests", "respond");
    if !on_kernel.is_empty() {
        let list: Vec<&str> = on_kernel.into_iter().map(String::as_str).collect();
        bench.args(["--only", &list.join(",")]);
    }
    cargo::run(bench.env("SENSOR_BIN", &programs.sensor))
}

/// A benchmark that adds its numbers to those of others in `output`.
fn adding(toolchain: setup::Toolchain, package: &str, name: &str, output: &Path, quick: bool) -> Command {
    let mut bench = cargo::cargo(Some(toolchain));
    bench.args(["bench", "-p", package, "--bench", name, "--", "--output"]);
    bench.arg(output).args(quick.then_some("--quick"));
    bench
}

/// The spool's numbers are the agent's, those of faults come from both, all others are the collector's.
fn delivery(quick: bool, only: &[String], events: Option<u64>) -> Result<()> {
    const COLLECTOR: [&str; 3] = ["ingest", "agents", "query"];
    let is_wanted = |part: &str| only.is_empty() || only.iter().any(|only| only == part);
    if is_wanted("faults") && !is_root() {
        return Err(Remedy::error(
            "only root can load kernel programs and cut wires: run `cargo xtask bench` as root, or with --only for the other parts",
        ));
    }
    let toolchain = setup::for_build()?;
    let folder = folder()?;
    let output = folder.join("delivery.json");
    let bench = |package, name| adding(toolchain, package, name, &output, quick);
    if is_wanted("spool") {
        cargo::run(bench("sensor", "spool").arg("--folder").arg(&folder))?;
    }
    if COLLECTOR.into_iter().any(is_wanted) {
        let mut bench = bench("collector", "delivery");
        for part in COLLECTOR.into_iter().filter(|part| is_wanted(part)) {
            bench.args(["--only", part]);
        }
        if let Some(events) = events {
            bench.args(["--events", &events.to_string()]);
        }
        cargo::run(&mut bench)?;
    }
    if is_wanted("faults") {
        let programs = binaries::programs(toolchain, "release")?;
        let mut bench = bench("sensor-tests", "faults");
        bench
            .env("SENSOR_BIN", &programs.sensor)
            .env("COLLECTOR_BIN", &programs.collector);
        cargo::run(&mut bench)?;
    }
    Ok(())
}

fn capture(quick: bool, only: &[String]) -> Result<()> {
    if !is_root() {
        return Err(Remedy::error(
            "only root can load kernel programs: run `cargo xtask bench` as root",
        ));
    }
    let toolchain = setup::for_build()?;
    let programs = binaries::programs(toolchain, "release")?;
    let mut bench = cargo::cargo(Some(toolchain));
    bench.args([
        "bench",
        "-p",
        "sensor-tests",
        "--bench",
        "capture",
        "--",
        "--output",
    ]);
    bench.arg(folder()?.join("capture.json"));
    if quick {
        bench.arg("--quick");
    }
    for measurement in only {
        bench.args(["--only", measurement]);
    }
    bench
        .env("SENSOR_BIN", &programs.sensor)
        .env("COLLECTOR_BIN", &programs.collector);
    cargo::run(&mut bench)
}
