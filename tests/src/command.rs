//! Programs that tests run to make things happen.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, bail};

use crate::patience::{patience, wait_for};

/// The user whom nobody is.
pub const NOBODY: u32 = 65534;

/// Where a program under test is: named by `variable`, else beside this one.
///
/// # Errors
/// If it is in neither place.
pub fn program(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let here = std::env::current_exe()?;
    let found = here
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.with_context(|| format!("{name} is not beside {}: set {variable}", here.display()))
}

/// The agent's program.
///
/// # Errors
/// If it is not found.
pub fn sensor() -> Result<PathBuf> {
    program("SENSOR_BIN", "sensor")
}

/// A word that no other process on the machine has among its arguments.
#[must_use]
pub fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "sensor-test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// This program in one of its other roles, see [`helper`](crate::helper).
///
/// # Errors
/// If this program has no path.
pub fn helper(role: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([crate::helper::SWITCH, role]).stdin(Stdio::null());
    Ok(command)
}

/// Runs `command` to its end.
///
/// # Errors
/// If it cannot be started or does not come to an end.
pub fn run(command: &mut Command) -> Result<(u32, ExitStatus)> {
    let mut child = spawn(command)?;
    let status = wait(&mut child)?;
    Ok((child.id(), status))
}

/// Runs `command` to its end, which must be a good one, and returns its process id.
///
/// # Errors
/// If it cannot be started or does not end well.
pub fn succeed(command: &mut Command) -> Result<u32> {
    let (pid, status) = run(command)?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(pid)
}

/// Starts `command`.
///
/// # Errors
/// If it cannot be started.
pub fn spawn(command: &mut Command) -> Result<Child> {
    command
        .spawn()
        .with_context(|| format!("could not start {command:?}"))
}

/// Waits for the end of `child`; ends it if that takes too long.
///
/// # Errors
/// If it had to be ended.
pub fn wait(child: &mut Child) -> Result<ExitStatus> {
    let status = wait_for(
        "the end of a test program",
        patience(60),
        || Ok(child.try_wait()?),
    );
    if status.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    status
}

/// Makes `command` run as nobody.
pub fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY)
}

/// The path that the kernel will know a program by.
///
/// # Errors
/// If there is no such file.
pub fn real_path(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let real = path
        .canonicalize()
        .with_context(|| format!("could not find {}", path.display()))?;
    Ok(real.to_string_lossy().into_owned())
}
