//! Which kernel programs a process holds, and whether they are still loaded.

use std::{fs, io};

use anyhow::Result;

/// Command of the system call `bpf` that opens a program by its id.
const PROGRAM_BY_ID: libc::c_int = 13;

/// The head of the kernel's `union bpf_attr` for that command.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Ids of the kernel programs that process `pid` has open.
///
/// # Errors
/// If the process is not there.
pub fn programs_of(pid: u32) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor that was closed meanwhile is no error.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let id: Option<u32> = text
            .lines()
            .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
        ids.extend(id);
    }
    Ok(ids)
}

/// Whether the kernel still has program `id`.
///
/// # Errors
/// If the kernel does not want to say.
pub fn is_loaded(id: u32) -> Result<bool> {
    let attribute = ById {
        id,
        next: 0,
        flags: 0,
    };
    // SAFETY: the pointer and the length are those of a live value that the kernel only reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROGRAM_BY_ID,
            &raw const attribute,
            size_of::<ById>(),
        )
    };
    if let Ok(descriptor) = i32::try_from(result)
        && descriptor >= 0
    {
        // SAFETY: the kernel just gave us this descriptor, and nobody else knows it.
        unsafe { libc::close(descriptor) };
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOENT) {
        Ok(false)
    } else {
        Err(error.into())
    }
}
