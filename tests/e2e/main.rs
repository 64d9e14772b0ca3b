//! The end-to-end tests: `cargo xtask test` and `cargo xtask vm` build and run them.
//!
//! Each case is one claim. The cases of a file share a subject; those that need no configuration of their own share
//! one agent and one collector.

mod account;
mod cli;
mod credential;
mod delivery;
mod detect;
mod enforce;
mod exec;
mod forensics;
mod grpc;
mod identity;
mod incidents;
mod integrity;
mod knowledge;
mod lifecycle;
mod measures;
mod mute;
mod operations;
mod orders;
mod paths;
mod pressure;
mod process;
mod respond;
mod rules;
mod sequence;
mod session;
mod tcp;
mod tls;
mod trust;
mod udp;
mod uring;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use sensor_tests::{helper, stack::Stack};

/// A case that takes longer is said to.
const SLOW: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    if let Some(played) = enforce::play().or_else(helper::play) {
        return match played {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    // The cases share a machine, whose events all of them see: one after the other is also the quickest.
    arguments.test_threads.get_or_insert(1);
    let conclusion = libtest_mimic::run(&arguments, trials());
    Stack::end_shared();
    detect::end_stage();
    conclusion.exit_code()
}

fn trials() -> Vec<Trial> {
    let subjects = [
        process::trials(),
        exec::trials(),
        identity::trials(),
        tcp::trials(),
        tls::trials(),
        udp::trials(),
        grpc::trials(),
        delivery::trials(),
        operations::trials(),
        orders::trials(),
        trust::trials(),
        mute::trials(),
        pressure::trials(),
        paths::trials(),
        uring::trials(),
        credential::trials(),
        integrity::trials(),
        session::trials(),
        respond::trials(),
        incidents::trials(),
        forensics::trials(),
        enforce::trials(),
        measures::trials(),
        rules::trials(),
        detect::trials(),
        knowledge::trials(),
        sequence::trials(),
        lifecycle::trials(),
        cli::trials(),
        // The last: it looks at what all the others have left in the accounts of the shared agent.
        account::trials(),
    ];
    subjects.into_iter().flatten().collect()
}

/// How often a case is tried that fails. Since Linux 7.0 a program of a tracepoint can be preempted, and the kernel skips its runs for others
/// on that CPU meanwhile: those are counted and told, but what they would have reported is not there.
fn trials_here() -> u32 {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let major = release
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= 7) {
        3
    } else {
        1
    }
}

/// A case by its name. What it failed with is said at once: a machine that is stopped later has said it already.
fn case(name: &'static str, run: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || {
        let began = Instant::now();
        let mut result = run();
        for _ in 1..trials_here() {
            let Err(error) = &result else { break };
            eprintln!("once more, since this kernel skips runs of programs: {error:#}");
            result = run();
        }
        if began.elapsed() > SLOW {
            eprintln!("[{} s] ", began.elapsed().as_secs());
        }
        result.map_err(|error| {
            let message = format!("{error:#}");
            eprintln!("{message}");
            Failed::from(message)
        })
    })
}
