//! What the kernel programs counted instead of reporting it: see [`sensor_common::fold`].

use std::{
    io,
    os::fd::AsFd as _,
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use aya::maps::{Map, MapData};
use rustix::mm::ProtFlags;
use sensor_common::{Fold, Signal, fold::SLOTS_PER_CPU};

use super::mapping::Mapping;
use crate::time::BootTime;

/// After so many windows it is taken for granted that the first event of a slot was lost.
const PATIENCE: u32 = 5;

/// Slots for this many CPUs.
pub(super) fn slots(cpus: usize) -> u32 {
    cpus as u32 * SLOTS_PER_CPU
}

/// Repetitions of an event that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeats {
    /// Of which signal.
    pub signal: Option<Signal>,
    /// Index of the slot, from 1, as the event had it.
    pub slot: u32,
    /// Generation of the slot, likewise.
    pub generation: u32,
    /// How many.
    pub count: u64,
    /// The earliest of them.
    pub first: BootTime,
    /// The latest of them.
    pub last: BootTime,
}

/// The slots of all CPUs.
pub struct Folds {
    shared: Mapping,
    count: u32,
    _map: MapData,
}

impl Folds {
    pub(super) fn new(map: Map, count: u32) -> io::Result<Self> {
        let Map::Array(map) = map else {
            return Err(io::Error::other("FOLDS is not an array"));
        };
        let length = (count as usize * size_of::<Fold>()).next_multiple_of(rustix::param::page_size());
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let shared = Mapping::new(map.fd().as_fd(), length, protection, 0)?;
        Ok(Self {
            shared,
            count,
            _map: map,
        })
    }

    /// Hands out what has come together for `window` and was not reported yet. What `take` does not know of is kept for some
    /// windows more, since the event that began it may be on its way, and then forgotten.
    pub fn sweep(&self, now: BootTime, window: Duration, mut take: impl FnMut(Repeats) -> bool) {
        for index in 0..self.count {
            let slot = self.slot(index);
            let Some((repeats, count)) = slot.read(index + 1) else {
                continue;
            };
            let age = now.since(repeats.first);
            if age >= window && (take(repeats) || age >= window * PATIENCE) {
                slot.reported().store(count, Ordering::Release);
            }
        }
    }

    fn slot(&self, index: u32) -> Slot {
        Slot(self.shared.at(index as usize * size_of::<Fold>()).cast())
    }
}

/// A slot within the mapping. Its numbers are aligned, and programs write each whole.
struct Slot(*mut Fold);

impl Slot {
    /// What it has to report, and the count up to which that is.
    fn read(&self, number: u32) -> Option<(Repeats, u64)> {
        // SAFETY: the slot lies within the mapping, for as long as that lives.
        unsafe {
            let count = load(&raw mut (*self.0).count);
            let generation = AtomicU32::from_ptr(&raw mut (*self.0).generation);
            let before = generation.load(Ordering::Acquire);
            let unreported = count.wrapping_sub(load(&raw mut (*self.0).reported));
            if unreported == 0 {
                return None;
            }
            let kind = ptr::read_volatile(&raw const (*self.0).kind);
            let repeats = Repeats {
                signal: Signal::from_number(kind as u16),
                slot: number,
                generation: before,
                count: unreported,
                first: BootTime(load(&raw mut (*self.0).first)),
                last: BootTime(load(&raw mut (*self.0).last)),
            };
            // With something to report it is not taken by another; this is for what was taken just before.
            (generation.load(Ordering::Acquire) == before).then_some((repeats, count))
        }
    }

    fn reported(&self) -> &AtomicU64 {
        // SAFETY: as above; the programs only read it.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.0).reported) }
    }
}

/// # Safety
/// The number is aligned, and is there.
unsafe fn load(number: *mut u64) -> u64 {
    // SAFETY: as the caller says.
    unsafe { AtomicU64::from_ptr(number) }.load(Ordering::Acquire)
}
