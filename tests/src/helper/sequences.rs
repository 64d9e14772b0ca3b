//! System calls in a known order.

use std::{ffi::CString, io, ptr};

use anyhow::{Context as _, Result, ensure};

use super::number;

/// What it does all the time; the last asks whether to go on.
const USUAL: [libc::c_long; 5] = [
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_getgid,
    libc::SYS_nanosleep,
    libc::SYS_access,
];

/// What it does not do usually: six calls, so that the window of all of them comes again when they do.
pub const UNUSUAL: [(libc::c_long, &str); 6] = [
    (libc::SYS_getsid, "getsid"),
    (libc::SYS_geteuid, "geteuid"),
    (libc::SYS_getsid, "getsid"),
    (libc::SYS_getegid, "getegid"),
    (libc::SYS_getsid, "getsid"),
    (libc::SYS_getpgid, "getpgid"),
];

/// What it makes chance orders of.
const OTHERS: [libc::c_long; 8] = [
    libc::SYS_getuid,
    libc::SYS_getgid,
    libc::SYS_geteuid,
    libc::SYS_getegid,
    libc::SYS_getppid,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getpgrp,
];

/// `sequences FILE CALLS`: does the usual until the file is there, then as many calls in an order of chance, and a pause of a second if
/// there were any; then twice the unusual.
pub(super) fn run(args: &[String]) -> Result<()> {
    let file = CString::new(args.first().context("no file is named")?.as_str())?;
    let calls: u32 = number(args, 1)?;
    stay_on_one_cpu()?;
    while !usual(&file) {}
    let mut chance = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..calls {
        // Marsaglia's xorshift.
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        call(OTHERS[(chance >> 32) as usize % OTHERS.len()]);
    }
    if calls > 0 {
        sleep(1, 100_000_000);
    }
    for (number, _) in [UNUSUAL, UNUSUAL].concat() {
        call(number);
    }
    // SAFETY: ends this process; what Rust and C would do at its end are calls that nobody expects.
    unsafe { libc::_exit(0) }
}

/// One round of it; whether the file is there.
fn usual(file: &CString) -> bool {
    for number in &USUAL[..3] {
        call(*number);
    }
    sleep(0, 1_000_000);
    // SAFETY: the path ends with a NUL.
    unsafe { libc::syscall(USUAL[4], file.as_ptr(), libc::F_OK) == 0 }
}

fn call(number: libc::c_long) {
    // SAFETY: all that are called here ask for a number and take at most one.
    unsafe { libc::syscall(number, 0) };
}

fn sleep(seconds: i64, nanoseconds: i64) {
    let time = libc::timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    // SAFETY: the kernel reads a time that lives.
    unsafe {
        libc::syscall(
            libc::SYS_nanosleep,
            &raw const time,
            ptr::null::<libc::timespec>(),
        )
    };
}

/// What the kernel programs count, they count for each CPU.
fn stay_on_one_cpu() -> Result<()> {
    // SAFETY: a set of CPUs is plain bits, and the calls write and read one that lives.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    ensure!(
        result == 0,
        "could not stay on a CPU: {}",
        io::Error::last_os_error()
    );
    Ok(())
}
