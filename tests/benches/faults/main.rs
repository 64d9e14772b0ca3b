//! What is left of an agent's and a collector's account when all that can break does, again and again: `cargo xtask bench delivery` builds and runs this.
//!
//! An agent on this host delivers over TLS to a collector in a network namespace, by a wire of its own. Programs with numbers are started all the time; in
//! each round one thing breaks: either of the two is killed, the wire is cut, slowed or shuffles packets, the collector's end goes away while the wire is cut, its disk is
//! full. What was acknowledged must be in the lake exactly once; how often it is not are `lost_acked` and `duplicates`.

mod disk;

use std::{
    collections::HashMap, fs, ops::Range, path::PathBuf, process::Command, thread::sleep, time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use disk::Disk;
use sensor_tests::{
    agent::Agent,
    collector::Collector,
    command::{marker, succeed},
    helper,
    numbers::Numbers,
    patience::{patience, wait_for},
    wire::Wire,
};

#[derive(Parser)]
struct Args {
    /// Where the numbers go, as JSON. What is there already and not measured here stays.
    #[arg(long)]
    output: PathBuf,
    /// A smoke run: its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// Rounds, where not 200.
    #[arg(long)]
    rounds: Option<u32>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    if let Some(result) = helper::play() {
        return result;
    }
    let args = Args::parse();
    let rounds = args.rounds.unwrap_or(if args.quick { 12 } else { 200 });
    let mut suite = Suite::new()?;
    for round in 0..rounds {
        let fault = Fault::ALL[suite.random.usize(..Fault::ALL.len())];
        suite
            .round(fault)
            .with_context(|| format!("round {round}: {fault:?}\n{}", suite.agent.daemon().messages()))?;
    }
    let outcome = suite.end()?;
    println!("{rounds} rounds: {outcome:?}");
    let mut numbers = Numbers::read(&args.output);
    numbers.put("fault_rounds", rounds);
    numbers.put("lost_acked", outcome.lost);
    numbers.put("duplicates", outcome.duplicates);
    numbers.put("fault_marks_acked", outcome.acknowledged);
    numbers.put("fault_segments_out_of_order", outcome.out_of_order);
    numbers.put("fault_agent_rss_mib", outcome.agent_mib);
    numbers.put("fault_collector_rss_mib", outcome.collector_mib);
    numbers.write(&args.output)
}

/// What breaks.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The collector is killed, and is back at once.
    Collector,
    /// The agent is killed.
    Agent,
    /// The wire carries nothing for a while.
    Cut,
    /// The wire carries little for a while.
    Slow,
    /// The wire carries some packets before others that were sent earlier.
    Shuffled,
    /// The collector is killed while the wire is cut: the agent's connection has no other end any more, and nobody tells it.
    HalfOpen,
    /// The collector's disk is full for a while.
    DiskFull,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::Collector,
        Self::Agent,
        Self::Cut,
        Self::Slow,
        Self::Shuffled,
        Self::HalfOpen,
        Self::DiskFull,
    ];
}

/// Programs that are started in a round.
const MARKS: u64 = 24;

struct Suite {
    random: fastrand::Rng,
    agent: Agent,
    collector: Collector,
    wire: Wire,
    disk: Disk,
    /// What the agent is started with again.
    config: String,
    mark: String,
    /// The number of the next program.
    next: u64,
    /// The first that the agent had not delivered for certain when it was looked at last.
    open: u64,
    /// Programs that an agent was killed over: they may be anywhere.
    unknown: Vec<Range<u64>>,
    agent_kib: u64,
    collector_kib: u64,
}

#[derive(Debug)]
struct Outcome {
    acknowledged: u64,
    lost: u64,
    duplicates: u64,
    /// Segments that the collector's end put back in order.
    out_of_order: u64,
    agent_mib: u64,
    collector_mib: u64,
}

impl Suite {
    fn new() -> Result<Self> {
        let wire = Wire::new()?;
        let disk = Disk::new()?;
        let collector = Collector::start_in(&wire.namespace, wire.far, tempfile::tempdir_in(disk.path())?)?;
        let agent = Agent::start_enrolled("", &collector, HOST)?;
        let config = format!(
            "[host]\nname = \"{HOST}\"\n[uplink]\ncollector = \"{}\"\n",
            collector.address()
        );
        Ok(Self {
            random: fastrand::Rng::with_seed(0x5e45),
            agent,
            collector,
            wire,
            disk,
            config,
            mark: marker(),
            next: 0,
            open: 0,
            unknown: Vec::new(),
            agent_kib: 0,
            collector_kib: 0,
        })
    }

