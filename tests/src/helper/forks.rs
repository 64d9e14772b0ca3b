//! Processes without programs of their own.

use std::{io, os::unix::process::CommandExt as _, process};

use anyhow::{Result, ensure};

use super::number;
use crate::command;

/// Generations between two that start their program anew. What the kernel copies at a fork grows with the number of
/// ancestors since the last exec: 2,000 forks without one take it most of a minute.
const FORKS: u32 = 50;

/// `fork-chain N`: N generations, all alive at the same time; each waits for its child.
pub(super) fn chain(args: &[String]) -> Result<()> {
    let generations: u32 = number(args, 0)?;
    for _ in 0..generations.min(FORKS) {
        if let Some(child) = fork()? {
            process::exit(wait(child)?);
        }
    }
    if generations > FORKS {
        let rest = (generations - FORKS).to_string();
        return Err(command::helper("fork-chain")?.arg(rest).exec().into());
    }
    process::exit(0)
}

/// `fork-storm N`: N children, one after the other, that do nothing.
pub(super) fn storm(args: &[String]) -> Result<()> {
    let children: u32 = number(args, 0)?;
    for _ in 0..children {
        match fork()? {
            Some(child) => ensure!(wait(child)? == 0, "a child did not end well"),
            // SAFETY: ends this process, of which nothing is needed any more.
            None => unsafe { libc::_exit(0) },
        }
    }
    Ok(())
}

/// The child's process id in the parent, `None` in the child.
fn fork() -> Result<Option<libc::pid_t>> {
    // SAFETY: helpers have one thread, so the child finds every lock as it is known to the one thread that it has.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error().into()),
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

/// The exit code of `child`, or 255 where it ended otherwise.
fn wait(child: libc::pid_t) -> Result<i32> {
    let mut status = 0;
    // SAFETY: the status is a live integer that the kernel writes.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } != child {
        return Err(io::Error::last_os_error().into());
    }
    Ok(if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        255
    })
}
