//! The programs that tasks start: how they are built and where they lie.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{cargo, setup::Toolchain};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The agent and the collector.
pub(crate) struct Programs {
    pub(crate) sensor: PathBuf,
    pub(crate) collector: PathBuf,
}

/// What the end-to-end tests consist of: static programs that run on this kernel and in any VM.
pub(crate) struct EndToEnd {
    pub(crate) programs: Programs,
    pub(crate) tests: PathBuf,
}

/// Builds the agent and the collector for this host.
pub(crate) fn programs(toolchain: Toolchain, profile: &str) -> Result<Programs> {
    let mut build = cargo::cargo(Some(toolchain));
    build.args(["build", "--profile", profile, "-p", "sensor", "-p", "collector"]);
    cargo::run(&mut build)?;
    Ok(Programs::in_folder(&cargo::target().join(profile)))
}

/// Builds the end-to-end tests and what they test. All of the workspace, and programs together with a test: otherwise dependencies would have other
/// features than for the unit tests, and be built once more.
pub(crate) fn end_to_end(toolchain: Toolchain) -> Result<EndToEnd> {
    Ok(EndToEnd {
        tests: programs_and_tests(toolchain)?,
        programs: Programs::in_folder(&static_folder().join(TARGET).join("e2e")),
    })
}

/// A command of cargo, such as `test`, on what is built like the end-to-end tests: what they have in common is built once. Without a toolchain,
/// as whoever calls cargo has it.
pub(crate) fn cargo_of_tests(toolchain: Option<Toolchain>, subcommand: &str) -> Command {
    match toolchain {
        Some(toolchain) => static_cargo(toolchain, subcommand),
        None => {
            let mut command = cargo::cargo(None);
            command.arg(subcommand);
            command
        }
    }
}

impl Programs {
    fn in_folder(folder: &Path) -> Self {
        Self {
            sensor: folder.join("sensor"),
            collector: folder.join("collector"),
        }
    }
}

/// Where the tests are.
fn programs_and_tests(toolchain: Toolchain) -> Result<PathBuf> {
    let mut build = static_cargo(toolchain, "build");
    build.args([
        "--bins",
        "--test",
        "e2e",
        "--message-format=json-render-diagnostics",
    ]);
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .context("could not start cargo")?;
    if !output.status.success() {
        bail!("{} ended with {}", cargo::describe(&build), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let executable = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .find_map(|message| {
            let is_tests = message.target.is_some_and(|target| target.name == "e2e");
            message.executable.filter(|_| is_tests)
        });
    executable.context("cargo built the end-to-end tests but did not say where they are")
}

/// One line of `cargo --message-format=json`, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// `--target` is named although it is the host's own, so that the flags leave proc-macros and build scripts alone: those
/// are loaded into the compiler and cannot be static.
fn static_cargo(toolchain: Toolchain, subcommand: &str) -> Command {
    const FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";
    let mut command = cargo::cargo(Some(toolchain));
    command
        .args([subcommand, "--profile", "e2e", "--target", TARGET, "--target-dir"])
        .arg(static_folder())
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", FLAGS)
        // Examples in the documentation are linked with the same libraries.
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTDOCFLAGS", FLAGS)
        .env_remove("RUSTFLAGS");
    command
}

fn static_folder() -> PathBuf {
    cargo::target().join("static")
}