    fn round(&mut self, fault: Fault) -> Result<()> {
        if matches!(fault, Fault::Agent) {
            self.drain()?;
        }
        let breaks = self.random.u64(..MARKS / 2);
        let mends = breaks + 1 + self.random.u64(..MARKS / 2);
        for number in 0..MARKS {
            if number == breaks {
                self.break_it(fault)?;
            }
            if number == mends {
                self.mend(fault)?;
            }
            let mark = format!("{}-{}", self.mark, self.next);
            succeed(Command::new("/bin/true").arg(mark))?;
            self.next += 1;
            sleep(Duration::from_millis(self.random.u64(..30)));
        }
        self.agent_kib = self.agent_kib.max(resident(self.agent.pid())?);
        self.collector_kib = self.collector_kib.max(resident(self.collector.daemon().pid())?);
        Ok(())
    }

    fn break_it(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Collector => self.collector.crash_and_restart(),
            Fault::Agent => {
                self.agent.revive(&self.config)?;
                self.unknown.push(self.open..self.next);
                self.open = self.next;
                Ok(())
            }
            Fault::Cut => self.wire.cut(),
            Fault::Slow => self.wire.slow(),
            Fault::Shuffled => self.wire.shuffle(),
            Fault::HalfOpen => {
                self.wire.cut()?;
                self.collector.crash_and_restart()
            }
            Fault::DiskFull => self.disk.fill(),
        }
    }

    fn mend(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Collector | Fault::Agent => Ok(()),
            Fault::Cut | Fault::HalfOpen => self.wire.mend(),
            Fault::Slow | Fault::Shuffled => self.wire.hurry(),
            Fault::DiskFull => self.disk.empty(),
        }
    }

    /// Waits until the collector has acknowledged every program so far.
    fn drain(&mut self) -> Result<()> {
        // What has happened is in the agent's queue by then, and what is in its queue in a batch that is counted.
        self.agent.settled()?;
        sleep(Duration::from_secs(1));
        wait_for("all to be acknowledged", patience(120), || {
            let uplink = self.agent.status()?.uplink.unwrap_or_default();
            Ok((uplink.connected && uplink.batches_waiting == 0).then_some(()))
        })?;
        self.open = self.next;
        Ok(())
    }

    fn end(mut self) -> Result<Outcome> {
        self.drain()?;
        self.agent.nothing_lost()?;
        self.agent.stop()?;
        let out_of_order = self.wire.out_of_order()?;
        self.collector.daemon().stop_within(30)?;
        let stored = self.stored()?;
        let is_unknown = |number: &u64| self.unknown.iter().any(|range| range.contains(number));
        let acknowledged: Vec<u64> = (0..self.next).filter(|number| !is_unknown(number)).collect();
        Ok(Outcome {
            acknowledged: acknowledged.len() as u64,
            lost: acknowledged
                .iter()
                .filter(|number| !stored.contains_key(number))
                .count() as u64,
            out_of_order,
            duplicates: stored.values().map(|count| count - 1).sum(),
            agent_mib: self.agent_kib / 1024,
            collector_mib: self.collector_kib / 1024,
        })
    }

    /// How often each program is in the lake.
    fn stored(&self) -> Result<HashMap<u64, u64>> {
        let rows = self.collector.query(&format!(
            "select arguments, count(*) as n from events where signal = 'exec' and arguments like '%{}-%' group by arguments",
            self.mark
        ))?;
        let mut stored = HashMap::new();
        for row in rows.lines() {
            let row: serde_json::Value = serde_json::from_str(row)?;
            let number = row["arguments"].as_str().and_then(|text| text.rsplit('-').next());
            let number = number.and_then(|number| number.parse().ok());
            let (Some(number), Some(count)) = (number, row["n"].as_u64()) else {
                bail!("a row without a number: {row}");
            };
            stored.insert(number, count);
        }
        ensure!(!stored.is_empty(), "nothing is in the lake");
        Ok(stored)
    }
}

const HOST: &str = "faults";

/// KiB of memory of a process.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).context("no VmRSS")
}
