//! TCP connections, from the socket's own state changes: no work per packet.
//!
//! A state changes in the process that asked for it (connect, listen, close) or in whatever the CPU was doing when
//! a segment came in. Who owns a connection is therefore kept from the moments at which it is known.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, generated::bpf_skc_to_tcp_sock},
    macros::{btf_tracepoint, fexit, map},
    maps::{LruHashMap, PerCpuArray},
    programs::{BtfTracePointContext, FExitContext},
};
use sensor_common::{
    Accept, Connect, FlowClose, Identity, Listen, MuteKind, Signal, Tuple,
    layout::ABSENT,
    record::{ListenerKey, flow_flags},
};

use crate::{
    emit::{self, Admitted},
    filter, identity,
    kernel::{Access, Address, Direct, features, offset},
};

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
const SOCK_DONE: u64 = 1 << 1;

// include/net/tcp_states.h
const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const SYN_RECV: i32 = 3;
const FIN_WAIT1: i32 = 4;
const CLOSE: i32 = 7;
const LAST_ACK: i32 = 9;
const LISTEN: i32 = 10;

/// Who a connection belongs to.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Owner {
    pub identity: Identity,
    pub start_time: u64,
    /// When what it has carried was reported last; 0 where it was not.
    pub reported: u64,
    pub flags: u64,
}

/// Connections that are open, by socket. The oldest is pushed out when there are too many: its end is then
/// reported without an owner.
#[map]
pub static FLOWS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(65_536, 0);

/// Whose scratch memory. Before 6.1 a segment that comes in may interrupt the program in a process that connects, and run it again.
#[derive(Clone, Copy)]
enum Caller {
    TcpState = 0,
    TcpAccept = 1,
    TcpInbound = 2,
}

/// An owner under construction; it would crowd the stack.
#[map]
static SCRATCH: PerCpuArray<Owner> = PerCpuArray::with_max_entries(3, 0);

/// Sockets that listen, so that a connection is known to somebody before it is accepted. The agent adds those that
/// were there before it. The longest unused is pushed out where a full map would refuse a new listener.
#[map]
static LISTENERS: LruHashMap<ListenerKey, Identity> = LruHashMap::with_max_entries(16_384, 0);

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn tcp_state(ctx: BtfTracePointContext) -> i32 {
    let sock: Address = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    match (old, new) {
        (CLOSE, SYN_SENT) => connect(sock),
        (CLOSE, LISTEN) => listen(sock),
        (LISTEN, CLOSE) => forget_listener(sock),
        (SYN_RECV, ESTABLISHED) => established_inbound(sock),
        (_, FIN_WAIT1 | LAST_ACK) => adopt(sock),
        (_, CLOSE) => close(sock, old),
        _ => {}
    }
    0
}

/// `struct sock *inet_csk_accept(struct sock *sk, …)`: the process that takes the connection is known here.
#[fexit(function = "inet_csk_accept")]
pub fn tcp_accept(ctx: FExitContext) -> i32 {
    // The return value lies behind the arguments: two of them since 6.10, four before.
    // SAFETY: the verifier checks the offset against the function's prototype.
    let sock = unsafe {
        if features().accept_arguments == 2 {
            argument::<2>(&ctx)
        } else {
            argument::<4>(&ctx)
        }
    };
    if !sock.is_null() {
        accepted(sock);
    }
    0
}

/// Argument number `N`, loaded at a fixed offset from the context. The verifier accepts nothing else, and the compiler would
/// join two such loads into one at a computed address.
#[inline(always)]
unsafe fn argument<const N: usize>(ctx: &FExitContext) -> Address {
    let value: Address;
    // SAFETY: a load that the verifier checks.
    unsafe {
        core::arch::asm!(
            "{value} = *(u64 *)({context} + {offset})",
            value = out(reg) value,
            context = in(reg) ctx.as_ptr(),
            offset = const N * 8,
            options(pure, readonly, nostack),
        );
    }
    value
}

/// The current task as the owner of a connection that begins now.
#[inline(always)]
fn current_owner(caller: Caller, flags: u32) -> Option<&'static mut Owner> {
    read_current(caller as u32);
    let owner = SCRATCH.get_ptr_mut(caller as u32)?;
    // SAFETY: the entry is this CPU's and the caller's own.
    let owner = unsafe { &mut *owner };
    owner.start_time = now();
    owner.reported = 0;
    owner.flags = u64::from(flags);
    Some(owner)
}

