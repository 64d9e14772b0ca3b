//! `cargo xtask test`: every check there is, in the order of how quickly it can fail.

mod report;

use std::fs;

use anyhow::Result;
use report::{Outcome, Report};

use crate::{
    binaries::{self, EndToEnd},
    cargo, licences,
    remedy::is_root,
    rungs::{self, Rungs},
    setup::{self, Toolchain},
    vm,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the tests in VMs.
    #[arg(long)]
    no_vm: bool,
    /// Only tests with this in their name; leaves out formatting, lints and licences.
    filter: Option<String>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let mut report = Report::default();
    let toolchain = report.step_with("setup", set_up);
    if args.filter.is_none() {
        report.step("format", || {
            passed(cargo::run(cargo::cargo(None).args(["fmt", "--all", "--check"])))
        });
        report.step("licences", || passed(licences::check()));
        report.step("clippy", || passed(clippy(toolchain)));
    }
    let built = toolchain.and_then(|toolchain| {
        report.step_with("build of end-to-end tests", || {
            judged(binaries::end_to_end(toolchain))
        })
    });
    report.step("unit tests", || {
        passed(setup_of_unit_tests().and_then(|()| unit_tests(toolchain, args.filter.as_deref())))
    });
    report.step("end-to-end, this kernel", || {
        end_to_end(built.as_ref(), args.filter.as_deref())
    });
    report.step("end-to-end, VMs", || vms(built.as_ref(), args));
    report.finish()
}

/// Without root and without a toolchain, what lies in userspace is still tested.
fn set_up() -> (Outcome, Option<Toolchain>) {
    let ready = setup::is_ready();
    if ready.is_none() && !is_root() {
        let reason = "no toolchain for the kernel programs, and only root can install one: `cargo xtask setup` says what";
        return (Outcome::skipped(reason), None);
    }
    match setup::for_build() {
        Ok(toolchain) => (Outcome::Passed, Some(toolchain)),
        Err(error) => (Outcome::Failed(format!("{error:#}")), None),
    }
}

/// "All targets" are those that `cargo test` takes by default; the end-to-end tests are not among them.
fn clippy(toolchain: Option<Toolchain>) -> Result<()> {
    let mut lints = binaries::cargo_of_tests(toolchain, "clippy");
    let targets = ["--all-targets", "--test", "e2e"];
    cargo::run(lints.args(targets).args(["--", "-D", "warnings"]))
}

/// Who is not root tests what can be tested without; in CI there is nothing that cannot.
fn setup_of_unit_tests() -> Result<()> {
    match setup::for_unit_tests() {
        Err(error) if !is_root() => {
            eprintln!("test: {error:#}");
            Ok(())
        }
        result => result,
    }
}

fn unit_tests(toolchain: Option<Toolchain>, filter: Option<&str>) -> Result<()> {
    let mut tests = binaries::cargo_of_tests(toolchain, "test");
    cargo::run(tests.args(filter))
}

fn end_to_end(built: Option<&EndToEnd>, filter: Option<&str>) -> Outcome {
    let Some(built) = built else {
        return Outcome::skipped("the end-to-end tests are not built");
    };
    if !is_root() {
        return Outcome::skipped("only root can load kernel programs: run `cargo xtask test` as root");
    }
    let mut tests = std::process::Command::new(&built.tests);
    tests
        .arg("--test-threads=1")
        .args(filter)
        .current_dir(cargo::root());
    tests
        .env("SENSOR_BIN", &built.programs.sensor)
        .env("COLLECTOR_BIN", &built.programs.collector);
    let noted = cargo::target().join("rungs.txt");
    let _ = fs::remove_file(&noted);
    tests.env(rungs::VARIABLE, &noted);
    let outcome = passed(cargo::run(&mut tests));
    let here = Rungs::read(&fs::read_to_string(&noted).unwrap_or_default());
    println!("\n{}", rungs::table(&[("this kernel".to_owned(), here)]));
    outcome
}

fn vms(built: Option<&EndToEnd>, args: &Args) -> Outcome {
    if args.no_vm {
        return Outcome::skipped("--no-vm");
    }
    let Some(built) = built else {
        return Outcome::skipped("the end-to-end tests are not built");
    };
    passed(setup::for_tests().and_then(|()| vm::run_all(built, args.filter.as_deref())))
}

fn passed(result: Result<()>) -> Outcome {
    judged(result).0
}

fn judged<T>(result: Result<T>) -> (Outcome, Option<T>) {
    match result {
        Ok(value) => (Outcome::Passed, Some(value)),
        Err(error) => (Outcome::Failed(format!("{error:#}")), None),
    }
}
