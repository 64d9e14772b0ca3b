//! What only the administrator may ask of the kernel: a probe, as debuggers make one; the ports of devices.

use std::{fs, io};

use anyhow::{Context as _, Result, ensure};

/// `kprobe`: makes one that counts calls of a function, never enables it, and takes it back.
pub(super) fn kprobe() -> Result<()> {
    let kind = fs::read_to_string("/sys/bus/event_source/devices/kprobe/type").context("no kprobes here")?;
    // struct perf_event_attr: type and size, `disabled` the first of the flags, the function's name, and an offset of zero.
    let mut attributes = [0_u64; 16];
    attributes[0] = kind.trim().parse::<u64>()? | 128 << 32;
    attributes[5] = 1;
    attributes[7] = c"do_exit".as_ptr() as u64;
    // SAFETY: the kernel reads as many bytes as the size says, and a text with a NUL at its end.
    let descriptor = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) };
    ensure!(descriptor >= 0, "perf_event_open: {}", io::Error::last_os_error());
    Ok(())
}

/// `ports`: asks for one that nothing hangs on, and gives it back.
pub(super) fn ports() -> Result<()> {
    // The port by which the start of a machine is traced.
    const POST: libc::c_ulong = 0x80;
    for on in [1, 0] {
        // SAFETY: takes no pointer; no port is used.
        let result = unsafe { libc::ioperm(POST, 1, on) };
        ensure!(result == 0, "ioperm: {}", io::Error::last_os_error());
    }
    Ok(())
}
