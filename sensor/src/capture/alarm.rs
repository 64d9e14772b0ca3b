//! Sleeping until a kernel program asks for attention.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    io::Errno,
};

use super::rings::Rings;

/// Set off by the rings, and by the request to stop.
///
/// Edge-triggered on the rings: records that were submitted without a wake-up do not end the sleep. They wait for one that
/// comes with it, or for the time to be up.
pub struct Alarm {
    epoll: OwnedFd,
}

impl Alarm {
    /// One that any of `rings` sets off, and `stop` when it becomes readable.
    ///
    /// # Errors
    /// If the kernel has no room for it.
    pub(super) fn new(rings: &Rings, stop: BorrowedFd<'_>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let data = EventData::new_u64(0);
        for ring in rings.descriptors() {
            epoll::add(&epoll, ring, data, EventFlags::IN | EventFlags::ET)?;
        }
        epoll::add(&epoll, stop, data, EventFlags::IN)?;
        Ok(Self { epoll })
    }

    /// Returns when it is set off, or after `timeout`, rounded up to milliseconds: before 5.11 the kernel counts in them.
    ///
    /// # Errors
    /// If the kernel refuses to wait.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let milliseconds = timeout.as_nanos().div_ceil(1_000_000) as i64;
        let timeout = Timespec {
            tv_sec: milliseconds / 1000,
            tv_nsec: milliseconds % 1000 * 1_000_000,
        };
        let mut event = [MaybeUninit::uninit()];
        match epoll::wait(&self.epoll, &mut event, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