/// A function of its own, verified once, by itself, with a stack of its own.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn read_current(caller: u32) -> u32 {
    let Some(owner) = SCRATCH.get_ptr_mut(caller) else {
        return 0;
    };
    // SAFETY: the entry is this CPU's and the caller's own.
    unsafe { identity::write_current(&raw mut (*owner).identity) };
    1
}

#[inline(always)]
fn connect(sock: Address) {
    let Some(owner) = current_owner(Caller::TcpState, 0) else {
        return;
    };
    let _ = FLOWS.insert(key(sock), &*owner, 0);
    let Some(admitted) = emit::admit(Signal::Connect) else {
        return;
    };
    let Some(admitted) = unless_muted(admitted, sock, &owner.identity) else {
        return;
    };
    admitted.submit::<Connect>(|record| {
        // SAFETY: the record is valid for writes; the socket is one by the tracepoint's prototype.
        unsafe {
            copy(&raw const owner.identity, &raw mut (*record).header.identity);
            (*record).body.socket = key(sock);
            (*record).body.reserved = 0;
            write_tuple(sock, &raw mut (*record).body.tuple);
        }
    });
}

#[inline(always)]
fn listen(sock: Address) {
    let Some(owner) = current_owner(Caller::TcpState, 0) else {
        return;
    };
    // SAFETY: the socket is one by the tracepoint's prototype.
    let local = unsafe { listener_key(sock, Direct::load(sock, offset!(sock_num))) };
    let _ = LISTENERS.insert(local, &owner.identity, 0);
    let Some(admitted) = emit::admit(Signal::Listen) else {
        return;
    };
    let Some(admitted) = unless_muted(admitted, sock, &owner.identity) else {
        return;
    };
    admitted.submit::<Listen>(|record| {
        // SAFETY: the record is valid for writes.
        unsafe {
            copy(&raw const owner.identity, &raw mut (*record).header.identity);
            write_tuple(sock, &raw mut (*record).body.tuple);
            (*record).body.tuple.remote_address = [0; 16];
            (*record).body.tuple.remote_port = 0;
            (*record).body.backlog = Direct::load(sock, offset!(sock_max_ack_backlog));
        }
    });
}

#[inline(always)]
fn forget_listener(sock: Address) {
    // SAFETY: the socket is one by the tracepoint's prototype; the helper returns null unless it is a full TCP one.
    unsafe {
        let tcp: Address = bpf_skc_to_tcp_sock(sock.cast_mut().cast()).cast_const().cast();
        if tcp.is_null() {
            return;
        }
        let _ = LISTENERS.remove(listener_key(sock, source_port(tcp)));
    }
}

/// A handshake that another host began is complete. Nobody has accepted it yet: it is the listener's, until the
/// process that closes it (or, on a better rung, accepts it) is seen.
#[inline(always)]
fn established_inbound(sock: Address) {
    // SAFETY: the socket is one by the tracepoint's prototype; map memory is valid while the program runs.
    unsafe {
        let Some(owner) = SCRATCH.get_ptr_mut(Caller::TcpInbound as u32) else {
            return;
        };
        (*owner).start_time = now();
        (*owner).reported = 0;
        (*owner).flags = u64::from(flow_flags::INBOUND | flow_flags::LISTENER);
        let mut local = listener_key(sock, Direct::load(sock, offset!(sock_num)));
        let mut listener = LISTENERS.get_ptr(local);
        if listener.is_none() {
            local.address = [0; 16];
            listener = LISTENERS.get_ptr(local);
        }
        match listener {
            Some(listener) => copy(listener, &raw mut (*owner).identity),
            None => {
                (*owner).identity = Identity::default();
                (*owner).flags |= u64::from(flow_flags::NO_OWNER);
            }
        }
        let _ = FLOWS.insert(key(sock), &*owner, 0);
        if emit::settings().is_none_or(|settings| settings.is_taken_over(Signal::Accept)) {
            return;
        }
        emit::admit_alone(Signal::Accept, |admitted, _| {
            if let Some(admitted) = unless_muted(admitted, sock, &(*owner).identity) {
                submit_accept(admitted, sock, &*owner);
            }
        });
    }
}

#[inline(always)]
fn accepted(sock: Address) {
    // SAFETY: the socket is one by the function's prototype; map memory is valid while the program runs.
    unsafe {
        let Some(owner) = current_owner(Caller::TcpAccept, flow_flags::INBOUND) else {
            return;
        };
        if let Some(known) = FLOWS.get_ptr(key(sock)) {
            owner.start_time = (*known).start_time;
        }
        let _ = FLOWS.insert(key(sock), &*owner, 0);
        let Some(admitted) = emit::admit(Signal::Accept) else {
            return;
        };
        let Some(admitted) = unless_muted(admitted, sock, &owner.identity) else {
            return;
        };
        submit_accept(admitted, sock, owner);
    }
}

