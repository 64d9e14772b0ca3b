//! The system call `bpf`, for the commands that the library does not have.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

// include/uapi/linux/bpf.h
pub(super) const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
pub(super) const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
pub(super) const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_int = 21;
pub(super) const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
pub(super) const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ITER_CREATE: libc::c_int = 33;
const BPF_TRACE_ITER: u32 = 28;

/// Calls it. `attribute` is the part of `union bpf_attr` that the command reads.
///
/// # Safety
/// Its addresses must be of live values, large enough for what the kernel writes there.
pub(super) unsafe fn bpf<T>(command: libc::c_int, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: as promised; the length is that of the attribute.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attribute),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

/// What iterators are made of `program`.
pub(super) fn iterator_link(program: i32) -> io::Result<OwnedFd> {
    descriptor(BPF_LINK_CREATE, &mut [program as u32, 0, BPF_TRACE_ITER, 0])
}

/// An iterator: reading it to its end runs the program for everything that there is, in the network namespace of this thread.
pub(super) fn iterator(link: i32) -> io::Result<OwnedFd> {
    descriptor(BPF_ITER_CREATE, &mut [link as u32, 0])
}

fn descriptor<const N: usize>(command: libc::c_int, attribute: &mut [u32; N]) -> io::Result<OwnedFd> {
    // SAFETY: the attribute holds no addresses, and the kernel just gave us the descriptor.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(command, attribute)?)) }
}
