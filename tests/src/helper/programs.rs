//! Unusual ways to start a program.

use std::{
    ffi::CString, io, io::Write as _, os::fd::AsRawFd as _, os::unix::process::CommandExt as _,
    process::Command, ptr,
};

use anyhow::{Context as _, Result, bail};

/// `thread-exec PROGRAM ARGUMENT…`: a thread that is not the first one becomes the program.
pub(super) fn thread_exec(args: &[String]) -> Result<()> {
    let (program, rest) = args.split_first().context("no program is named")?;
    let mut command = Command::new(program);
    command.args(rest);
    match std::thread::spawn(move || command.exec()).join() {
        Ok(error) => Err(error.into()),
        Err(_) => bail!("the thread panicked"),
    }
}

/// `mapped-exec PROGRAM ARGUMENT…`: the strings of the arguments lie in pages of a file that this process never
/// touched, so whoever reads them before the kernel does finds nothing there.
pub(super) fn mapped_exec(args: &[String]) -> Result<()> {
    let program = CString::new(args.first().context("no program is named")?.as_str())?;
    let mut file = tempfile::tempfile()?;
    let mut offsets = Vec::new();
    let mut length = 0;
    for arg in args {
        offsets.push(length);
        file.write_all(arg.as_bytes())?;
        file.write_all(&[0])?;
        length += arg.len() + 1;
    }
    // SAFETY: a new private mapping of a file that is as long as the mapping; nobody else changes the file.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: every offset is within the mapping, where a string with its NUL was written.
    let mut pointers: Vec<*const libc::c_char> = offsets
        .into_iter()
        .map(|offset| unsafe { base.cast::<libc::c_char>().add(offset).cast_const() })
        .collect();
    pointers.push(ptr::null());
    let environment = [ptr::null()];
    // SAFETY: both lists end with a null pointer, and every string in them with a NUL.
    unsafe { libc::execve(program.as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
    Err(io::Error::last_os_error().into())
}
