//! The rings that the kernel programs write to: made, filled into their array, and drained here.

use std::{
    os::fd::{AsRawFd as _, RawFd},
    path::Path,
};

use aya::{
    Ebpf,
    maps::{ArrayOfMaps, Map, MapData, MapError, RingBuf},
};
use sensor_common::{Class, Header, RINGS_PER_CLASS};
use zerocopy::FromBytes;

use super::reorder::Reorder;
use crate::time::BootTime;

const BPF_MAP_TYPE_RINGBUF: u32 = 27;
/// Records taken from one ring before the others have their turn.
const TURN: usize = 16_384;
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
        let possible = std::fs::read_to_string(Path::new("/sys/devices/system/cpu/possible"));
        let last = possible
            .ok()
            .and_then(|range| range.trim().rsplit(['-', ',']).next()?.parse::<usize>().ok());
        Self::for_cpus(last.map_or(RINGS_PER_CLASS * CPUS_PER_RING, |last| last + 1))
    }
}

/// All rings of both classes; the critical ones come first.
pub struct Rings {
    rings: Vec<RingBuf<MapData>>,
    /// The kernel keeps the inner maps alive by reference, the array by this.
    _array: ArrayOfMaps<MapData, MapData>,
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
        for (class, size) in [(Class::Critical, sizes.critical), (Class::Bulk, sizes.bulk)] {
            let size = (size / groups.count as u32).next_power_of_two().max(4096);
            for group in 0..groups.count {
                let index = (class as usize * RINGS_PER_CLASS + group) as u32;
                let definition = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF, 0, 0, size, 0);
                let data = MapData::create(definition, "sensor_ring", None)?;
                array.set(index, &data, 0)?;
                rings.push(RingBuf::try_from(Map::RingBuf(data))?);
            }
        }
        Ok(Self { rings, _array: array })
    }

    /// Moves what is in the rings into `reorder`, critical rings first. Returns the time up to which every
    /// record has been seen, or `None` where nothing limits that.
    pub fn drain(&mut self, reorder: &mut Reorder) -> Option<BootTime> {
        let mut seen_up_to: Option<BootTime> = None;
        for ring in &mut self.rings {
            let mut last = BootTime::default();
            let mut emptied = false;
            for _ in 0..TURN {
                let Some(record) = ring.next() else {
                    emptied = true;
                    break;
                };
                last = time_of(&record);
                reorder.push(last, &record);
            }
            if !emptied {
                seen_up_to = Some(seen_up_to.map_or(last, |earlier| earlier.min(last)));
            }
        }
        seen_up_to
    }

    /// What becomes readable when there is something to drain.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.rings.iter().map(|ring| ring.as_raw_fd()).collect()
    }
}

/// Time in a record's header; zero for what is too short to be one, which decoding then reports.
fn time_of(record: &[u8]) -> BootTime {
    Header::ref_from_prefix(record).map_or(BootTime::default(), |(header, _)| BootTime(header.time))
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
