//! What a trivial system call costs more when a program sits at its return.

use std::time::Instant;

use anyhow::Result;
use sensor_tests::{agent::Agent, bpf::Empty};

/// Calls in a row; the quickest of several rows counts, since whatever interrupts only adds.
const CALLS: u32 = 10_000;
const ROWS: usize = 60;

/// Nanoseconds for a call, of each round: beyond what the same call took without any program.
#[derive(Default)]
pub(crate) struct Costs {
    pub(crate) bare: Vec<f64>,
    pub(crate) noop: Vec<f64>,
    pub(crate) idle: Vec<f64>,
    pub(crate) profiled: Vec<f64>,
}

/// With the configuration `idle` this process is not profiled, with `profiled` it is.
pub(crate) fn measure(rounds: usize, idle: &str, profiled: &str) -> Result<Costs> {
    let mut costs = Costs::default();
    for round in 0..rounds {
        let bare = call_ns();
        let noop = {
            let _program = Empty::attach(c"sys_exit")?;
            call_ns() - bare
        };
        let idle = beside_agent(idle)? - bare;
        let profiled = beside_agent(profiled)? - bare;
        eprintln!(
            "  round {}: {bare:.0} ns; an empty program adds {noop:.0}, ours {idle:.0}, profiled {profiled:.0}",
            round + 1
        );
        costs.bare.push(bare);
        costs.noop.push(noop);
        costs.idle.push(idle);
        costs.profiled.push(profiled);
    }
    Ok(costs)
}

fn beside_agent(config: &str) -> Result<f64> {
    let mut agent = Agent::start(config, None)?;
    let time = call_ns();
    agent.stop()?;
    Ok(time)
}

fn call_ns() -> f64 {
    let rows = (0..ROWS).map(|_| {
        let began = Instant::now();
        for _ in 0..CALLS {
            // SAFETY: takes nothing and cannot fail. The C library's own function might remember the answer.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        began.elapsed().as_nanos() as f64 / f64::from(CALLS)
    });
    rows.fold(f64::INFINITY, f64::min)
}
