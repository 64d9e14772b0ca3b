//! Sparing the kernel programs wake-ups: the agent's promise to look by itself.
//!
//! Where programs are executed all the time, waking the agent for each of them costs more than reporting them. So after it
//! was woken the agent promises to look again before long, and until then nobody wakes it. A single exec is
//! seen at once all the same.
//!
//! How long depends on how many there are. Up to [`RATE`] a second it is [`SOON`], which is about what a wake-up takes: what is to be killed
//! is killed soon, though something else was executed just before. Beyond it is [`LATER`]: each wake-up saved is a few percent of an exec.

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

/// How far ahead the agent promises to look, where few programs are executed.
const SOON: Duration = Duration::from_micros(100);

/// The same where many are.
const LATER: Duration = Duration::from_millis(1);

/// Executions a second that are few.
const RATE: u64 = 2_000;

/// How many there may be at once, all the same. Half of that must have been saved before many become few again.
const BURST: u64 = 32;

/// Tells few from many: a budget that time fills and executions use up, in nanoseconds.
#[derive(Debug)]
struct Pace {
    saved: u64,
    at: BootTime,
    are_many: bool,
}

impl Pace {
    const EACH: u64 = 1_000_000_000 / RATE;
    const MOST: u64 = Self::EACH * BURST;

    fn new(now: BootTime) -> Self {
        Self {
            saved: Self::MOST,
            at: now,
            are_many: false,
        }
    }

    /// How far ahead to look, after so many were executed until now.
    fn ahead(&mut self, executed: u64, now: BootTime) -> Duration {
        let passed = now.0.saturating_sub(self.at.0);
        self.at = now;
        self.saved = self.saved.saturating_add(passed).min(Self::MOST);
        self.saved = self.saved.saturating_sub(executed.saturating_mul(Self::EACH));
        self.are_many = match self.are_many {
            true => self.saved < Self::MOST / 2,
            false => self.saved == 0,
        };
        if self.are_many { LATER } else { SOON }
    }
}

/// The value of the `LOOK_AT` map.
pub(super) struct Promise {
    shared: Mapping,
    pace: Pace,
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
        Ok(Self {
            shared,
            pace: Pace::new(BootTime::now()),
            _map: map,
        })
    }

    /// For so long from now, after so many programs were executed, nobody needs to wake the agent.
    pub(super) fn give(&mut self, executed: u64) -> Duration {
        let now = BootTime::now();
        let ahead = self.pace.ahead(executed, now);
        self.until()
            .store(now.0 + ahead.as_nanos() as u64, Ordering::Release);
        ahead
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is promised last, where programs are executed one at a time, so many a second.
    fn after(rate: u64, pace: &mut Pace) -> Duration {
        let mut ahead = SOON;
        for _ in 0..rate {
            let next = BootTime(pace.at.0 + 1_000_000_000 / rate);
            ahead = pace.ahead(1, next);
        }
        ahead
    }

    #[test]
    fn few_are_looked_for_soon_and_many_later() {
        let mut pace = Pace::new(BootTime(0));
        assert_eq!(after(RATE - 1, &mut pace), SOON);
        assert_eq!(after(RATE + 100, &mut pace), LATER);
        // Nearly as many still use up what is saved.
        assert_eq!(after(RATE, &mut pace), LATER);
        assert_eq!(after(RATE / 2, &mut pace), SOON);
    }

    #[test]
    fn some_at_once_are_not_many() {
        let mut pace = Pace::new(BootTime(0));
        assert_eq!(pace.ahead(BURST - 1, BootTime(0)), SOON);
        assert_eq!(pace.ahead(1, BootTime(0)), LATER);
        let half = BURST / 2 * Pace::EACH;
        assert_eq!(pace.ahead(0, BootTime(half - 1)), LATER);
        assert_eq!(pace.ahead(0, BootTime(half)), SOON);
        assert_eq!(pace.ahead(u64::MAX, BootTime(half)), LATER);
    }
}
