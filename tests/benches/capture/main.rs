//! What capture costs: `cargo xtask bench capture` builds and runs this.
//!
//! Time is measured with and without the agent in turns, so that what else the machine does falls on both sides alike;
//! the result is the median of the pairs' ratios.

mod calls;
mod files;
mod latency;
mod memory;
mod overhead;
mod rate;
mod report;
mod storm;

use std::{cell::OnceCell, ffi::CStr, path::PathBuf};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use files::Files;
use overhead::{Beside, median, range};
use report::Report;
use rustix::process::setpriority_process;
use sensor_tests::{agent::Agent, collector::Collector, helper};

/// Every signal that there is by default.
const CONFIG: &str = "[capture]\ncalls = true\n";

/// The same, and whoever runs this is profiled.
const PROFILED: &str = "[capture]\ncalls = true\nsequences = \"on\"\n";

#[derive(Parser)]
struct Args {
    /// Where the numbers go, as JSON: those that were measured.
    #[arg(long)]
    output: PathBuf,
    /// A smoke run: its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// Only this measurement; may be given several times.
    #[arg(long)]
    only: Vec<Measurement>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Measurement {
    /// Programs, one after the other.
    Exec,
    /// TCP connections.
    Connect,
    /// One file, opened for writing.
    Open,
    /// Files, opened for writing, each another one.
    OpenDistinct,
    /// Compiling a Rust library.
    Build,
    /// A trivial system call.
    Syscall,
    /// Events that go through without a loss.
    Rate,
    /// Resident memory.
    Memory,
    /// From the kernel to a reader.
    Latency,
    /// Loading the kernel programs.
    Loader,
}

/// How much of everything.
struct Size {
    pairs: usize,
    execs: u32,
    connects: u32,
    opens: u32,
    opens_distinct: u32,
    build_pairs: usize,
    rounds: usize,
    rate_files: u32,
    rate_seconds: f64,
    memory: memory::Load,
    execs_for_latency: u32,
    loads: usize,
}

const FULL: Size = Size {
    pairs: 21,
    execs: 1000,
    connects: 6000,
    opens: 400_000,
    opens_distinct: 150_000,
    build_pairs: 7,
    rounds: 15,
    rate_files: 600_000,
    rate_seconds: 1.5,
    memory: memory::Load {
        forks: 1_000_000,
        execs: 20_000,
        paths: 1_000_000,
        flows: 200_000,
    },
    execs_for_latency: 10_000,
    loads: 9,
};
const QUICK: Size = Size {
    pairs: 2,
    execs: 300,
    connects: 500,
    opens: 30_000,
    opens_distinct: 30_000,
    build_pairs: 1,
    rounds: 2,
    rate_files: 60_000,
    rate_seconds: 0.3,
    memory: memory::Load {
        forks: 5_000,
        execs: 2_000,
        paths: 20_000,
        flows: 4_000,
    },
    execs_for_latency: 1000,
    loads: 2,
};

fn main() -> Result<()> {
    if let Some(result) = helper::play() {
        return result;
    }
    let args = Args::parse();
    let mut bench = Bench {
        size: if args.quick { QUICK } else { FULL },
        collector: OnceCell::new(),
        report: Report::default(),
    };
    let all = Measurement::value_variants();
    let chosen = if args.only.is_empty() { all } else { &args.only };
    for measurement in chosen {
        bench.run(*measurement)?;
    }
    println!("{}", bench.report.table());
    bench.report.write(&args.output)
}

struct Bench {
    size: Size,
    collector: OnceCell<Collector>,
    report: Report,
}

impl Bench {
    fn run(&mut self, measurement: Measurement) -> Result<()> {
        eprintln!("{measurement:?}");
        match measurement {
            Measurement::Exec => self.exec(),
            Measurement::Connect => self.connect(),
            Measurement::Open => self.open(),
            Measurement::OpenDistinct => self.open_distinct(),
            Measurement::Build => self.build(),
            Measurement::Syscall => self.syscall(),
            Measurement::Rate => self.rate(),
            Measurement::Memory => self.memory(),
            Measurement::Latency => self.latency(),
            Measurement::Loader => self.loader(),
        }
    }

    /// The address of a collector, which is started when it is first asked for.
    fn collector(&self) -> Result<String> {
        if self.collector.get().is_none() {
            // It belongs on another machine: here it takes what the others leave.
            setpriority_process(None, 19)?;
            let collector = Collector::start();
            setpriority_process(None, 0)?;
            let _ = self.collector.set(collector?);
        }
        Ok(self.collector.get().map(Collector::address).unwrap_or_default())
    }

    fn overhead(
        &mut self,
        key: &str,
        wanted: &'static str,
        count: u32,
        run: impl Fn(u8, u32) -> Result<std::time::Duration>,
    ) -> Result<()> {
        let collector = self.collector()?;
        let beside = Beside::Agent(CONFIG, &collector);
        let overhead = overhead::measure(beside, self.size.pairs, count, run)?;
        self.report.add_overhead(key, &overhead, wanted);
        Ok(())
    }

