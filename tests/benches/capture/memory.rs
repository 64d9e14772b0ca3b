//! What the agent holds in memory after many processes, files and connections, and whether that grows.

use anyhow::Result;
use sensor_tests::{
    agent::Agent,
    command::{helper, succeed},
};

use crate::{files::Files, storm};

const MIB: f64 = 1024.0 * 1024.0;

const FORKS_AT_ONCE: u32 = 100_000;

/// How much of everything, before the first look at the agent's memory; a quarter of it again before the second.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) forks: u32,
    pub(crate) execs: u32,
    pub(crate) paths: u32,
    pub(crate) flows: u32,
}

pub(crate) struct Memory {
    /// Resident, in MiB, at the end.
    pub(crate) rss: f64,
    /// The same less what it was at the first look.
    pub(crate) growth: f64,
    /// The most that was ever resident.
    pub(crate) peak: f64,
    pub(crate) lost: u64,
}

pub(crate) fn measure(config: &str, collector: &str, load: Load) -> Result<Memory> {
    let mut agent = Agent::start(config, Some(collector))?;
    let files = Files::new(1)?;
    load.run(&files)?;
    let first = agent.status()?.rss_bytes as f64 / MIB;
    load.quarter().run(&files)?;
    let status = agent.status()?;
    let rss = status.rss_bytes as f64 / MIB;
    agent.stop()?;
    Ok(Memory {
        rss,
        growth: rss - first,
        peak: status.peak_rss_bytes as f64 / MIB,
        lost: status.accounts.iter().map(|account| account.lost).sum(),
    })
}

impl Load {
    fn run(self, files: &Files) -> Result<()> {
        // A few seconds of forks at a time: a helper that runs for a minute is taken for stuck.
        for begun in (0..self.forks).step_by(FORKS_AT_ONCE as usize) {
            let forks = (self.forks - begun).min(FORKS_AT_ONCE);
            succeed(helper("fork-storm")?.arg(forks.to_string()))?;
        }
        storm::execs(self.execs)?;
        files.make_and_remove(self.paths)?;
        storm::distinct_flows(self.flows)
    }

    fn quarter(self) -> Self {
        Self {
            forks: self.forks / 4,
            execs: self.execs / 4,
            paths: self.paths / 4,
            flows: self.flows / 4,
        }
    }
}
