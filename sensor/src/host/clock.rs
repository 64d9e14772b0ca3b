//! From the kernel's time to people's.

use crate::time::{BootTime, WallTime};

/// What the wall clock shows at a moment of boot time.
///
/// Boot time runs on through suspend and is never set back, so one offset serves until somebody sets the wall
/// clock; the caller refreshes it every few seconds. No clock is read here: a recording carries its
/// offsets and converts the same way anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// `CLOCK_REALTIME` − `CLOCK_BOOTTIME` in nanoseconds; negative on a host that believes in 1970.
    offset: i128,
}

impl WallClock {
    /// A clock that was `wall` when the host had been up for `boot`.
    #[must_use]
    pub fn new(boot: BootTime, wall: WallTime) -> Self {
        Self {
            offset: i128::from(wall.0) - i128::from(boot.0),
        }
    }

    /// Follows the wall clock when it is set.
    pub fn refresh(&mut self, boot_now: BootTime, wall_now: WallTime) {
        *self = Self::new(boot_now, wall_now);
    }

    /// What the wall clock showed at `boot`.
    #[must_use]
    pub fn wall(&self, boot: BootTime) -> WallTime {
        let wall = i128::from(boot.0) + self.offset;
        WallTime(u64::try_from(wall.max(0)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_wall_clock_and_never_overflows() {
        let mut clock = WallClock::new(BootTime(100), WallTime(1_000));
        assert_eq!(clock.wall(BootTime(150)), WallTime(1_050));
        clock.refresh(BootTime(200), WallTime(500));
        assert_eq!(clock.wall(BootTime(150)), WallTime(450));
        clock.refresh(BootTime(u64::MAX), WallTime(0));
        assert_eq!(clock.wall(BootTime(5)), WallTime(0));
        clock.refresh(BootTime(0), WallTime(u64::MAX));
        assert_eq!(clock.wall(BootTime(5)), WallTime(u64::MAX));
    }
}
