//! What the agent holds in memory after many processes, and whether that grows.

use anyhow::Result;
use sensor_tests::agent::Agent;

use crate::storm;

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) struct Memory {
    /// Resident, in MiB, at the end.
    pub(crate) rss: f64,
    /// The same less what it was in the middle.
    pub(crate) growth: f64,
    pub(crate) lost: u64,
}

pub(crate) fn measure(collector: &str, execs: u32) -> Result<Memory> {
    let mut agent = Agent::start("", Some(collector))?;
    storm::execs(execs / 2)?;
    let middle = agent.status()?.rss_bytes as f64 / MIB;
    storm::execs(execs / 2)?;
    let status = agent.status()?;
    let end = status.rss_bytes as f64 / MIB;
    agent.stop()?;
    let lost = status.accounts.iter().map(|account| account.lost).sum();
    Ok(Memory {
        rss: end,
        growth: end - middle,
        lost,
    })
}
