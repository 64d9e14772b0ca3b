//! How long an event takes from the kernel to a reader of the agent's socket.

use std::{
    process::{Child, Command},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use sensor_proto::v1::{Filter, SubscribeResponse};
use sensor_tests::{
    agent::Agent,
    client,
    command::marker,
    history::events,
    patience::{patience, wait_for},
    stream,
};

/// Between the starts of two programs.
const PACE: Duration = Duration::from_millis(1);

/// In microseconds.
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Programs that were really started in a second.
    pub(crate) rate: f64,
}

pub(crate) fn measure(config: &str, collector: &str, execs: u32) -> Result<Latency> {
    let mut agent = Agent::start(config, Some(collector))?;
    let filter = Filter {
        signals: vec!["exec".into()],
        ..Filter::default()
    };
    let mut responses = stream::unread(&agent.socket(), filter)?;
    let marker = marker();
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let (found, wanted) = (Arc::clone(&latencies), marker.clone());
    let reader = client::runtime().spawn(async move {
        while let Ok(Some(response)) = responses.message().await {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(of(&response, &wanted, now()));
        }
    });

    let began = Instant::now();
    start_paced(&marker, execs)?;
    let rate = f64::from(execs) / began.elapsed().as_secs_f64();
    let mut latencies = wait_for("all execs", patience(10), || {
        let found = latencies.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((found.len() >= execs as usize).then(|| found.clone()))
    })?;
    reader.abort();
    agent.stop()?;
    latencies.sort_unstable();
    ensure!(!latencies.is_empty(), "no exec has come");
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100] as f64 / 1000.0;
    Ok(Latency {
        p50: at(50),
        p99: at(99),
        rate,
    })
}

fn start_paced(marker: &str, execs: u32) -> Result<()> {
    let mut children: Vec<Child> = Vec::new();
    let mut next = Instant::now();
    for _ in 0..execs {
        children.push(Command::new("/bin/true").arg(marker).spawn()?);
        children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        next += PACE;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

/// Nanoseconds from each of our execs to `now`.
fn of(response: &SubscribeResponse, marker: &str, now: u64) -> Vec<u64> {
    let ours = events(&response.entries).filter(|event| {
        event
            .process
            .as_ref()
            .is_some_and(|process| process.args.last().is_some_and(|arg| arg == marker))
    });
    ours.map(|event| now.saturating_sub(event.boot_time_ns)).collect()
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
