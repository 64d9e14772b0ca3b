//! The numbers, for people and for programs.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{latency::Latency, memory::Memory, overhead::Overhead};

/// The keys of the JSON file are the names of the fields, and others compare them: they stay.
#[derive(Serialize)]
pub(crate) struct Report {
    exec_overhead: f64,
    exec_overhead_spread: f64,
    connect_overhead: f64,
    connect_overhead_spread: f64,
    pairs: usize,
    lost: u64,
    rss_mib: f64,
    rss_growth_mib: f64,
    latency_us_p50: f64,
    latency_us_p99: f64,
    #[serde(skip)]
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(
        pairs: usize,
        exec: &Overhead,
        connect: &Overhead,
        memory: &Memory,
        latency: &Latency,
    ) -> Self {
        let range = |name: &str, overhead: &Overhead| {
            let (low, high) = overhead.range();
            format!(
                "{name}: {low:.3} to {high:.3}; {} entries shed before the collector",
                overhead.shed
            )
        };
        Self {
            exec_overhead: exec.median(),
            exec_overhead_spread: exec.spread(),
            connect_overhead: connect.median(),
            connect_overhead_spread: connect.spread(),
            pairs,
            lost: exec.lost + connect.lost + memory.lost,
            rss_mib: memory.rss,
            rss_growth_mib: memory.growth,
            latency_us_p50: latency.p50,
            latency_us_p99: latency.p99,
            notes: vec![
                range("exec overhead", exec),
                range("connect overhead", connect),
                format!("latency was measured at {:.0} execs a second", latency.rate),
            ],
        }
    }

    /// Each number with the limit that it is held to, where there is one.
    pub(crate) fn table(&self) -> String {
        let rows: [(&str, f64, &str); 7] = [
            ("exec_overhead", self.exec_overhead, "at most 1.05"),
            ("connect_overhead", self.connect_overhead, "at most 1.12"),
            ("lost", self.lost as f64, "0"),
            ("rss_mib", self.rss_mib, "at most 40"),
            ("rss_growth_mib", self.rss_growth_mib, "at most 2"),
            ("latency_us_p50", self.latency_us_p50, ""),
            ("latency_us_p99", self.latency_us_p99, ""),
        ];
        let mut text = format!("{:<18}{:>12}  wanted\n", "measure", "value");
        for (name, value, wanted) in rows {
            let _ = writeln!(
                text,
                "{}",
                format!("{name:<18}{value:>12.3}  {wanted}").trim_end()
            );
        }
        let _ = write!(text, "{} pairs; {}", self.pairs, self.notes.join("\n"));
        text
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| format!("could not write {}", path.display()))
    }
}
