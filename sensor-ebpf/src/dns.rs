//! Messages between clients on this host and servers of the domain name system, copied for the agent to read.
//!
//! The client's side alone: what is sent to port 53, and what comes from it.

use sensor_common::{
    Dns, Signal,
    record::{DNS_MAX, DatagramFlow, DatagramKey, flow_flags},
};

use crate::{emit, kernel::bounded, udp::Datagram};

/// Where servers listen.
pub const PORT: u16 = 53;

/// A record with room for `N` bytes of the message: a reservation has a constant size.
#[repr(C)]
struct Message<const N: usize> {
    head: Dns,
    bytes: [u8; N],
}

/// Reports a message. `copy` copies so many bytes of it to an address, and fails where they cannot be read.
#[inline(always)]
pub fn report(
    key: &DatagramKey,
    flow: Option<*mut DatagramFlow>,
    datagram: Datagram,
    copy: impl Fn(*mut u8, u32) -> bool,
) {
    emit::admit_alone(Signal::Dns, |admitted, _| {
        let mut tgid = 0;
        if let Some(flow) = flow {
            // SAFETY: map memory is valid while the program runs.
            tgid = unsafe { (*flow).owner.tgid };
        }
        let Some(admitted) = admitted.unless_own(tgid) else {
            return;
        };
        match datagram.length as usize {
            0..=128 => submit::<128>(admitted, key, flow, datagram, copy),
            129..=512 => submit::<512>(admitted, key, flow, datagram, copy),
            _ => submit::<DNS_MAX>(admitted, key, flow, datagram, copy),
        }
    });
}

#[inline(always)]
fn submit<const N: usize>(
    admitted: emit::Admitted,
    key: &DatagramKey,
    flow: Option<*mut DatagramFlow>,
    datagram: Datagram,
    copy: impl Fn(*mut u8, u32) -> bool,
) {
    admitted.submit::<Message<N>>(|record| {
        // SAFETY: the record is valid for writes, the flow while the program runs.
        unsafe {
            let head = &raw mut (*record).body.head;
            match flow {
                Some(flow) => {
                    core::ptr::copy_nonoverlapping(
                        &raw const (*flow).owner,
                        &raw mut (*record).header.identity,
                        1,
                    );
                    (*head).flags = (*flow).counts.flags;
                }
                None => {
                    (*record).header.identity = Default::default();
                    (*head).flags = flow_flags::NO_OWNER;
                }
            }
            core::ptr::copy_nonoverlapping(key, &raw mut (*head).key, 1);
            (*head).sent = u32::from(datagram.sent);
            (*head).total = datagram.length;
            let length = bounded::<N>(datagram.length);
            let copied = datagram.length != 0 && copy((&raw mut (*record).body.bytes).cast(), length);
            (*head).length = if copied { length } else { 0 };
        }
    });
}
