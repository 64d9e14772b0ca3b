//! The agent's hand on what the kernel programs know of the order of system calls: who is profiled, and what is known of it.
//!
//! Marks, states and the set are memory that both sides write; what is written is whole numbers, each at once.

use std::{
    io,
    mem::offset_of,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray},
};
use rustix::mm::ProtFlags;
use sensor_common::sequence::{
    BUCKET, BUCKETS, Bucket, Marks, NO_HISTORY, REPORTED, THREADS, ThreadState, WORKLOADS, WorkloadCounts,
    WorkloadState, bucket, key, other_bucket, window, workload,
};

use super::{mapping::Mapping, rings::not_mapped, take};
use crate::time::BootTime;

/// A profiled workload, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadNumber(u8);

impl WorkloadNumber {
    /// As an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// Every number there is.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..WORKLOADS).map(|number| Self(number as u8))
    }
}

/// What the kernel says of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Knowledge {
    /// Windows that are known.
    pub windows: u32,
    /// When the last one was learned; zero if none was.
    pub learned_at: BootTime,
    /// What is new is reported.
    pub enforced: bool,
    /// Windows that there was no room for, each time.
    pub unstored: u64,
}

/// The maps of the programs that look at sequences.
pub struct Sequences {
    marks: Shared,
    threads: MapData,
    known: MapData,
    workloads: Arc<Workloads>,
    cgroups: HashMap<MapData, u64, u32>,
}

/// What is known of each workload, readable from any thread.
pub struct Workloads {
    states: Shared,
    counts: PerCpuArray<MapData, KernelCounts>,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct KernelCounts(WorkloadCounts);
// SAFETY: two integers without padding; any bytes are valid.
unsafe impl aya::Pod for KernelCounts {}

/// The value of an array, shared with the kernel.
struct Shared {
    memory: Mapping,
    _map: MapData,
}

/// Where nobody is profiled, the large maps need not be large.
pub(super) fn shrink<'a>(loader: &mut EbpfLoader<'a>) {
    for map in ["THREAD_STATES", "KNOWN"] {
        loader.map_max_entries(map, 1);
    }
}

impl Sequences {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            marks: Shared::new(array(take(ebpf, "MARKS")?)?, size_of::<Marks>())?,
            threads: array(take(ebpf, "THREAD_STATES")?)?,
            known: array(take(ebpf, "KNOWN")?)?,
            workloads: Arc::new(Workloads {
                states: Shared::new(
                    array(take(ebpf, "WORKLOAD_STATES")?)?,
                    WORKLOADS * size_of::<WorkloadState>(),
                )?,
                counts: take(ebpf, "WORKLOAD_COUNTS")?.try_into()?,
            }),
            cgroups: take(ebpf, "PROFILED_CGROUPS")?.try_into()?,
        })
    }

    /// What starts in this cgroup from now on is profiled.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn add_cgroup(&mut self, cgroup: u64, workload: WorkloadNumber) -> Result<(), MapError> {
        self.cgroups.insert(cgroup, u32::from(workload.0), 0)
    }

    /// What marks threads that run already.
    ///
    /// # Errors
    /// If the kernel refuses to share their states.
    pub fn marker(&self) -> io::Result<Marker<'_>> {
        Ok(Marker {
            marks: &self.marks,
            threads: map(&self.threads, THREADS * size_of::<ThreadState>())?,
        })
    }

    /// From now on, what is new to the workload is reported, or learned.
    pub fn enforce(&self, workload: WorkloadNumber, enforced: bool) {
        let at = usize::from(workload.0) * size_of::<WorkloadState>() + offset_of!(WorkloadState, enforced);
        number_32(&self.workloads.states.memory, at).store(u32::from(enforced), Ordering::Relaxed);
    }

    /// Forgets all windows of a workload, of which nothing runs any more: its number becomes another's.
    ///
    /// # Errors
    /// If the kernel refuses to share the set.
    pub fn forget(&self, number: WorkloadNumber) -> io::Result<()> {
        self.for_each_known(|place| {
            if workload(place.load(Ordering::Relaxed)) == number.0 {
                place.store(0, Ordering::Relaxed);
            }
        })?;
        let from = usize::from(number.0) * size_of::<WorkloadState>();
        for at in (from..from + size_of::<WorkloadState>()).step_by(8) {
            number_64(&self.workloads.states.memory, at).store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What workloads were learned to do: their windows, in no order, by number. What was reported of them is not among it.
    ///
    /// # Errors
    /// If the kernel refuses to share the set.
    pub fn learned(&self) -> io::Result<Vec<Vec<u64>>> {
        let mut learned = vec![Vec::new(); WORKLOADS];
        self.for_each_known(|place| {
            let key = place.load(Ordering::Relaxed);
            if key != 0 && key & REPORTED == 0 {
                learned[usize::from(workload(key))].push(window(key));
            }
        })?;
        Ok(learned)
    }

    /// Lets a workload that nobody is marked for yet know these windows. False if there was no room for all.
    ///
    /// # Errors
    /// If the kernel refuses to share the set.
    pub fn restore(&self, number: WorkloadNumber, windows: &[u64]) -> io::Result<bool> {
        let memory = map(&self.known, BUCKETS * size_of::<Bucket>())?;
        let put_all = || {
            let keys = windows.iter().map(|window| key(*window, number.0));
            keys.filter(|key| put(&memory, *key)).count()
        };
        // A program that has just found a free place for a window of another workload may write over what was put there meanwhile.
        put_all();
        let known = put_all();
        let at = usize::from(number.0) * size_of::<WorkloadState>() + offset_of!(WorkloadState, windows);
        number_32(&self.workloads.states.memory, at).store(known as u32, Ordering::Relaxed);
        Ok(known == windows.len())
    }

    /// What is known of each workload.
    #[must_use]
    pub fn workloads(&self) -> Arc<Workloads> {
        Arc::clone(&self.workloads)
    }

    /// The set is mapped for this only: two megabytes that would count as the agent's memory.
    fn for_each_known(&self, take: impl FnMut(&AtomicU64)) -> io::Result<()> {
        let memory = map(&self.known, BUCKETS * size_of::<Bucket>())?;
        (0..BUCKETS * BUCKET)
            .map(|index| number_64(&memory, index * 8))
            .for_each(take);
        Ok(())
    }
}

/// Marks threads. It shares their states with the kernel, a megabyte, for as long as it lives.
pub struct Marker<'a> {
    marks: &'a Shared,
    threads: Mapping,
}

