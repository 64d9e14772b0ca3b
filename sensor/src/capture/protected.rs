//! The processes whose signals the kernel programs report.
//!
//! At most [`PROTECTED_MAX`](sensor_common::call::PROTECTED_MAX); signals to further ones are not seen, which is said once.

use aya::maps::{HashMap, MapData};

/// The list, as the kernel programs have it.
pub struct Protected {
    processes: HashMap<MapData, u32, u32>,
    full: bool,
}

impl Protected {
    pub(super) fn new(processes: HashMap<MapData, u32, u32>) -> Self {
        Self {
            processes,
            full: false,
        }
    }

    /// From now on, signals to this process are reported.
    pub fn add(&mut self, tgid: u32) {
        if let Err(error) = self.processes.insert(tgid, 1, 0)
            && !std::mem::replace(&mut self.full, true)
        {
            tracing::warn!("cannot watch over signals to process {tgid}, nor perhaps to others: {error}");
        }
    }

    /// No longer.
    pub fn remove(&mut self, tgid: u32) {
        // Most processes were never on the list.
        let _ = self.processes.remove(&tgid);
    }
}
