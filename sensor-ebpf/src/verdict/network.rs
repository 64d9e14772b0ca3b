//! Ends that are not to be reached, and who is not to reach any.
//!
//! Asking for a connection, or to send to an address, fails in the process that asks (`EPERM`), before there is a packet. What goes out or comes
//! in by the sockets that there are is dropped, so that connections end that began before.
//!
//! These programs see the sockets of the cgroup that they are attached to, in whatever network namespace: not what the host forwards, and not
//! what is sent past the network stack by a packet socket, which only root may open.

use core::ptr;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock_addr},
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_socket_cookie, bpf_skb_ancestor_cgroup_id},
    },
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr},
    programs::{SkBuffContext, SockAddrContext, SockContext},
};
use sensor_common::verdict::{CGROUP_DEPTH, allowed, kinds};

use crate::{
    kernel::opaque,
    maps::{V_ALLOWED, V_CGROUPS, V_ENDS, V_HOST, V_SPARED_ENDS, end, kinds, strikes, value},
    packet::{self, Direction},
    tree,
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;

/// An isolation does not stop this.
const EXEMPT: u32 = 1;
/// Nothing is sent yet, so that this host's own addresses may be asked for.
const ASKED: u32 = 1 << 1;

/// Index of the loopback device, in every network namespace.
const LOOPBACK: u32 = 1;

/// What stands before an IPv4 address that is written as an IPv6 one.
const MAPPED: u32 = 0xffff_u32.to_be();

#[cgroup_sock_addr(connect4)]
pub fn verdict_connect4(ctx: SockAddrContext) -> i32 {
    asked(address4(ctx.sock_addr), ctx.sock_addr)
}

#[cgroup_sock_addr(connect6)]
pub fn verdict_connect6(ctx: SockAddrContext) -> i32 {
    asked(address6(ctx.sock_addr), ctx.sock_addr)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn verdict_sendmsg4(ctx: SockAddrContext) -> i32 {
    asked(address4(ctx.sock_addr), ctx.sock_addr)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn verdict_sendmsg6(ctx: SockAddrContext) -> i32 {
    asked(address6(ctx.sock_addr), ctx.sock_addr)
}

/// A new socket: processes of a tree without a network get none.
#[cgroup_sock(sock_create)]
pub fn verdict_socket(_ctx: SockContext) -> i32 {
    if kinds() & kinds::TREE != 0 && tree::is_stopped(current()) {
        return REFUSE;
    }
    PASS
}

#[cgroup_skb(egress)]
pub fn verdict_egress(ctx: SkBuffContext) -> i32 {
    passing(ctx.skb.skb, Direction::Out)
}

#[cgroup_skb(ingress)]
pub fn verdict_ingress(ctx: SkBuffContext) -> i32 {
    passing(ctx.skb.skb, Direction::In)
}

#[inline(always)]
fn current() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn address4(ctx: *mut bpf_sock_addr) -> [u32; 4] {
    // SAFETY: the context is the kernel's.
    [0, 0, MAPPED, unsafe {
        ptr::read_volatile(&raw const (*ctx).user_ip4)
    }]
}

#[inline(always)]
fn address6(ctx: *mut bpf_sock_addr) -> [u32; 4] {
    // SAFETY: the context is the kernel's, which wants each word read by itself.
    unsafe {
        let words: *const u32 = (&raw const (*ctx).user_ip6).cast();
        [
            ptr::read_volatile(words),
            ptr::read_volatile(words.add(1)),
            ptr::read_volatile(words.add(2)),
            ptr::read_volatile(words.add(3)),
        ]
    }
}

/// Whether an address is of the host itself, wherever one is: loopback, or none at all, which stands for it.
#[inline(always)]
fn is_loopback(address: [u32; 4]) -> bool {
    let last = u32::from_be(address[3]);
    if address[0] != 0 || address[1] != 0 {
        return false;
    }
    match address[2] {
        0 => last <= 1,
        MAPPED => last >> 24 == 127 || last == 0,
        _ => false,
    }
}

/// The current process asks to connect, or to send, to `address`.
#[inline(always)]
fn asked(address: [u32; 4], ctx: *mut bpf_sock_addr) -> i32 {
    let kinds = kinds();
    if kinds & kinds::CGROUP != 0 {
        // SAFETY: the helper takes a number.
        if is_cgroup_stopped(|level| unsafe { bpf_get_current_ancestor_cgroup_id(level) }) {
            return REFUSE;
        }
    }
    if kinds & kinds::TREE != 0 && tree::is_stopped(current()) {
        return REFUSE;
    }
    // SAFETY: the context is the kernel's.
    let port = unsafe { ptr::read_volatile(&raw const (*ctx).user_port) };
    let port = u32::from(u16::from_be(port as u16));
    let flags = if is_loopback(address) {
        ASKED | EXEMPT
    } else {
        ASKED
    };
    judged(kinds, address, port, flags)
}

/// A packet of a socket goes out or comes in.
#[inline(always)]
fn passing(skb: *mut __sk_buff, direction: Direction) -> i32 {
    let kinds = kinds();
    if kinds & kinds::CGROUP != 0 {
        // SAFETY: the context is the kernel's.
        if is_cgroup_stopped(|level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) }) {
            return REFUSE;
        }
    }
    if kinds & kinds::TREE != 0 {
        // SAFETY: as above.
        let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
        if tree::is_socket_stopped(cookie) {
            return REFUSE;
        }
    }
    // SAFETY: as above.
    let (device, packet) = unsafe {
        (
            ptr::read_volatile(&raw const (*skb).ifindex),
            packet::read(skb, direction),
        )
    };
    // What cannot be read is no packet that would arrive anywhere.
    let Some(packet) = packet else { return PASS };
    let exempt = device == LOOPBACK || packet.is_vital;
    judged(kinds, packet.remote, packet.port, if exempt { EXEMPT } else { 0 })
}

#[inline(always)]
fn is_cgroup_stopped(ancestor: impl Fn(i32) -> u64) -> bool {
    let mut level = 1;
    while level < CGROUP_DEPTH as i32 {
        let id = ancestor(level);
        if id == 0 {
            return false;
        }
        // SAFETY: map memory is valid while the program runs.
        if let Some(verdict) = V_CGROUPS.get_ptr_mut(id)
            && unsafe { strikes(verdict) }
        {
            return true;
        }
        level += 1;
    }
    false
}

#[inline(always)]
fn judged(kinds: u32, address: [u32; 4], port: u32, flags: u32) -> i32 {
    let high = u64::from(address[0]) | u64::from(address[1]) << 32;
    let low = u64::from(address[2]) | u64::from(address[3]) << 32;
    // A result that the compiler knows to be 0 or 1 it would turn over, and the verifier does not know it.
    let stopped = is_end_stopped(high, low, port, flags | kinds << 16);
    if opaque(stopped.into()) != 0 { REFUSE } else { PASS }
}

/// Whether an end is not to be reached. `flags` has the kinds of verdicts in its upper half. A function of its own: the verifier checks it once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn is_end_stopped(high: u64, low: u64, port: u32, flags: u32) -> u32 {
    let address = [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32];
    if (flags >> 16) & kinds::END != 0
        && (is_named(address, port, port) || port != 0 && is_named(address, 0, port))
    {
        return 1;
    }
    if flags & EXEMPT != 0 {
        return 0;
    }
    let Some(host) = V_HOST.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: map memory is valid while the program runs.
    if unsafe { ptr::read_volatile(&raw const (*host).until) } == 0 {
        return 0;
    }
    let known = value(&V_ALLOWED, address, port);
    if known == allowed::OTHER || known == allowed::OWN && flags & ASKED != 0 {
        return 0;
    }
    if value(&V_SPARED_ENDS, address, port) != 0 {
        return 0;
    }
    // SAFETY: as above.
    u32::from(unsafe { strikes(host) })
}

/// Whether there is a verdict on an end, by its port or by 0 for any, and nothing spares the end.
#[inline(always)]
fn is_named(address: [u32; 4], named: u32, port: u32) -> bool {
    let Some(verdict) = V_ENDS.get(end(address, named)) else {
        return false;
    };
    if value(&V_SPARED_ENDS, address, port) != 0 {
        return false;
    }
    // SAFETY: a value of a map, which programs may write to.
    unsafe { strikes(ptr::from_ref(verdict).cast_mut()) }
}
