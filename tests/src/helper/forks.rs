//! Processes without programs of their own.

use std::{io, process};

use anyhow::{Result, ensure};

use super::number;

/// `fork-chain N`: N generations, all alive at the same time; each waits for its child.
///
/// They share their memory. Were it copied, each would add itself to the list of everybody who may own a page of its
/// ancestors', and the kernel would take a minute for 2,000 of them.
pub(super) fn chain(args: &[String]) -> Result<()> {
    let generations: u32 = number(args, 0)?;
    process::exit(generation(generations as usize as *mut libc::c_void))
}

/// One generation: makes the next, and waits for it. Touches no state that the others have: only its own stack.
extern "C" fn generation(left: *mut libc::c_void) -> libc::c_int {
    const STACK: usize = 64 * 1024;
    if left.is_null() {
        return 0;
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping becomes the stack of the child, which ends before it is unmapped; all arguments are plain
    // numbers or live memory of this generation.
    unsafe {
        let stack = libc::mmap(std::ptr::null_mut(), STACK, protection, flags, -1, 0);
        if stack == libc::MAP_FAILED {
            return 254;
        }
        let next = (left as usize - 1) as *mut libc::c_void;
        let child = libc::clone(
            generation,
            stack.byte_add(STACK),
            libc::CLONE_VM | libc::SIGCHLD,
            next,
        );
        if child == -1 {
            return 253;
        }
        let code = wait(child).unwrap_or(252);
        libc::munmap(stack, STACK);
        code
    }
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
