//! Process ids that change hands at once.

use std::{io, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::number;
use crate::command;

/// `reuse N WORD [HEIRS]`: N times, a program with a word among its arguments, which ends at once, and another process that gets its id and means
/// nobody harm. Prints how many did get it, and how many of them were killed. With `HEIRS`, so many processes each time that have whatever ids
/// are next, where there are few.
pub(super) fn run(args: &[String]) -> Result<()> {
    let rounds: u32 = number(args, 0)?;
    let word = args.get(1).context("the word is missing")?;
    let heirs: u32 = match args.len() {
        2 => 0,
        _ => number(args, 2)?,
    };
    let (mut reused, mut killed) = (0, 0);
    for _ in 0..rounds {
        let mut child: std::process::Child = Command::spawn(command::helper("exit")?.args(["0", word]))?;
        let pid = child.id();
        // It may have been killed, as it should be.
        child.wait()?;
        let heirs: Vec<libc::pid_t> = match heirs {
            0 => heir(Some(pid))?.into_iter().collect(),
            heirs => (0..heirs)
                .filter_map(|_| heir(None).transpose())
                .collect::<Result<_>>()?,
        };
        for heir in heirs {
            reused += 1;
            let mut status = 0;
            // SAFETY: the status is a live integer that the kernel writes.
            let waited = unsafe { libc::waitpid(heir, &raw mut status, 0) };
            ensure!(waited == heir, "waitpid: {}", io::Error::last_os_error());
            killed += u32::from(libc::WIFSIGNALED(status));
        }
    }
    println!("reused {reused} killed {killed}");
    Ok(())
}

/// A child that has this process id, or any, and ends by itself after some milliseconds. `None` if somebody else has the id.
fn heir(pid: Option<u32>) -> Result<Option<libc::pid_t>> {
    let wanted = [libc::pid_t::try_from(pid.unwrap_or(0))?];
    // SAFETY: all zeros are valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    if pid.is_some() {
        arguments.set_tid = wanted.as_ptr() as u64;
        arguments.set_tid_size = 1;
    }
    // SAFETY: like `fork`, of a helper with one thread; the arguments outlive the call.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match child {
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EEXIST) => Ok(None),
            error => Err(error).context("clone3 with a chosen process id"),
        },
        0 => {
            std::thread::sleep(std::time::Duration::from_millis(5));
            // SAFETY: ends this process, of which nothing is needed any more.
            unsafe { libc::_exit(0) }
        }
        child => Ok(Some(child as libc::pid_t)),
    }
}
