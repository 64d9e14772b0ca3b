//! Flows of datagrams: taken out of the kernel's table when they pause, and made into records.
//!
//! A look at the table is bounded: so many entries a second, the next time from where it stopped. A flow is therefore reported
//! some seconds after its pause is long enough, at most [`PASS`] of them. While the table is nearly full, a tenth of the pause is enough.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use aya::maps::{Map, MapData, MapError};
use sensor_common::{
    Header, Signal, UdpFlow,
    record::{DATAGRAM_FLOWS, DatagramCounts, DatagramFlow, DatagramKey, FlowEnd},
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::syscall::{
    BPF_MAP_DELETE_ELEM, BPF_MAP_LOOKUP_AND_DELETE_ELEM, BPF_MAP_LOOKUP_BATCH, BPF_MAP_LOOKUP_ELEM, bpf,
};
use crate::time::BootTime;

/// Entries that are looked at in one call.
const BATCH: usize = 2048;

/// Looks for one pass through a full table.
const PASS: u32 = 4;

/// Entries above which the table counts as nearly full.
const CROWDED: usize = DATAGRAM_FLOWS as usize / 4 * 3;

/// When flows are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimes {
    /// A flow has ended after a pause of this length.
    pub idle: Duration,
    /// A flow that goes on is reported after this time, and counted anew.
    pub active: Duration,
}

/// The kernel's table.
pub(super) struct Datagrams {
    map: MapData,
    times: FlowTimes,
    /// Where the next look begins; `None`: at the beginning.
    position: Option<u32>,
    /// Entries in this pass so far, and in the whole of the last one.
    passed: usize,
    last_pass: usize,
    keys: Vec<DatagramKey>,
    flows: Vec<DatagramFlow>,
}

/// A flow that is over, or counted for long enough: a record, as it would lie in a ring.
pub(super) type FlowRecord = [u64; (size_of::<Header>() + size_of::<UdpFlow>()) / size_of::<u64>()];

impl Datagrams {
    pub(super) fn new(map: Map, times: FlowTimes) -> Result<Self, MapError> {
        let Map::HashMap(map) = map else {
            return Err(MapError::KeyNotFound);
        };
        Ok(Self {
            map,
            times,
            position: None,
            passed: 0,
            last_pass: 0,
            keys: Vec::new(),
            flows: Vec::new(),
        })
    }

    /// Takes out what is due at `now`. To be called once a second.
    pub(super) fn due(&mut self, now: BootTime, mut take: impl FnMut(&FlowRecord)) {
        let looks = DATAGRAM_FLOWS as usize / BATCH / PASS as usize;
        for _ in 0..looks {
            if !self.look(|times, flow| times.end(&flow.counts, now), now, &mut take) {
                return;
            }
        }
    }

    /// Takes out everything: for the end.
    pub(super) fn rest(&mut self, now: BootTime, mut take: impl FnMut(&FlowRecord)) {
        self.position = None;
        // What is added meanwhile must not keep the agent from its end.
        for _ in 0..2 * DATAGRAM_FLOWS as usize / BATCH {
            if !self.look(|_, _| Some(FlowEnd::Forced), now, &mut take) {
                return;
            }
        }
    }

