//! `cargo xtask vm`: the end-to-end tests on other kernels, each in an emulated machine of its own.

mod boot;
mod cpio;
mod debian;
mod forge;
mod initramfs;
mod kernel;
mod matrix;

use std::{
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::Result;
use boot::Boot;
use kernel::{KERNELS, Kernel, Suite};

use crate::{
    binaries::{self, EndToEnd},
    cargo, rungs, setup,
};

/// Machines that run at the same time: each has two processors of its own.
const AT_ONCE: usize = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this kernel; may be given several times. Default: all of them.
    #[arg(long = "kernel", value_name = "VERSION", value_parser = kernel::parse)]
    kernels: Vec<Suite>,
    /// Passed on to the test program: a part of the names of tests, `--list`, `--exact`, `--skip`.
    #[arg(last = true)]
    tests: Vec<String>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let toolchain = setup::for_build()?;
    setup::for_tests()?;
    let end_to_end = binaries::end_to_end(toolchain)?;
    let suites = if args.kernels.is_empty() {
        &KERNELS[..]
    } else {
        &args.kernels
    };
    run(&end_to_end, suites, &args.tests)
}

/// Cases that show nothing of the kernel: `cargo xtask test` has seen them on this one, and leaves them out of the machines.
const OF_USERSPACE: [&str; 8] = [
    "cli::",
    "delivery::",
    "detect::",
    "grpc::",
    "incidents::",
    "knowledge::",
    "rules::",
    "trust::",
];

/// Every kernel there is, with what a kernel can make a difference to, or with the cases that `filter` names.
pub(crate) fn run_all(end_to_end: &EndToEnd, filter: Option<&str>) -> Result<()> {
    let tests: Vec<String> = match filter {
        Some(filter) => vec![filter.to_owned()],
        None => OF_USERSPACE
            .iter()
            .flat_map(|subject| ["--skip".to_owned(), (*subject).to_owned()])
            .collect(),
    };
    run(end_to_end, &KERNELS, &tests)
}

fn run(end_to_end: &EndToEnd, suites: &[Suite], tests: &[String]) -> Result<()> {
    let folder = cargo::target().join("vm");
    let kernels = suites
        .iter()
        .map(|suite| kernel::fetch(&folder, *suite))
        .collect::<Result<Vec<_>>>()?;
    let initramfs = initramfs::build(&folder, end_to_end, tests)?;
    let boots = boot_all(&kernels, &initramfs, &folder);
    println!("\n{}", matrix::table(&boots));
    println!(
        "\n{}",
        rungs::table(&boots.iter().map(Boot::rungs).collect::<Vec<_>>())
    );
    matrix::verdict(&boots)
}

fn boot_all(kernels: &[Kernel], initramfs: &Path, folder: &Path) -> Vec<Boot> {
    let waiting = Mutex::new(kernels.iter());
    let done = Mutex::new(Vec::new());
    let next = || waiting.lock().ok().and_then(|mut kernels| kernels.next());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(kernel) = next() {
                    let boot = boot_one(kernel, initramfs, folder);
                    if let Ok(mut done) = done.lock() {
                        done.push(boot);
                    }
                }
            });
        }
    });
    let mut boots = done.into_inner().unwrap_or_default();
    boots.sort_by_key(|boot: &Boot| kernels.iter().position(|kernel| kernel.suite == boot.suite));
    boots
}

fn boot_one(kernel: &Kernel, initramfs: &Path, folder: &Path) -> Boot {
    let began = Instant::now();
    println!("kernel {} ({}): booting", kernel.suite.version, kernel.release);
    let mut boot = boot::boot(kernel, initramfs, folder, kernel.suite.processors);
    if let Some(fault) = boot.fault_of_the_emulator() {
        println!(
            "kernel {} ({}): ended by a fault of the emulator ({fault}); booting once more, with one processor",
            kernel.suite.version, kernel.release
        );
        // The fault takes two.
        boot = boot::boot(kernel, initramfs, folder, 1);
    }
    println!("{}", boot.report(Duration::from_secs(began.elapsed().as_secs())));
    boot
}
