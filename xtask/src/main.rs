//! `cargo xtask …`: what a contributor and CI do with this repository.

mod apt;
mod bench;
mod binaries;
mod cargo;
mod eval;
mod licences;
mod remedy;
mod run;
mod rungs;
mod setup;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use remedy::Remedy;

/// Sensor's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the build of the kernel programs and the tests need, where it is missing.
    Setup(setup::Args),
    /// Build, start a collector and the agent on this host, and print what happens until Ctrl-C.
    Run(run::Args),
    /// Format, lints, unit tests, licences, end-to-end tests on this kernel and in VMs.
    Test(test::Args),
    /// End-to-end tests in VMs with other kernels.
    Vm(vm::Args),
    /// Measure what the agent costs.
    Bench(bench::Args),
    /// How well the models tell attacks from what is normal, on labelled data; writes `target/bench/eval.json`.
    Eval(eval::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup(args) => setup::main(&args),
        Task::Run(args) => run::main(&args),
        Task::Test(args) => test::main(&args),
        Task::Vm(args) => vm::main(&args),
        Task::Bench(args) => bench::main(&args),
        Task::Eval(args) => eval::main(&args),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error:#}");
    if error.is::<Remedy>() {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}
