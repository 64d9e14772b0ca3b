//! Two clocks, never mixed: events are ordered by [`BootTime`]; people and other hosts read [`WallTime`].

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Nanoseconds of `CLOCK_BOOTTIME`: since the host booted, suspend included. Never set back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootTime(pub u64);

/// Nanoseconds since the Unix epoch, as the host believed at the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(pub u64);

impl BootTime {
    /// Time since `earlier`, zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So much later; the end of all time, if that is past it.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(span))
    }

    /// Reads the clock.
    #[must_use]
    pub fn now() -> Self {
        Self(nanoseconds(rustix::time::clock_gettime(
            rustix::time::ClockId::Boottime,
        )))
    }
}

impl WallTime {
    /// Reads the clock.
    #[must_use]
    pub fn now() -> Self {
        Self(nanoseconds(rustix::time::clock_gettime(
            rustix::time::ClockId::Realtime,
        )))
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC, to the millisecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

fn nanoseconds(time: rustix::time::Timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
