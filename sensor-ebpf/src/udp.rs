//! Datagrams between two ends, counted where they are seen ([`datagram`](crate::datagram)) and taken out by the agent when they
//! pause.
//!
//! There is no program at the end of a flow: the agent looks through the table from time to time. A table that is full takes no
//! new flow; each datagram of such a one is reported by itself, so that nothing that was counted is pushed out unseen.
//!
//! Sending happens in the process that sends. Receiving does not, on the lower rung: whose socket it is, is then known from
//! its binding, or from the first datagram that it sends.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{HashMap, LruHashMap},
};
use sensor_common::{
    Identity, Signal, UdpFlow,
    record::{DATAGRAM_FLOWS, DatagramCounts, DatagramFlow, DatagramKey, FlowEnd, flow_flags},
};

use crate::{context::add, emit, identity};

/// What is counted. Memory is taken for each flow as it comes, and not used for another while a program may look at it.
#[map]
static DATAGRAMS: HashMap<DatagramKey, DatagramFlow> =
    HashMap::with_max_entries(DATAGRAM_FLOWS, BPF_F_NO_PREALLOC);

/// Whose a UDP socket is, by its name on this rung. The longest unused is pushed out: until its next datagram leaves, what it
/// receives has no owner.
#[map]
static UDP_SOCKETS: LruHashMap<u64, Identity> = LruHashMap::with_max_entries(8192, 0);

/// A flow that has just begun: too large for the stack, and scratch memory would be shared with a program that interrupts.
#[unsafe(no_mangle)]
static NO_DATAGRAMS: DatagramFlow = DatagramFlow {
    owner: NOBODY,
    counts: DatagramCounts {
        first_time: 0,
        last_time: 0,
        datagrams_sent: 0,
        bytes_sent: 0,
        datagrams_received: 0,
        bytes_received: 0,
        flags: 0,
        end: 0,
    },
};

const NOBODY: Identity = Identity {
    start_time: 0,
    parent_start_time: 0,
    cgroup: 0,
    tgid: 0,
    tid: 0,
    parent_tgid: 0,
    uid: 0,
    gid: 0,
    euid: 0,
    egid: 0,
    login_uid: 0,
    session_id: 0,
    mount_ns: 0,
    pid_ns: 0,
    net_ns: 0,
    flags: 0,
    reserved: 0,
    comm: [0; 16],
};

/// In which process a datagram is seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// In the one whose it is.
    Owner,
    /// In whatever the CPU was doing.
    Any,
}

/// A datagram, or several that travel together.
#[derive(Clone, Copy)]
pub struct Datagram {
    /// Payload bytes.
    pub length: u32,
    /// How many there are.
    pub count: u32,
    /// This end sent it.
    pub sent: bool,
    /// Where it was seen.
    pub context: Context,
}

/// Notes whose socket it is: the current process's.
#[inline(always)]
pub fn note_owner(socket: u64, owner: &Identity) {
    let _ = UDP_SOCKETS.insert(socket, owner, 0);
}

/// Counts a datagram. The flow that it belongs to; `None` where there is no room for it, and the datagram was reported by
/// itself.
#[inline(always)]
pub fn count(key: &DatagramKey, datagram: Datagram) -> Option<*mut DatagramFlow> {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let flow = match DATAGRAMS.get_ptr_mut(key) {
        Some(flow) => flow,
        None => {
            let _ = DATAGRAMS.insert(key, &NO_DATAGRAMS, u64::from(BPF_NOEXIST));
            let Some(flow) = DATAGRAMS.get_ptr_mut(key) else {
                report_alone(key, datagram, now);
                return None;
            };
            // SAFETY: map memory is valid while the program runs.
            unsafe {
                (*flow).counts.first_time = now;
                begin(flow, key.socket, datagram);
            }
            flow
        }
    };
    // SAFETY: map memory is valid while the program runs, and aligned to eight bytes; other CPUs count by atomics too.
    unsafe {
        let counts = &raw mut (*flow).counts;
        (*counts).last_time = now;
        let (datagrams, bytes) = if datagram.sent {
            (&raw mut (*counts).datagrams_sent, &raw mut (*counts).bytes_sent)
        } else {
            (
                &raw mut (*counts).datagrams_received,
                &raw mut (*counts).bytes_received,
            )
        };
        add(datagrams, u64::from(datagram.count));
        add(bytes, u64::from(datagram.length));
        let unsure = flow_flags::LISTENER | flow_flags::NO_OWNER;
        if datagram.context == Context::Owner && (*counts).flags & unsure != 0 {
            identity::write_current_anywhere(&raw mut (*flow).owner);
            note_owner(key.socket, &(*flow).owner);
            (*counts).flags &= !unsure;
        }
    }
    Some(flow)
}

/// Whose a new flow is.
#[inline(always)]
unsafe fn begin(flow: *mut DatagramFlow, socket: u64, datagram: Datagram) {
    let mut flags = if datagram.sent { 0 } else { flow_flags::INBOUND };
    // SAFETY: the caller's flow is valid; map memory is while the program runs.
    unsafe {
        if datagram.context == Context::Owner {
            // The owner is written by the caller, as of any flow whose owner is not sure.
            flags |= flow_flags::NO_OWNER;
        } else if let Some(owner) = UDP_SOCKETS.get_ptr(socket) {
            core::ptr::copy_nonoverlapping(owner, &raw mut (*flow).owner, 1);
            flags |= flow_flags::LISTENER;
        } else {
            flags |= flow_flags::NO_OWNER;
        }
        (*flow).counts.flags = flags;
    }
}

/// A datagram that belongs to no flow that is counted.
#[inline(always)]
fn report_alone(key: &DatagramKey, datagram: Datagram, now: u64) {
    emit::admit_alone(Signal::UdpFlow, |admitted, _| {
        let owner = UDP_SOCKETS.get_ptr(key.socket);
        let mut tgid = 0;
        if let Some(owner) = owner {
            // SAFETY: map memory is valid while the program runs.
            tgid = unsafe { (*owner).tgid };
        }
        let Some(admitted) = admitted.unless_own(tgid) else {
            return;
        };
        admitted.submit::<UdpFlow>(|record| {
            // SAFETY: the record is valid for writes, the owner while the program runs.
            unsafe {
                let mut flags = if datagram.sent { 0 } else { flow_flags::INBOUND };
                match owner {
                    Some(owner) => {
                        core::ptr::copy_nonoverlapping(owner, &raw mut (*record).header.identity, 1);
                        flags |= flow_flags::LISTENER;
                    }
                    None => {
                        core::ptr::copy_nonoverlapping(
                            &raw const NO_DATAGRAMS.owner,
                            &raw mut (*record).header.identity,
                            1,
                        );
                        flags |= flow_flags::NO_OWNER;
                    }
                }
                let body = &raw mut (*record).body;
                core::ptr::copy_nonoverlapping(key, &raw mut (*body).key, 1);
                let counts = &raw mut (*body).counts;
                let (sent, length) = (u64::from(datagram.sent), u64::from(datagram.length));
                (*counts).first_time = now;
                (*counts).last_time = now;
                (*counts).datagrams_sent = u64::from(datagram.count) * sent;
                (*counts).bytes_sent = length * sent;
                (*counts).datagrams_received = u64::from(datagram.count) * (1 - sent);
                (*counts).bytes_received = length * (1 - sent);
                (*counts).flags = flags;
                (*counts).end = FlowEnd::NoRoom as u32;
            }
        });
    });
}
