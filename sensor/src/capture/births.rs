//! When the process began that has an id now, to the nanosecond, as the kernel programs saw it being forked.

use std::fmt;

use aya::maps::{HashMap, MapData};

use crate::{respond, time::BootTime};

/// The kernel programs' notes. Of what ran before them, and of the longest unseen among many, there are none.
pub struct Births {
    processes: HashMap<MapData, u32, u64>,
    since: BootTime,
}

impl Births {
    /// Notes of what was forked `since`.
    pub(super) fn new(processes: HashMap<MapData, u32, u64>, since: BootTime) -> Self {
        Self { processes, since }
    }
}

impl respond::Births for Births {
    fn of(&self, tgid: u32) -> Option<BootTime> {
        self.processes.get(&tgid, 0).ok().map(BootTime)
    }

    fn since(&self) -> BootTime {
        self.since
    }
}

impl fmt::Debug for Births {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Births").finish_non_exhaustive()
    }
}
