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

/// How often a kernel is booted, if the emulator ends it each time.
const BOOTS_MAX: u32 = 4;

/// Processors of a machine: what needs two to go wrong shall be able to.
const PROCESSORS: u32 = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this kernel; may be given several times. Default: all of them.
    #[arg(long = "kernel", value_name = "VERSION", value_parser = kernel::parse)]
    kernels: Vec<Suite>,
    /// Processors of each machine.
    #[arg(long, default_value_t = PROCESSORS)]
    processors: u32,
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
    run(&end_to_end, suites, &args.tests, args.processors)
}

/// Every kernel there is.
pub(crate) fn run_all(end_to_end: &EndToEnd, tests: &[String]) -> Result<()> {
    run(end_to_end, &KERNELS, tests, PROCESSORS)
}

fn run(end_to_end: &EndToEnd, suites: &[Suite], tests: &[String], processors: u32) -> Result<()> {
    let folder = cargo::target().join("vm");
    let kernels = suites
        .iter()
        .map(|suite| kernel::fetch(&folder, *suite))
        .collect::<Result<Vec<_>>>()?;
    let initramfs = initramfs::build(&folder, end_to_end, tests)?;
    let boots = boot_all(&kernels, &initramfs, &folder, processors);
    println!("\n{}", matrix::table(&boots));
    println!(
        "\n{}",
        rungs::table(&boots.iter().map(Boot::rungs).collect::<Vec<_>>())
    );
    matrix::verdict(&boots)
}

fn boot_all(kernels: &[Kernel], initramfs: &Path, folder: &Path, processors: u32) -> Vec<Boot> {
    let waiting = Mutex::new(kernels.iter());
    let done = Mutex::new(Vec::new());
    let next = || waiting.lock().ok().and_then(|mut kernels| kernels.next());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(kernel) = next() {
                    let boot = boot_one(kernel, initramfs, folder, processors);
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

fn boot_one(kernel: &Kernel, initramfs: &Path, folder: &Path, processors: u32) -> Boot {
    let began = Instant::now();
    println!("kernel {} ({}): booting", kernel.suite.version, kernel.release);
    let mut boot = boot::boot(kernel, initramfs, folder, processors);
    for boots in 2..=BOOTS_MAX {
        let Some(fault) = boot.fault_of_the_emulator() else {
            break;
        };
        // The fault takes two processors; with one, others may be kept from what is measured here.
        let processors = if boots == BOOTS_MAX { 1 } else { processors };
        println!(
            "kernel {} ({}): ended by a fault of the emulator ({fault}); booting once more, with {processors} processors",
            kernel.suite.version, kernel.release
        );
        boot = boot::boot(kernel, initramfs, folder, processors);
    }
    println!("{}", boot.report(Duration::from_secs(began.elapsed().as_secs())));
    boot
}
