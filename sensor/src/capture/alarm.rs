//! Sleeping until a kernel program asks for attention.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{
        PollFd, PollFlags, Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
        poll,
    },
    io::Errno,
};

use super::rings::Rings;

/// Set off by the rings, and by the request to stop.
///
/// Edge-triggered on the rings: records that were submitted without a wake-up do not end the sleep. They wait for one that
/// comes with it, or for the time to be up.
pub struct Alarm(OwnedFd);

/// What can be set off at once: more is left for the next sleep, which it ends.
const AT_ONCE: usize = 16;

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
        Ok(Self(epoll))
    }

    /// Returns when it is set off, or after `timeout`.
    ///
    /// # Errors
    /// If the kernel refuses to wait.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // On the descriptor of epoll: this counts nanoseconds on every kernel, where epoll may round up to milliseconds.
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = [const { MaybeUninit::uninit() }; AT_ONCE];
        match epoll::wait(&self.0, &mut events, Some(&Timespec::default())) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
