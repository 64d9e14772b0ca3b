//! Memory that is shared with the kernel.

use std::{
    ffi::c_void,
    io,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Shared memory, unmapped when dropped.
pub(super) struct Mapping {
    base: NonNull<c_void>,
    length: usize,
}

// SAFETY: the mapping belongs to whoever has this, on whatever thread.
unsafe impl Send for Mapping {}
// SAFETY: what is read or written through it is atomic, or never changes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps what is behind `fd`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn new(
        fd: BorrowedFd<'_>,
        length: usize,
        protection: ProtFlags,
        offset: u64,
    ) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, fd, offset) }?;
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, length })
    }

    /// All of it.
    ///
    /// # Safety
    /// Nobody may write to it.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as `self` lives; that it does not change, the caller promises.
        unsafe { std::slice::from_raw_parts(self.at(0), self.length) }
    }

    /// The address `offset` bytes into it.
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.length);
        self.base.as_ptr().cast::<u8>().wrapping_add(offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing that was handed out of the mapping outlives it. A failure leaves it mapped, which is harmless.
        let _ = unsafe { munmap(self.base.as_ptr(), self.length) };
    }
}
