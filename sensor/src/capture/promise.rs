//! Sparing the kernel programs wake-ups: the agent's promise to look by itself.
//!
//! Where programs are executed all the time, waking the agent for each of them costs more than reporting them. So after it
//! was woken the agent promises to look again within [a fifth of a millisecond](AHEAD), and until then nobody wakes it. A single exec is
//! seen at once all the same.

use std::{
    io,
    os::fd::AsFd as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use aya::maps::{Map, MapData};
use rustix::mm::ProtFlags;

use super::mapping::Mapping;
use crate::time::BootTime;

/// How far ahead the agent promises to look.
pub(super) const AHEAD: Duration = Duration::from_micros(200);

/// The value of the `LOOK_AT` map.
pub(super) struct Promise {
    shared: Mapping,
    _map: MapData,
}

impl Promise {
    /// Shares the value of `map`, an array of one number.
    ///
    /// # Errors
    /// If the kernel refuses to share it.
    pub(super) fn new(map: Map) -> io::Result<Self> {
        let Map::Array(map) = map else {
            return Err(io::Error::other("LOOK_AT is not an array"));
        };
        let shared = Mapping::new(
            map.fd().as_fd(),
            rustix::param::page_size(),
            ProtFlags::READ | ProtFlags::WRITE,
            0,
        )?;
        Ok(Self { shared, _map: map })
    }

    /// Until [`AHEAD`] from now, nobody needs to wake the agent.
    pub(super) fn give(&self) {
        let time = BootTime::now().0 + AHEAD.as_nanos() as u64;
        self.until().store(time, Ordering::Release);
    }

    /// From now on, programs wake the agent again. True if there was a promise: what was submitted under it must be looked
    /// for.
    pub(super) fn take_back(&self) -> bool {
        self.until().swap(0, Ordering::SeqCst) != 0
    }

    fn until(&self) -> &AtomicU64 {
        // SAFETY: the value begins the mapping, which is page-aligned and lives as long as `self`; both sides write it whole.
        unsafe { AtomicU64::from_ptr(self.shared.at(0).cast()) }
    }
}