#[inline(always)]
unsafe fn submit_accept(admitted: Admitted, sock: Address, owner: &Owner) {
    admitted.submit::<Accept>(|record| {
        // SAFETY: the record is valid for writes; the socket is one, as the caller promises.
        unsafe {
            copy(&raw const owner.identity, &raw mut (*record).header.identity);
            (*record).body.socket = key(sock);
            (*record).body.flags = owner.flags as u32;
            write_tuple(sock, &raw mut (*record).body.tuple);
        }
    });
}

/// This end closes, in the process that does: better than the listener that the connection was given to.
#[inline(always)]
fn adopt(sock: Address) {
    let Some(owner) = FLOWS.get_ptr_mut(key(sock)) else {
        return;
    };
    let listener = u64::from(flow_flags::LISTENER | flow_flags::NO_OWNER);
    // SAFETY: map memory is valid while the program runs; the socket is held by its closer.
    unsafe {
        if (*owner).flags & listener == 0 {
            return;
        }
        if (*owner).identity.tgid != current_tgid()
            && let Some(current) = current_owner(Caller::TcpState, 0)
        {
            copy(&raw const current.identity, &raw mut (*owner).identity);
        }
        (*owner).flags &= !listener;
    }
}

/// Mutes it if the agent itself did it, or if a rule mutes who did it or where the other end is.
#[inline(always)]
pub fn unless_muted(admitted: Admitted, sock: Address, identity: &Identity) -> Option<Admitted> {
    unless_muted_there(admitted.unless_muted(identity)?, sock)
}

/// Mutes it if a rule mutes where the other end is.
#[inline(always)]
fn unless_muted_there(admitted: Admitted, sock: Address) -> Option<Admitted> {
    let settings = admitted.settings();
    if !settings.has(MuteKind::Network) {
        return Some(admitted);
    }
    // SAFETY: the socket is one by the hook's prototype.
    let remote = unsafe {
        let family: u16 = Direct::load(sock, offset!(sock_family));
        address(sock, family, offset!(sock_daddr), offset!(sock_v6_daddr))
    };
    admitted.unless_by(filter::network(&remote))
}

#[inline(always)]
fn close(sock: Address, old: i32) {
    let known = FLOWS.get_ptr(key(sock));
    // A handshake that never came to anything on the accepting side is nobody's connection.
    if known.is_none() && (old == SYN_RECV || old == CLOSE) {
        return;
    }
    emit::admit_alone(Signal::FlowClose, |admitted, _| {
        closed(admitted, sock, old, known)
    });
    let _ = FLOWS.remove(key(sock));
}

#[inline(always)]
fn closed(admitted: Admitted, sock: Address, old: i32, known: Option<*const Owner>) {
    let admitted = match known {
        // SAFETY: map memory is valid while the program runs.
        Some(owner) => unless_muted(admitted, sock, unsafe { &(*owner).identity }),
        None => unless_muted_there(admitted, sock),
    };
    if let Some(admitted) = admitted {
        admitted.submit::<FlowClose>(|record| {
            // SAFETY: the record is valid for writes; the socket is one by the tracepoint's prototype.
            unsafe {
                let body = &raw mut (*record).body;
                match known {
                    Some(owner) => {
                        copy(&raw const (*owner).identity, &raw mut (*record).header.identity);
                        (*body).start_time = (*owner).start_time;
                        (*body).flags = (*owner).flags as u32;
                    }
                    None => {
                        (*record).header.identity = Identity::default();
                        (*body).start_time = 0;
                        (*body).flags = flow_flags::NO_OWNER;
                    }
                }
                // An attempt that failed ends in the state in which it waited for its answer.
                if old != SYN_SENT {
                    (*body).flags |= flow_flags::ESTABLISHED;
                }
                (*body).socket = key(sock);
                write_tuple(sock, &raw mut (*body).tuple);
                write_totals(sock, body);
            }
        });
    }
}