impl Marker<'_> {
    /// Profiles a thread. False if another one is in its place, or it was marked before.
    #[must_use]
    pub fn mark(&self, tid: u32, workload: WorkloadNumber) -> bool {
        let (mark, owner, history) = self.places(tid);
        if mark.load(Ordering::Acquire) != 0 && owner.load(Ordering::Relaxed) != 0 {
            return false;
        }
        owner.store(tid, Ordering::Relaxed);
        history.store(NO_HISTORY, Ordering::Relaxed);
        mark.store(workload.0, Ordering::Release);
        // What it was passed by before does not hold any more.
        number_64(&self.marks.memory, offset_of!(Marks, generation)).fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Takes back the mark of a thread that has ended meanwhile.
    pub fn unmark(&self, tid: u32) {
        let (mark, owner, _) = self.places(tid);
        if owner.load(Ordering::Relaxed) == tid {
            mark.store(0, Ordering::Release);
            owner.store(0, Ordering::Relaxed);
        }
    }

    fn places(&self, tid: u32) -> (&AtomicU8, &AtomicU32, &AtomicU64) {
        let index = tid as usize % THREADS;
        let state = index * size_of::<ThreadState>();
        (
            byte(&self.marks.memory, offset_of!(Marks, marks) + index),
            number_32(&self.threads, state + offset_of!(ThreadState, tid)),
            number_64(&self.threads, state + offset_of!(ThreadState, history)),
        )
    }
}

impl Workloads {
    /// What the kernel says of one.
    #[must_use]
    pub fn get(&self, workload: WorkloadNumber) -> Knowledge {
        let from = usize::from(workload.0) * size_of::<WorkloadState>();
        let states = &self.states.memory;
        let number = |offset| number_32(states, from + offset).load(Ordering::Relaxed);
        let learned_at =
            number_64(states, from + offset_of!(WorkloadState, learned_at)).load(Ordering::Relaxed);
        let counts = self.counts.get(&u32::from(workload.0), 0);
        Knowledge {
            windows: number(offset_of!(WorkloadState, windows)),
            learned_at: BootTime(learned_at),
            enforced: number(offset_of!(WorkloadState, enforced)) != 0,
            unstored: counts.map_or(0, |counts| counts.iter().map(|cpu| cpu.0.unstored).sum()),
        }
    }
}

impl Shared {
    fn new(data: MapData, length: usize) -> Result<Self, MapError> {
        let memory = map(&data, length).map_err(not_mapped)?;
        Ok(Self { memory, _map: data })
    }
}

fn map(data: &MapData, length: usize) -> io::Result<Mapping> {
    // A length that is no whole number of pages is rounded up, by the kernel on both sides.
    Mapping::new(data.fd().as_fd(), length, ProtFlags::READ | ProtFlags::WRITE, 0)
}

/// Puts a key where kernel programs look for it. False if there is no room.
fn put(memory: &Mapping, key: u64) -> bool {
    let places = || {
        let buckets = [bucket(key), other_bucket(key)].into_iter();
        buckets.flat_map(|bucket| (0..BUCKET).map(move |index| (bucket as usize * BUCKET + index) * 8))
    };
    let is_there = places().any(|at| number_64(memory, at).load(Ordering::Relaxed) == key);
    is_there
        || places().any(|at| {
            number_64(memory, at)
                .compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        })
}

fn byte(memory: &Mapping, at: usize) -> &AtomicU8 {
    // SAFETY: `at` is within the mapping, which lives as long as the reference; whoever else writes there writes it whole.
    unsafe { AtomicU8::from_ptr(memory.at(at)) }
}

fn number_32(memory: &Mapping, at: usize) -> &AtomicU32 {
    // SAFETY: as for a byte; fields are aligned in their types, and those in the mapping, which begins with a page.
    unsafe { AtomicU32::from_ptr(memory.at(at).cast()) }
}

fn number_64(memory: &Mapping, at: usize) -> &AtomicU64 {
    // SAFETY: as for the smaller numbers.
    unsafe { AtomicU64::from_ptr(memory.at(at).cast()) }
}

fn array(map: Map) -> Result<MapData, MapError> {
    match map {
        Map::Array(data) => Ok(data),
        _ => Err(MapError::InvalidName {
            name: "a map that is no array".to_owned(),
        }),
    }
}
