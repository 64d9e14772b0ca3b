//! Sleeping until a kernel program asks for attention.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
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
    /// Whether the kernel counts timeouts in nanoseconds (5.11), as far as is known.
    is_precise: AtomicBool,
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
        Ok(Self {
            epoll,
            is_precise: AtomicBool::new(true),
        })
    }

    /// Returns when it is set off, or after `timeout`; before Linux 5.11 it is rounded up to milliseconds.
    ///
    /// # Errors
    /// If the kernel refuses to wait.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        if self.is_precise.load(Ordering::Relaxed) {
            match self.wait_until(timeout) {
                Err(Errno::NOSYS) => self.is_precise.store(false, Ordering::Relaxed),
                result => return Ok(result?),
            }
        }
        let milliseconds = timeout.as_nanos().div_ceil(1_000_000) as u64;
        Ok(self.wait_until(Duration::from_millis(milliseconds))?)
    }

    fn wait_until(&self, timeout: Duration) -> Result<(), Errno> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut event = [MaybeUninit::uninit()];
        match epoll::wait(&self.epoll, &mut event, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
