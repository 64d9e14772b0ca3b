//! How many events a second go through to a subscriber with none lost, and what each costs the agent.
//!
//! Two threads open files for writing, each another one, and start a program for each [`OPENS_FOR_EXEC`] of them. They keep to
//! a pace, which is raised until something is lost or they cannot keep it, and then narrowed down.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use prost::bytes::Bytes;
use sensor_proto::v1::{Filter, SubscribeRequest};
use sensor_tests::{agent::Agent, client, patience::patience};
use tokio::task::JoinHandle;
use tonic::codegen::http::uri::PathAndQuery;

use crate::files::Files;

const THREADS: u32 = 2;
const OPENS_FOR_EXEC: u32 = 1_000;
const TICK: Duration = Duration::from_millis(1);
/// Between the highest pace that was kept and the lowest that was not.
const NARROWINGS: usize = 4;

/// One run at one pace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Events that were delivered in a second.
    pub(crate) rate: f64,
    /// Microseconds of the agent's processor time for each.
    pub(crate) cpu_us: f64,
    /// Lost in the rings or before the subscriber.
    pub(crate) lost: u64,
    /// The load kept its pace.
    kept: bool,
}

/// How many files the load opens in a second if nobody looks and nothing slows it down: more events there cannot be.
pub(crate) fn alone(files: u32, seconds: f64) -> Result<f64> {
    let files = make(files)?;
    let began = Instant::now();
    let opened = AtomicU64::new(0);
    for_each(&files, |mut opener| {
        while began.elapsed().as_secs_f64() < seconds {
            opener.open(100)?;
            opened.fetch_add(100, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(opened.into_inner() as f64 / began.elapsed().as_secs_f64())
}

fn make(files: u32) -> Result<Vec<Files>> {
    (0..THREADS).map(|_| Files::new(files / THREADS)).collect()
}

/// The best run without a loss.
pub(crate) fn measure(config: &str, files: u32, seconds: f64) -> Result<Run> {
    let files = make(files)?;
    let mut best = None;
    let mut pace = 20_000.0;
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut narrowings = 0;
    while narrowings < NARROWINGS {
        let run = run_at(pace, config, &files, seconds)?;
        eprintln!(
            "  {pace:.0} opens/s wanted: {:.0} events/s, {:.2} us of the agent each, {} lost",
            run.rate, run.cpu_us, run.lost
        );
        if run.lost == 0 && best.is_none_or(|best: Run| best.rate < run.rate) {
            best = Some(run);
        }
        if run.lost == 0 && run.kept {
            low = pace;
        } else {
            high = pace;
        }
        pace = if high.is_finite() {
            narrowings += 1;
            f64::midpoint(low, high)
        } else {
            pace * 1.6
        };
    }
    best.context("events were lost at every pace")
}

fn run_at(pace: f64, config: &str, files: &[Files], seconds: f64) -> Result<Run> {
    let mut agent = Agent::start(config, None)?;
    let subscriber = Subscriber::new(&agent.socket())?;
    // What the start of the agent itself brought is none of the load's.
    thread::sleep(Duration::from_millis(100));
    let (before, cpu_before, got_before) = (delivered(&agent)?, cpu(agent.pid())?, subscriber.got());
    let began = Instant::now();
    let kept = load(pace, files, seconds)?;
    let took = began.elapsed().as_secs_f64();
    let wanted = || Ok::<u64, anyhow::Error>(got_before + delivered(&agent)? - before);
    let deadline = Instant::now() + patience(5);
    while subscriber.got() + subscriber.dropped() < wanted()? && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    let count = (delivered(&agent)? - before) as f64;
    let cpu_us = (cpu(agent.pid())? - cpu_before) * 1e6 / count;
    let lost: u64 = agent.status()?.accounts.iter().map(|account| account.lost).sum();
    agent.stop()?;
    Ok(Run {
        rate: count / took,
        cpu_us,
        lost: lost + subscriber.dropped(),
        kept,
    })
}

/// Whether the pace was kept.
fn load(pace: f64, files: &[Files], seconds: f64) -> Result<bool> {
    let ticks = (seconds / TICK.as_secs_f64()) as u32;
    let opens = (pace * TICK.as_secs_f64() / f64::from(THREADS)).round() as u32;
    let began = Instant::now();
    for_each(files, |opener| opener.run(ticks, opens))?;
    Ok(began.elapsed().as_secs_f64() < seconds * 1.05)
}

/// A thread for each set of files.
fn for_each(files: &[Files], work: impl Fn(Opener<'_>) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = files
            .iter()
            .map(|files| {
                let (work, opener) = (&work, Opener::new(files));
                scope.spawn(move || work(opener))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the load has ended in a panic")))
        })
    })
}

struct Opener<'a> {
    files: &'a Files,
    opened: u32,
}

impl<'a> Opener<'a> {
    fn new(files: &'a Files) -> Self {
        Self { files, opened: 0 }
    }

    fn open(&mut self, opens: u32) -> Result<()> {
        for _ in 0..opens {
            self.files.open_number(self.opened)?;
            self.opened += 1;
            if self.opened.is_multiple_of(OPENS_FOR_EXEC) {
                Command::new("/bin/true").status()?;
            }
        }
        Ok(())
    }

    fn run(mut self, ticks: u32, opens: u32) -> Result<()> {
        let mut next = Instant::now();
        for _ in 0..ticks {
            self.open(opens)?;
            next += TICK;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }
}

fn delivered(agent: &Agent) -> Result<u64> {
    Ok(agent
        .status()?
        .accounts
        .iter()
        .map(|account| account.delivered)
        .sum())
}

/// Seconds of processor time of process `pid`.
fn cpu(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("a process without a name")?;
    // User and system time are the 12th and 13th field behind the name.
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<_, _>>()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A response of which nothing is read but what is counted.
#[derive(Clone, PartialEq, prost::Message)]
struct Unread {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    entries: Vec<Bytes>,
    #[prost(uint64, tag = "2")]
    dropped: u64,
}

/// Reads everything and keeps nothing.
struct Subscriber {
    counts: Arc<[AtomicU64; 2]>,
    reader: JoinHandle<()>,
}

impl Subscriber {
    fn new(socket: &Path) -> Result<Self> {
        let channel = client::connect_unix(socket)?;
        let mut responses = client::wait(async move {
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.context("the agent is not ready")?;
            let request = SubscribeRequest {
                filter: Some(Filter::default()),
                ..SubscribeRequest::default()
            };
            let path = PathAndQuery::from_static("/sensor.v1.Agent/Subscribe");
            let codec = tonic_prost::ProstCodec::<SubscribeRequest, Unread>::default();
            let responses = grpc
                .server_streaming(tonic::Request::new(request), path, codec)
                .await?;
            anyhow::Ok(responses.into_inner())
        })??;
        let counts = Arc::<[AtomicU64; 2]>::default();
        let counted = Arc::clone(&counts);
        let reader = client::runtime().spawn(async move {
            while let Ok(Some(response)) = responses.message().await {
                counted[0].fetch_add(response.entries.len() as u64, Ordering::Relaxed);
                counted[1].fetch_add(response.dropped, Ordering::Relaxed);
            }
        });
        Ok(Self { counts, reader })
    }

    fn got(&self) -> u64 {
        self.counts[0].load(Ordering::Relaxed)
    }

    fn dropped(&self) -> u64 {
        self.counts[1].load(Ordering::Relaxed)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
