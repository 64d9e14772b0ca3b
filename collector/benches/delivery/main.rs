//! What a collector can take, and how soon it answers: `cargo bench -p collector --bench delivery -- --output FILE`.
//!
//! A collector in a process of its own, on one processor; agents, who only have what they need of one, on the others. Numbers are added to
//! those in FILE. `--events` says how many events queries are asked about (50 million take a quarter of an hour to make).

mod agents;
mod line;
mod load;
mod process;
mod report;

use std::{path::PathBuf, time::Duration};

use clap::Parser;

use self::{load::Load, process::Collector, report::Report};

#[derive(Parser)]
struct Args {
    /// The file with all numbers.
    #[arg(long)]
    output: PathBuf,
    /// A smoke run: its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// Events that queries are asked about.
    #[arg(long, default_value_t = 50_000_000)]
    events: u64,
    /// Only these parts: ingest, agents, query. May be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut report = Report::open(&args.output)?;
    let part = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    if part("ingest") {
        ingest(&mut report, if args.quick { 3 } else { 20 }).await?;
    }
    if part("agents") {
        let (agents, seconds) = if args.quick { (100, 3) } else { (1000, 30) };
        many(&mut report, agents, seconds).await?;
    }
    if part("query") {
        let events = if args.quick { 200_000 } else { args.events };
        query(&mut report, events).await?;
    }
    report.write()
}

/// What a second is wanted to bring, and a tenth more.
const WANTED: f64 = 220_000.0;

/// As much as goes, from 100 connections; then as much as is wanted, and how long that waits.
async fn ingest(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let collector = Collector::start(true)?;
    let load = Load {
        connections: 100,
        rate: None,
        time: Duration::from_secs(seconds),
        events: u64::MAX,
    };
    let result = load::run(&collector.url(), load).await?;
    report.number(
        "ingest_events_per_s",
        result.events as f64 / result.elapsed.as_secs_f64(),
    );
    report.number(
        "saturated_p99_ack_ms",
        result.percentile(0.99).as_secs_f64() * 1e3,
    );
    report.number("saturated_p50_ack_ms", result.percentile(0.5).as_secs_f64() * 1e3);
    report.number("ingest_bytes_per_event", load::bytes_per_event());
    report.number("ingest_rss_mib", collector.memory_mib()?);
    report.number(
        "ingest_collector_cpus",
        collector.cpu_seconds()? / result.elapsed.as_secs_f64(),
    );
    drop(collector);
    let collector = Collector::start(true)?;
    let rate = Some(WANTED);
    let result = load::run(&collector.url(), Load { rate, ..load }).await?;
    report.number(
        "paced_events_per_s",
        result.events as f64 / result.elapsed.as_secs_f64(),
    );
    report.number("p99_ack_ms", result.percentile(0.99).as_secs_f64() * 1e3);
    report.number("p50_ack_ms", result.percentile(0.5).as_secs_f64() * 1e3);
    Ok(())
}

/// Many agents that have little to say.
async fn many(report: &mut Report, agents: u32, seconds: u64) -> anyhow::Result<()> {
    let collector = Collector::start(false)?;
    let result = agents::run(&collector.url(), agents, Duration::from_secs(seconds)).await?;
    report.number("agents", f64::from(agents));
    report.number(
        "agents_events_per_s",
        result.events as f64 / result.elapsed.as_secs_f64(),
    );
    report.number("agents_p99_ack_ms", result.percentile(0.99).as_secs_f64() * 1e3);
    report.number("rss_mib", collector.memory_mib()?);
    report.number(
        "agents_collector_cpus",
        collector.cpu_seconds()? / result.elapsed.as_secs_f64(),
    );
    Ok(())
}

/// Two questions about many events.
async fn query(report: &mut Report, events: u64) -> anyhow::Result<()> {
    let collector = Collector::start(false)?;
    let load = Load {
        connections: 20,
        rate: None,
        time: Duration::from_secs(86_400),
        events,
    };
    let result = load::run(&collector.url(), load).await?;
    collector.settle(result.events)?;
    report.number("query_events", result.events as f64);
    report.number(
        "lake_bytes_per_event",
        collector.lake_bytes()? as f64 / result.events as f64,
    );
    report.number("lake_files", collector.lake_files()? as f64);
    let by_executable = collector
        .ask("select executable, count(*) as n from events group by executable order by n desc limit 10")
        .await?;
    report.number("query_ms", by_executable.as_secs_f64() * 1e3);
    let story = collector
        .ask(&format!(
            "select time, signal, path, arguments from events where host = 'host7' and process = '{}' order by time",
            load::A_PROCESS
        ))
        .await?;
    report.number("story_ms", story.as_secs_f64() * 1e3);
    let anywhere = collector
        .ask(&format!(
            "select count(*) from events where process = '{}'",
            load::RARE_PROCESS
        ))
        .await?;
    report.number("story_of_any_host_ms", anywhere.as_secs_f64() * 1e3);
    report.number("query_rss_mib", collector.memory_mib()?);
    Ok(())
}