/// The socket's own counters, and the local port that [`write_tuple`] cannot see any more.
#[inline(always)]
pub unsafe fn write_totals(sock: Address, out: *mut FlowClose) {
    // SAFETY: the helper returns null unless the socket is a full TCP one.
    unsafe {
        let tcp: Address = bpf_skc_to_tcp_sock(sock.cast_mut().cast()).cast_const().cast();
        if tcp.is_null() {
            (*out).bytes_sent = 0;
            (*out).bytes_received = 0;
            (*out).segments_sent = 0;
            (*out).segments_received = 0;
            (*out).retransmits = 0;
            (*out).rtt_us = 0;
            return;
        }
        let sent: u64 = Direct::load(tcp, offset!(tcp_bytes_sent));
        let again: u64 = Direct::load(tcp, offset!(tcp_bytes_retrans));
        (*out).bytes_sent = sent.wrapping_sub(again);
        let received: u64 = Direct::load(tcp, offset!(tcp_bytes_received));
        // The kernel counts the other end's FIN as a byte.
        let flags: u64 = Direct::load(sock, offset!(sock_flags));
        let fin = if flags & SOCK_DONE != 0 && received != 0 {
            1
        } else {
            0
        };
        (*out).bytes_received = received - fin;
        (*out).segments_sent = Direct::load(tcp, offset!(tcp_segs_out));
        (*out).segments_received = Direct::load(tcp, offset!(tcp_segs_in));
        (*out).retransmits = Direct::load(tcp, offset!(tcp_total_retrans));
        // Kept as eighths of a microsecond.
        let srtt: u32 = Direct::load(tcp, offset!(tcp_srtt_us));
        (*out).rtt_us = srtt >> 3;
        (*out).tuple.local_port = source_port(tcp);
    }
}

/// This end's port, also where the kernel chose it: `skc_num` is cleared before such a socket is reported closed.
#[inline(always)]
unsafe fn source_port(tcp: Address) -> u16 {
    // SAFETY: the address is that of a TCP socket, as the caller promises.
    let port: u16 = unsafe { Direct::load(tcp, offset!(tcp_sport)) };
    u16::from_be(port)
}

/// Both ends, every byte of `out`.
#[inline(always)]
pub unsafe fn write_tuple(sock: Address, out: *mut Tuple) {
    // SAFETY: the socket is one and `out` is valid for writes, as the caller promises.
    unsafe {
        let family: u16 = Direct::load(sock, offset!(sock_family));
        (*out).family = family;
        (*out).local_port = Direct::load(sock, offset!(sock_num));
        let remote_port: u16 = Direct::load(sock, offset!(sock_dport));
        (*out).remote_port = u16::from_be(remote_port);
        (*out).local_address = address(sock, family, offset!(sock_rcv_saddr), offset!(sock_v6_rcv_saddr));
        (*out).remote_address = address(sock, family, offset!(sock_daddr), offset!(sock_v6_daddr));
        (*out).reserved = 0;
        let net: Address = Direct::load(sock, offset!(sock_net));
        (*out).net_ns = Direct::load(net, offset!(net_inum));
    }
}

/// An address as IPv6, or IPv4-mapped.
#[inline(always)]
unsafe fn address(sock: Address, family: u16, v4: u32, v6: u32) -> [u8; 16] {
    // SAFETY: any bytes are an address.
    unsafe {
        if family == AF_INET6 && v6 != ABSENT {
            let high: u64 = Direct::load(sock, v6);
            let low: u64 = Direct::load(sock, v6.wrapping_add(8));
            return core::mem::transmute::<[u64; 2], [u8; 16]>([high, low]);
        }
        if family != AF_INET {
            return [0; 16];
        }
        let address: u32 = Direct::load(sock, v4);
        core::mem::transmute::<[u32; 4], [u8; 16]>([0, 0, 0xffff_0000_u32, address])
    }
}

/// The local end at `port`; an unspecified address is written as zeroes in either family.
#[inline(always)]
unsafe fn listener_key(sock: Address, port: u16) -> ListenerKey {
    // SAFETY: the socket is one, as the caller promises.
    unsafe {
        let family: u16 = Direct::load(sock, offset!(sock_family));
        let net: Address = Direct::load(sock, offset!(sock_net));
        let local: [u8; 16] = address(sock, family, offset!(sock_rcv_saddr), offset!(sock_v6_rcv_saddr));
        let words = core::mem::transmute::<[u8; 16], [u32; 4]>(local);
        let unspecified = words[3] == 0 && words[0] == 0 && words[1] == 0;
        ListenerKey {
            address: if unspecified { [0; 16] } else { local },
            net_ns: Direct::load(net, offset!(net_inum)),
            port: u32::from(port),
        }
    }
}

/// Copies word by word: an assignment between places that may overlap becomes a call of `memmove`.
#[inline(always)]
pub unsafe fn copy(from: *const Identity, to: *mut Identity) {
    // SAFETY: the caller's pointers are valid and apart.
    unsafe { core::ptr::copy_nonoverlapping(from, to, 1) }
}

#[inline(always)]
pub fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
pub fn key(sock: Address) -> u64 {
    sock as u64
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}
