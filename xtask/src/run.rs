//! `cargo xtask run`: a collector and the agent on this host, and what happens, line by line.

mod child;
mod summary;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use child::Child;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    binaries::{self, Programs},
    remedy::{Remedy, is_root},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build as for a release, which takes longer.
    #[arg(long)]
    release: bool,
    /// Passed on to `sensor events`; `--json` is short for `-o json`.
    #[arg(last = true)]
    events: Vec<String>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    if !is_root() {
        return Err(Remedy::error(
            "only root can load kernel programs. Run: sudo --preserve-env=PATH,CARGO_HOME,RUSTUP_HOME cargo xtask run",
        ));
    }
    let toolchain = setup::for_build()?;
    let programs = binaries::programs(toolchain, if args.release { "release" } else { "e2e" })?;
    let stop = stop_flag()?;
    let folder = tempfile::Builder::new().prefix("sensor-run-").tempdir()?;
    follow(&programs, folder.path(), &args.events, &stop)
}

/// Ctrl-C sets a flag and no more: the children are in groups of their own and end in order, when the agent's
/// account has been read.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn follow(programs: &Programs, folder: &Path, events: &[String], stop: &AtomicBool) -> Result<()> {
    let mut collector = start_collector(programs, folder)?;
    let address = wait_for("the collector to listen", stop, &mut [&mut collector], || {
        address(folder)
    })?;
    let socket = folder.join("sensor.sock");
    let mut agent = Command::new(&programs.sensor);
    agent
        .arg("run")
        .arg("--socket")
        .arg(&socket)
        .arg("--state")
        .arg(folder.join("state"))
        .args(["--collector", &address]);
    let mut agent = Child::start("sensor run", agent, folder)?;
    let ready = wait_for(
        "the agent to be ready",
        stop,
        &mut [&mut collector, &mut agent],
        || summary::status(&programs.sensor, &socket).ok(),
    )?;
    eprintln!("{}", summary::greeting(&ready));

    let mut reader = Command::new(&programs.sensor);
    reader
        .args(["events", "--collector", &address])
        .args(events_args(events))
        .stdout(Stdio::inherit());
    let mut reader = Child::start("sensor events", reader, folder)?;
    let ended = watch(stop, &mut [&mut collector, &mut agent], &mut reader);

    let status = summary::status(&programs.sensor, &socket);
    for child in [&mut reader, &mut agent, &mut collector] {
        child.stop();
    }
    if let Ok(status) = status {
        eprintln!("\n{}", summary::table(&status));
    }
    ended
}

fn start_collector(programs: &Programs, folder: &Path) -> Result<Child> {
    let mut collector = Command::new(&programs.collector);
    collector
        .args(["serve", "--insecure", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.join("data"));
    collector.arg("--port-file").arg(folder.join("port"));
    Child::start("collector serve", collector, folder)
}

fn address(folder: &Path) -> Option<String> {
    let port: u16 = fs::read_to_string(folder.join("port"))
        .ok()?
        .trim()
        .rsplit(':')
        .next()?
        .parse()
        .ok()?;
    Some(format!("http://127.0.0.1:{port}"))
}

fn events_args(events: &[String]) -> impl Iterator<Item = &str> {
    events.iter().flat_map(|arg| {
        if arg == "--json" {
            vec!["-o", "json"]
        } else {
            vec![arg.as_str()]
        }
    })
}

/// Until Ctrl-C, the end of the reader, or the early death of a child, which is an error.
fn watch(stop: &AtomicBool, children: &mut [&mut Child], reader: &mut Child) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        for child in children.iter_mut() {
            child.check()?;
        }
        if let Some(status) = reader.try_wait()? {
            return if status.success() { Ok(()) } else { reader.check() };
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn wait_for<T>(
    what: &str,
    stop: &AtomicBool,
    children: &mut [&mut Child],
    mut find: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(found) = find() {
            return Ok(found);
        }
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted while waiting for {what}");
        }
        for child in children.iter_mut() {
            child.check()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("waited 30 s for {what}, in vain")
}
