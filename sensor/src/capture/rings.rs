//! The rings that the kernel programs write to: made, filled into their array, and drained here.

mod ring;

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use aya::{
    Ebpf,
    maps::{ArrayOfMaps, MapData, MapError},
    sys::SyscallError,
};
use sensor_common::{Class, Header, RINGS_PER_CLASS, Signal};
use zerocopy::FromBytes;

use self::ring::Ring;
use super::reorder::Reorder;
use crate::time::BootTime;

const BPF_MAP_TYPE_RINGBUF: u32 = 27;
/// CPUs that share a ring on a small machine: one ring costs its memory twice over, in kernel and in cache.
const CPUS_PER_RING: usize = 8;

/// How large the rings are, in bytes: powers of two, at least a page.
#[derive(Clone, Copy, Debug)]
pub struct RingSizes {
    /// All the critical rings together.
    pub critical: u32,
    /// All the bulk rings together.
    pub bulk: u32,
}

/// Which CPUs share a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// CPUs per ring, as a power of two.
    pub log2: u32,
    /// Rings per class.
    pub count: usize,
}

impl Groups {
    /// For this many possible CPUs.
    #[must_use]
    pub fn for_cpus(cpus: usize) -> Self {
        let per_ring = CPUS_PER_RING
            .max(cpus.div_ceil(RINGS_PER_CLASS))
            .next_power_of_two();
        Self {
            log2: per_ring.ilog2(),
            count: cpus.div_ceil(per_ring).max(1),
        }
    }

    /// For the CPUs that this host may ever have.
    #[must_use]
    pub fn of_host() -> Self {
        Self::for_cpus(possible_cpus())
    }
}

/// CPUs that this host may ever have; more than enough where it does not say.
pub(super) fn possible_cpus() -> usize {
    let possible = std::fs::read_to_string(Path::new("/sys/devices/system/cpu/possible"));
    let last = possible
        .ok()
        .and_then(|range| range.trim().rsplit(['-', ',']).next()?.parse::<usize>().ok());
    last.map_or(RINGS_PER_CLASS * CPUS_PER_RING, |last| last + 1)
}

/// All rings of both classes; the critical ones come first.
pub struct Rings {
    rings: Vec<Source>,
    /// Bytes of each ring, by class.
    sizes: [u32; Class::COUNT],
    /// The kernel keeps the inner maps alive by reference, the array by this.
    _array: ArrayOfMaps<MapData, MapData>,
}

struct Source {
    ring: Ring,
    /// Every record of an earlier time has been taken from the ring.
    complete: BootTime,
}

/// How far a [drain](Rings::drain) has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drained {
    /// Every record of an earlier time has been taken from its ring.
    pub complete: BootTime,
    /// A record that is still being written keeps what lies behind it.
    pub blocked: bool,
    /// Records among it that wake the agent, if it sleeps.
    pub urgent: u64,
}

impl Rings {
    /// Makes the rings and gives them to the programs in `ebpf`.
    ///
    /// # Errors
    /// If the kernel refuses, mostly for want of memory.
    pub fn create(ebpf: &mut Ebpf, sizes: RingSizes, groups: Groups) -> Result<Self, MapError> {
        let array = ebpf.take_map("RINGS").ok_or(MapError::KeyNotFound)?;
        let mut array = ArrayOfMaps::<MapData, MapData>::try_from(array)?;
        let mut rings = Vec::new();
        let sizes = [sizes.critical, sizes.bulk]
            .map(|size| (size / groups.count as u32).next_power_of_two().max(4096));
        for (class, size) in [Class::Critical, Class::Bulk].into_iter().zip(sizes) {
            for group in 0..groups.count {
                let index = (class as usize * RINGS_PER_CLASS + group) as u32;
                let definition = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF, 0, 0, size, 0);
                let data = MapData::create(definition, "sensor_ring", None)?;
                array.set(index, &data, 0)?;
                let ring = Ring::new(data, size as usize).map_err(not_mapped)?;
                rings.push(Source {
                    ring,
                    complete: BootTime::default(),
                });
            }
        }
        Ok(Self {
            rings,
            sizes,
            _array: array,
        })
    }

    /// Bytes of each ring, by class.
    #[must_use]
    pub fn sizes(&self) -> [u32; Class::COUNT] {
        self.sizes
    }

    /// Moves what is in the rings into `reorder`.
    ///
    /// A program takes a record's time when it has reserved its place, so all that happened before `now` lies before
    /// the positions that are looked at after it.
    pub fn drain(&mut self, reorder: &mut Reorder) -> Drained {
        let now = BootTime::now();
        let (mut blocked, mut urgent) = (false, 0);
        for Source { ring, complete } in &mut self.rings {
            let written = ring.read(ring.reserved(), |record| {
                let (time, wakes) = glance(record);
                urgent += u64::from(wakes);
                reorder.push(time, record);
            });
            ring.free();
            if written {
                *complete = now;
            }
            blocked |= !written;
        }
        let complete = self.rings.iter().map(|source| source.complete).min();
        Drained {
            complete: complete.unwrap_or(now),
            blocked,
            urgent,
        }
    }

    /// Bytes in the fullest ring that were not handed out.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let rings = self.rings.iter().map(|source| source.ring.waiting());
        rings.max().unwrap_or(0)
    }

    /// What is signalled when there is something to drain.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.iter().map(|source| source.ring.as_fd())
    }
}

/// The kernel's answer to a mapping that it refused.
pub(super) fn not_mapped(io_error: io::Error) -> MapError {
    MapError::SyscallError(SyscallError {
        call: "mmap",
        io_error,
    })
}

/// A record's time, and whether it wakes the agent. Time zero for what is too short to be one, which decoding then
/// reports.
fn glance(record: &[u8]) -> (BootTime, bool) {
    Header::ref_from_prefix(record).map_or((BootTime::default(), false), |(header, _)| {
        let wakes = Signal::from_number(header.signal).is_some_and(Signal::wakes);
        (BootTime(header.time), wakes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_grouped_within_the_bound() {
        for cpus in 1..=4096 {
            let groups = Groups::for_cpus(cpus);
            let last_group = (cpus - 1) >> groups.log2;
            assert!(
                last_group < groups.count && groups.count <= RINGS_PER_CLASS,
                "{cpus}: {groups:?}"
            );
        }
    }
}
