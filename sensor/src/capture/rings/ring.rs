//! One BPF ring, read in place.
//!
//! The kernel's layout (`Documentation/bpf/ringbuf.rst`): a page with the consumer's position, a page with the
//! producer's, then the data, mapped twice in a row so that no record is ever split. Each record has eight bytes before
//! it: its length, with a bit that says that it is still being written, and one that says that it was taken back. Positions
//! only grow; where they lie in the data is their remainder.
//!
//! A reader of our own, because the order of events hangs on what a general one hides: up to where records have been
//! *reserved*, whether or not they are written yet.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::MapData;
use rustix::mm::ProtFlags;

use crate::capture::mapping::Mapping;

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const RECORD_HEADER: usize = 8;

/// The reading end. There must be one at most for each ring.
pub(super) struct Ring {
    map: MapData,
    consumer: Mapping,
    producer: Mapping,
    /// Bytes of data: a power of two.
    size: usize,
    /// Where the data begins within `producer`.
    data: usize,
    /// Everything before this was handed out. The kernel is told by [`Ring::free`].
    position: u64,
}

impl Ring {
    /// Maps a ring of `size` bytes, a power of two.
    ///
    /// # Errors
    /// If the kernel refuses the mapping, mostly for want of memory.
    pub(super) fn new(map: MapData, size: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let fd = map.fd().as_fd();
        let consumer = Mapping::new(fd, page, ProtFlags::READ | ProtFlags::WRITE, 0)?;
        let producer = Mapping::new(fd, page + 2 * size, ProtFlags::READ, page as u64)?;
        Ok(Self {
            map,
            consumer,
            producer,
            size,
            data: page,
            position: 0,
        })
    }

    /// Everything before this position has been reserved.
    pub(super) fn reserved(&self) -> u64 {
        // SAFETY: the position lies at the beginning of the mapping, which is page-aligned; the kernel writes it whole.
        unsafe { AtomicU64::from_ptr(self.producer.at(0).cast()) }.load(Ordering::Acquire)
    }

    /// Bytes that were reserved and not handed out.
    pub(super) fn waiting(&self) -> u64 {
        self.reserved().wrapping_sub(self.position)
    }

    /// Hands out the records before position `end`, which [`Ring::reserved`] gave. False if it met one that is not
    /// written yet: that one and what follows stay.
    pub(super) fn read(&mut self, end: u64, mut take: impl FnMut(&[u8])) -> bool {
        while self.position < end {
            let begin = self.data + (self.position as usize & (self.size - 1));
            // SAFETY: records begin on multiples of eight bytes, and up to `end` the kernel has written their headers.
            let header =
                unsafe { AtomicU32::from_ptr(self.producer.at(begin).cast()) }.load(Ordering::Acquire);
            if header & BUSY != 0 {
                return false;
            }
            let length = (header & !DISCARDED) as usize;
            let whole = (RECORD_HEADER + length).next_multiple_of(8);
            if whole > self.size {
                // The kernel never writes that; nothing sensible can follow.
                self.position = end;
                return true;
            }
            if header & DISCARDED == 0 {
                // SAFETY: the record is written and stays until `free`; the data is mapped twice, so that no record
                // of at most `size` bytes leaves the mapping.
                take(unsafe { std::slice::from_raw_parts(self.producer.at(begin + RECORD_HEADER), length) });
            }
            self.position += whole as u64;
        }
        true
    }

    /// Gives back the room of what was handed out.
    pub(super) fn free(&self) {
        // SAFETY: as in `reserved`; this side alone writes the consumer's position.
        unsafe { AtomicU64::from_ptr(self.consumer.at(0).cast()) }.store(self.position, Ordering::Release);
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }
}