    /// The same beside programs that do nothing on the hooks where ours work.
    fn limit(
        &mut self,
        key: &str,
        hooks: &[&CStr],
        count: u32,
        run: impl Fn(u8, u32) -> Result<std::time::Duration>,
    ) -> Result<()> {
        let overhead = overhead::measure(Beside::EmptyPrograms(hooks), self.size.pairs, count, run)?;
        self.report
            .add_overhead(key, &overhead, "empty programs on the same hooks");
        Ok(())
    }

    fn exec(&mut self) -> Result<()> {
        let run = |_, count| storm::execs(count);
        self.overhead("exec_overhead", "at most 1.05", self.size.execs, run)?;
        let hooks = [
            c"sys_exit",
            c"sched_process_fork",
            c"sched_process_exec",
            c"sched_process_exit",
        ];
        self.limit("exec_limit", &hooks, self.size.execs, run)
    }

    fn connect(&mut self) -> Result<()> {
        self.overhead(
            "connect_overhead",
            "at most 1.06",
            self.size.connects,
            storm::connects,
        )?;
        let hooks = [c"sys_exit", c"inet_sock_set_state"];
        self.limit("connect_limit", &hooks, self.size.connects, storm::connects)
    }

    fn open(&mut self) -> Result<()> {
        let files = Files::new(1)?;
        let run = |_, count| files.open_one(count);
        self.overhead("open_overhead", "at most 1.12", self.size.opens, run)?;
        self.limit("open_limit", &[c"sys_exit"], self.size.opens, run)
    }

    fn open_distinct(&mut self) -> Result<()> {
        let count = self.size.opens_distinct;
        // No file twice in the life of an agent.
        let files = Files::new(count + count / 3)?;
        let run = |_, count| files.open_next(count);
        self.overhead("open_distinct_overhead", "at most 1.35", count, run)?;
        self.limit("open_distinct_limit", &[c"sys_exit"], count, run)
    }

    fn build(&mut self) -> Result<()> {
        let collector = self.collector()?;
        let beside = Beside::Agent(CONFIG, &collector);
        let overhead = overhead::measure(beside, self.size.build_pairs, 1, |_, count| storm::builds(count))?;
        self.report
            .add_overhead("build_overhead", &overhead, "at most 1.02");
        Ok(())
    }

    fn syscall(&mut self) -> Result<()> {
        let costs = calls::measure(self.size.rounds, CONFIG, PROFILED)?;
        for (key, values, wanted) in [
            ("syscall_noop_ns", &costs.noop, "an empty program"),
            ("syscall_idle_ns", &costs.idle, "at most syscall_noop_ns + 15"),
            (
                "syscall_profiled_ns",
                &costs.profiled,
                "at most syscall_noop_ns + 120",
            ),
        ] {
            let (low, high) = range(values);
            self.report.add(key, median(values), wanted);
            self.report.note(format!("{key}: {low:.0} to {high:.0}"));
        }
        let bare = median(&costs.bare);
        self.report
            .note(format!("a system call takes {bare:.0} ns without any program"));
        Ok(())
    }

    fn rate(&mut self) -> Result<()> {
        let alone = rate::alone(self.size.rate_files, self.size.rate_seconds)?;
        self.report.add(
            "load_limit",
            alone,
            "what the load opens in a second without anybody looking",
        );
        let run = rate::measure(CONFIG, self.size.rate_files, self.size.rate_seconds)?;
        self.report.add("drop_free_rate", run.rate, "at least 350,000");
        self.report
            .add("agent_cpu_us_per_event", run.cpu_us, "at most 1.0");
        Ok(())
    }

    fn memory(&mut self) -> Result<()> {
        let memory = memory::measure(CONFIG, &self.collector()?, self.size.memory)?;
        self.report.add("rss_mib", memory.rss, "at most 48");
        self.report.add("rss_growth_mib", memory.growth, "at most 2");
        self.report
            .note(format!("at most {:.1} MiB were resident", memory.peak));
        self.report.add_lost(memory.lost);
        Ok(())
    }

    fn latency(&mut self) -> Result<()> {
        let latency = latency::measure(CONFIG, &self.collector()?, self.size.execs_for_latency)?;
        self.report.add("latency_us_p50", latency.p50, "");
        self.report.add("latency_us_p99", latency.p99, "");
        self.report.note(format!(
            "latency was measured at {:.0} execs a second",
            latency.rate
        ));
        Ok(())
    }

    fn loader(&mut self) -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..self.size.loads {
            let mut agent = Agent::start(CONFIG, None)?;
            times.push(agent.status()?.load_ns as f64 / 1e6);
            agent.stop()?;
        }
        let (low, high) = range(&times);
        self.report.add("loader_ms", median(&times), "at most 500");
        self.report.note(format!("loader_ms: {low:.0} to {high:.0}"));
        Ok(())
    }
}
