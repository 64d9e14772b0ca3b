//! Time with the agent ÷ time without.

use std::{ffi::CStr, time::Duration};

use anyhow::Result;
use sensor_tests::{agent::Agent, bpf::Empty};

/// What half of the legs run beside.
#[derive(Clone, Copy)]
pub(crate) enum Beside<'a> {
    /// The agent with this configuration, which delivers to the collector at this address.
    Agent(&'a str, &'a str),
    /// Programs that do nothing, at these tracepoints: what nobody who looks there can do without.
    EmptyPrograms(&'a [&'a CStr]),
}

/// Ratios of pairs, and what was lost in the legs with the agent.
#[derive(Default)]
pub(crate) struct Overhead {
    pub(crate) ratios: Vec<f64>,
    pub(crate) lost: u64,
    /// Entries that did not fit into the queue to the collector.
    pub(crate) shed: u64,
}

impl Overhead {
    pub(crate) fn median(&self) -> f64 {
        median(&self.ratios)
    }

    /// Largest minus smallest.
    pub(crate) fn spread(&self) -> f64 {
        let (low, high) = self.range();
        high - low
    }

    pub(crate) fn range(&self) -> (f64, f64) {
        range(&self.ratios)
    }
}

/// Every other pair begins with the agent, so that a drift of the machine cancels out. Each leg begins with a third of its load
/// that is not counted: caches are as cold for one as for the other, and an agent that has just started is not what is asked for.
pub(crate) fn measure(
    beside: Beside<'_>,
    pairs: usize,
    count: u32,
    run: impl Fn(u8, u32) -> Result<Duration>,
) -> Result<Overhead> {
    let load = |leg| {
        run(leg, count / 3)?;
        run(leg, count)
    };
    let mut overhead = Overhead::default();
    let mut leg = 1;
    // Warms caches; its time is nobody's.
    load(leg)?;
    for pair in 0..pairs {
        let mut times = [Duration::ZERO; 2];
        let order = if pair % 2 == 0 {
            [false, true]
        } else {
            [true, false]
        };
        for with in order {
            leg += 1;
            times[usize::from(with)] = if with {
                overhead.run_beside(beside, || load(leg))?
            } else {
                load(leg)?
            };
        }
        let ratio = times[1].as_secs_f64() / times[0].as_secs_f64();
        eprintln!(
            "  pair {}: {:.2?} without, {:.2?} with: {ratio:.3}",
            pair + 1,
            times[0],
            times[1]
        );
        overhead.ratios.push(ratio);
    }
    Ok(overhead)
}

impl Overhead {
    fn run_beside(&mut self, beside: Beside<'_>, load: impl Fn() -> Result<Duration>) -> Result<Duration> {
        let (config, collector) = match beside {
            Beside::Agent(config, collector) => (config, collector),
            Beside::EmptyPrograms(tracepoints) => {
                let programs: Vec<_> = tracepoints
                    .iter()
                    .map(|tracepoint| Empty::attach(tracepoint))
                    .collect::<Result<_>>()?;
                let time = load();
                drop(programs);
                return time;
            }
        };
        let mut agent = Agent::start(config, Some(collector))?;
        let time = load()?;
        let status = agent.status()?;
        self.lost += status.accounts.iter().map(|account| account.lost).sum::<u64>();
        self.shed += status.uplink.unwrap_or_default().entries_shed;
        agent.stop()?;
        Ok(time)
    }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// Smallest and largest.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    let fold = |pick: fn(f64, f64) -> f64, from| values.iter().copied().fold(from, pick);
    (fold(f64::min, f64::INFINITY), fold(f64::max, f64::NEG_INFINITY))
}
