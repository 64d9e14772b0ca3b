//! Processes without programs of their own.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::unix::process::CommandExt as _,
    process, ptr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

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

/// `spawn-held FIFO`: a child that never comes to run its program, because nobody writes into `FIFO`: until then its parent waits in
/// vfork(2), where no signal but one that kills reaches it.
pub(super) fn held(args: &[String]) -> Result<()> {
    let fifo = CString::new(args.first().context("no FIFO is named")?.as_bytes())?;
    let program = c"/bin/true";
    let arguments = [program.as_ptr().cast_mut(), ptr::null_mut()];
    let mut actions = MaybeUninit::uninit();
    let mut child = 0;
    // SAFETY: the actions are made before they are used, and the strings outlive the call.
    let error = unsafe {
        libc::posix_spawn_file_actions_init(actions.as_mut_ptr());
        libc::posix_spawn_file_actions_addopen(actions.as_mut_ptr(), 0, fifo.as_ptr(), libc::O_RDONLY, 0);
        libc::posix_spawn(
            &raw mut child,
            program.as_ptr(),
            actions.as_ptr(),
            ptr::null(),
            arguments.as_ptr(),
            ptr::null(),
        )
    };
    ensure!(error == 0, io::Error::from_raw_os_error(error));
    wait(child).map(drop)
}

/// `fork-bomb N WORD`: each forks as soon as it can, until they have done so `N` times together. Ends by itself after a minute.
pub(super) fn bomb(args: &[String]) -> Result<()> {
    let most: u32 = number(args, 0)?;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let shared = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<AtomicU32>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    ensure!(shared != libc::MAP_FAILED, io::Error::last_os_error());
    // SAFETY: the mapping is zeros, aligned, and stays for as long as any of these processes lives.
    let forks = unsafe { &*shared.cast::<AtomicU32>() };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if forks.fetch_add(1, Ordering::Relaxed) < most {
            fork()?;
        } else {
            // Not so often that an emulated machine has time for nothing else.
            std::thread::sleep(Duration::from_millis(200));
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
