//! What the spool takes: `cargo xtask bench delivery` builds and runs this.
//!
//! Events as a busy host has them go the whole way from the hub to the disk, with a collector that is away: converted, packed, compressed,
//! committed. The time is that from the first to the spool's being closed; the bytes are those of the database then.

mod events;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use sensor::export::{Converter, Entry, Hub, Spool, Uplink, UplinkConfig, Users};
use serde_json::{Map, Value};

#[derive(Parser)]
struct Args {
    /// Where the numbers go, as JSON; those that are there under other names stay.
    #[arg(long)]
    output: PathBuf,
    /// A smoke run: its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// Where the spool is put while it is measured; on the disk that is meant.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Events that are published at once, as by a turn of the pipeline.
const TURN: usize = 256;

/// How many times it is measured; the median counts.
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let args = Args::parse();
    let (count, rounds) = if args.quick {
        (50_000, 1)
    } else {
        (1_000_000, ROUNDS)
    };
    let events = events::of_a_busy_host(count);
    fs::create_dir_all(&args.folder)?;
    let mut rates = Vec::new();
    let mut bytes = 0.0;
    for _ in 0..rounds {
        let home = tempfile::tempdir_in(&args.folder)?;
        let path = home.path().join("spool.db");
        let begin = Instant::now();
        spool(&events, &path)?;
        rates.push(count as f64 / begin.elapsed().as_secs_f64());
        bytes = fs::metadata(&path)?.len() as f64 / count as f64;
    }
    rates.sort_by(f64::total_cmp);
    let rate = rates[rates.len() / 2];
    println!(
        "spool_events_per_s: {rate:.0} ({:.0} to {:.0}; wanted: at least 100000)",
        rates[0],
        rates[rates.len() - 1]
    );
    println!("spool_bytes_per_event: {bytes:.1} (wanted: at most 40)");
    let mut numbers = read(&args.output);
    numbers.insert("spool_events_per_s".into(), rate.round().into());
    numbers.insert(
        "spool_bytes_per_event".into(),
        ((bytes * 10.0).round() / 10.0).into(),
    );
    let text = serde_json::to_string_pretty(&numbers)?;
    fs::write(&args.output, text + "\n").with_context(|| format!("could not write {}", args.output.display()))
}

fn spool(events: &[Entry], path: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let hub = Hub::default();
    let converter = Converter::new("web1", Arc::new(Users::default()));
    // Nobody listens there.
    let mut config = UplinkConfig::new("http://127.0.0.1:1", 7);
    config.flush = Duration::ZERO;
    let place = path.to_owned();
    let open = move || Spool::open(&place, 4 << 30);
    let uplink = Uplink::new(config, &hub, converter, open, Arc::new(|_| {}))?;
    let monitor = uplink.monitor();
    let running = runtime.spawn(uplink.run());
    for turn in events.chunks(TURN) {
        // What is measured is how fast it goes, not how much is lost when it does not.
        while hub.publish(&[]) > 0.5 {
            std::thread::sleep(Duration::from_micros(200));
        }
        hub.publish(turn);
    }
    hub.close();
    runtime.block_on(running)?;
    let status = monitor.status();
    ensure!(
        status.entries_shed == 0,
        "{} entries were shed",
        status.entries_shed
    );
    ensure!(
        status.degraded.is_empty(),
        "the spool was not on disk: {}",
        status.degraded
    );
    Ok(())
}

fn read(path: &Path) -> Map<String, Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