    /// Looks at some entries. False at the end of a pass.
    fn look(
        &mut self,
        end: impl Fn(FlowTimes, &DatagramFlow) -> Option<FlowEnd>,
        now: BootTime,
        take: &mut impl FnMut(&FlowRecord),
    ) -> bool {
        let mut times = self.times;
        if self.last_pass > CROWDED {
            times.idle /= 10;
        }
        // Held only while there is something: a quiet host pays nothing for the table.
        self.keys.resize(BATCH, DatagramKey::default());
        self.flows.resize_with(BATCH, DatagramFlow::default);
        let (count, more) = match self.read_batch() {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!("cannot read the table of datagram flows: {error}; it is tried again");
                (0, false)
            }
        };
        for index in 0..count {
            if let Some(end) = end(times, &self.flows[index])
                && let Some(flow) = self.remove(self.keys[index])
            {
                take(&record(self.keys[index], flow, end, now));
            }
        }
        self.passed += count;
        if !more {
            self.last_pass = std::mem::take(&mut self.passed);
            self.position = None;
            (self.keys, self.flows) = (Vec::new(), Vec::new());
        }
        more
    }

    /// Reads the next entries. How many, and whether there are more.
    fn read_batch(&mut self) -> io::Result<(usize, bool)> {
        let mut next = 0_u32;
        let mut attribute = Batch {
            from: self
                .position
                .as_ref()
                .map_or(0, |position| std::ptr::from_ref(position) as u64),
            next: &raw mut next as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.flows.as_mut_ptr() as u64,
            count: BATCH as u32,
            map: self.descriptor(),
            ..Batch::new_zeroed()
        };
        // SAFETY: both arrays hold a batch, and the positions live as long as this.
        let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attribute) };
        let count = (attribute.count as usize).min(BATCH);
        match result {
            Ok(_) => {
                self.position = Some(next);
                Ok((count, true))
            }
            // The end of the table.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((count, false)),
            Err(error) => Err(error),
        }
    }

    /// Takes one out, with all that was counted.
    ///
    /// Before 5.14 it is read and removed in two steps: of a datagram between the two, after a pause, the flow that it begins is
    /// counted but not itself.
    fn remove(&mut self, key: DatagramKey) -> Option<DatagramFlow> {
        let mut flow = DatagramFlow::default();
        let mut attribute = Element {
            map: self.descriptor(),
            key: &raw const key as u64,
            value: &raw mut flow as u64,
            ..Element::new_zeroed()
        };
        // SAFETY: the addresses are of a key and a value of this map.
        let call = |command, attribute: &mut Element| unsafe { bpf(command, attribute) };
        match call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attribute) {
            Ok(_) => return Some(flow),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return None,
            Err(_) => {}
        }
        call(BPF_MAP_LOOKUP_ELEM, &mut attribute).ok()?;
        // What a command does not read must be zero.
        attribute.value = 0;
        call(BPF_MAP_DELETE_ELEM, &mut attribute).ok()?;
        Some(flow)
    }

    fn descriptor(&self) -> u32 {
        self.map.fd().as_fd().as_raw_fd() as u32
    }
}

impl FlowTimes {
    fn end(self, counts: &DatagramCounts, now: BootTime) -> Option<FlowEnd> {
        if now.since(BootTime(counts.last_time)) >= self.idle {
            return Some(FlowEnd::Idle);
        }
        (now.since(BootTime(counts.first_time)) >= self.active).then_some(FlowEnd::Active)
    }
}

fn record(key: DatagramKey, flow: DatagramFlow, end: FlowEnd, now: BootTime) -> FlowRecord {
    let mut record = FlowRecord::default();
    let bytes = record.as_mut_bytes();
    let header = Header {
        time: now.0,
        length: bytes.len() as u32,
        signal: Signal::UdpFlow as u16,
        identity: flow.owner,
        ..Header::default()
    };
    let counts = DatagramCounts {
        end: end as u32,
        ..flow.counts
    };
    let (head, body) = bytes.split_at_mut(size_of::<Header>());
    head.copy_from_slice(header.as_bytes());
    body.copy_from_slice(UdpFlow { key, counts }.as_bytes());
    record
}

// The parts of `union bpf_attr` that the commands read.

#[derive(zerocopy::FromBytes)]
#[repr(C)]
struct Batch {
    from: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[derive(zerocopy::FromBytes)]
#[repr(C)]
struct Element {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_ends_when_it_pauses_or_has_been_counted_for_long() {
        let times = FlowTimes {
            idle: Duration::from_secs(30),
            active: Duration::from_secs(300),
        };
        let second = 1_000_000_000;
        let counts = |first: u64, last: u64| DatagramCounts {
            first_time: first * second,
            last_time: last * second,
            ..DatagramCounts::default()
        };
        for (first, last, now, end) in [
            (100, 100, 129, None),
            (100, 100, 130, Some(FlowEnd::Idle)),
            (100, 399, 399, None),
            (100, 399, 400, Some(FlowEnd::Active)),
            // A datagram that was counted while the agent looked at its clock.
            (100, 101, 99, None),
        ] {
            assert_eq!(
                times.end(&counts(first, last), BootTime(now * second)),
                end,
                "{first} {last} {now}"
            );
        }
    }

    #[test]
    fn a_flow_becomes_a_record_that_can_be_read() {
        let mut flow = DatagramFlow::default();
        flow.owner.tgid = 7;
        flow.counts.bytes_sent = 9;
        let record = record(DatagramKey::default(), flow, FlowEnd::Idle, BootTime(5));
        let read = crate::capture::record::Record::decode(record.as_bytes()).unwrap();
        assert_eq!((read.header.identity.tgid, read.header.time), (7, 5));
        let crate::capture::record::RecordBody::UdpFlow(body) = read.body else {
            panic!("read as {read:?}");
        };
        assert_eq!(
            (body.counts.bytes_sent, body.counts.end),
            (9, FlowEnd::Idle as u32)
        );
    }
}
