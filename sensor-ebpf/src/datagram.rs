//! Where datagrams are seen.
//!
//! The upper rung is at functions through which nothing but datagrams goes: `ip_send_skb` and `ip6_send_skb` in the process that
//! sends, `skb_consume_udp` in the one that receives. The lower one is at the root of the cgroup v2 hierarchy, through which every
//! packet of every socket goes: a TCP segment costs it a look at the IP header.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_get_socket_cookie, bpf_probe_read_kernel, bpf_skb_load_bytes},
    macros::{cgroup_skb, fentry},
    programs::{FEntryContext, SkBuffContext},
};
use sensor_common::{Tuple, record::DatagramKey};

use crate::{
    dns,
    kernel::{Access, Address, Direct, Probe, offset},
    network::{AF_INET, AF_INET6},
    udp::{self, Context, Datagram},
};

const IPPROTO_UDP: u8 = 17;

// Offsets in the headers, RFC 791, 8200, 768.
const V4_PROTOCOL: usize = 9;
const V4_LEAST: usize = 20;
const V6_NEXT_HEADER: usize = 6;
const V6_LENGTH: u32 = 40;
const UDP_HEADER: u32 = 8;

/// What lets a packet pass. These programs only watch.
const PASS: i32 = 1;

/// A UDP header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ports {
    source: u16,
    destination: u16,
    length: u16,
    checksum: u16,
}

#[cgroup_skb(egress)]
pub fn datagram_egress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the context is the kernel's.
    unsafe { packet(ctx.skb.skb, true) };
    PASS
}

#[cgroup_skb(ingress)]
pub fn datagram_ingress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the context is the kernel's.
    unsafe { packet(ctx.skb.skb, false) };
    PASS
}

/// `int ip_send_skb(struct net *net, struct sk_buff *skb)`.
#[fentry(function = "ip_send_skb")]
pub fn datagram_send(ctx: FEntryContext) -> i32 {
    let skb: Address = ctx.arg(1);
    // SAFETY: a packet, by the function's prototype.
    unsafe { buffer(Direct::load(skb, offset!(skb_sk)), skb, true) };
    0
}

/// `int ip6_send_skb(struct sk_buff *skb)`.
#[fentry(function = "ip6_send_skb")]
pub fn datagram_send6(ctx: FEntryContext) -> i32 {
    let skb: Address = ctx.arg(0);
    // SAFETY: as above.
    unsafe { buffer(Direct::load(skb, offset!(skb_sk)), skb, true) };
    0
}

/// `void skb_consume_udp(struct sock *sk, struct sk_buff *skb, int len)`: the length is negative where somebody only peeks.
#[fentry(function = "skb_consume_udp")]
pub fn datagram_receive(ctx: FEntryContext) -> i32 {
    let (sock, skb): (Address, Address) = (ctx.arg(0), ctx.arg(1));
    let length: i32 = ctx.arg(2);
    if length >= 0 {
        // SAFETY: a socket and a packet, by the function's prototype.
        unsafe { buffer(sock, skb, false) };
    }
    0
}

/// A packet of any kind, its IP header first.
#[inline(always)]
unsafe fn packet(skb: *mut __sk_buff, sent: bool) {
    // SAFETY: the verifier checks each access to the packet against its end.
    unsafe {
        let data = (*skb).data as usize;
        if data + V4_LEAST > (*skb).data_end as usize {
            return;
        }
        let first = *(data as *const u8);
        let v4 = first >> 4 == 4;
        let protocol = *((data + if v4 { V4_PROTOCOL } else { V6_NEXT_HEADER }) as *const u8);
        if protocol != IPPROTO_UDP {
            return;
        }
        let load = |from: u32, to: *mut u8, length: u32| {
            bpf_skb_load_bytes(skb.cast(), from, to.cast(), length) == 0
        };
        let Some((tuple, length, payload)) = headers(first, sent, &load) else {
            return;
        };
        let key = DatagramKey {
            socket: bpf_get_socket_cookie(skb.cast()),
            tuple,
            reserved: 0,
        };
        let together = (*skb).gso_segs;
        let datagram = Datagram {
            length,
            count: if together == 0 { 1 } else { together },
            sent,
            context: if sent { Context::Owner } else { Context::Any },
        };
        seen(&key, datagram, |to, length| load(payload, to, length));
    }
}

/// A packet with all its headers, in the process that sends or receives it.
#[inline(always)]
unsafe fn buffer(sock: Address, skb: Address, sent: bool) {
    // SAFETY: addresses of the kernel's types by the caller; what is read of the packet goes through `Probe`.
    unsafe {
        let head: Address = Direct::load(skb, offset!(skb_head));
        let network: u16 = Direct::load(skb, offset!(skb_network_header));
        let start = head.wrapping_add(network as usize);
        let first: u8 = Probe::load(start, 0);
        let v4 = first >> 4 == 4;
        let protocol: u8 = Probe::load(start, if v4 { V4_PROTOCOL } else { V6_NEXT_HEADER } as u32);
        if protocol != IPPROTO_UDP {
            return;
        }
        let load = |from: u32, to: *mut u8, length: u32| {
            bpf_probe_read_kernel(to.cast(), length, start.wrapping_add(from as usize).cast()) == 0
        };
        let Some((mut tuple, length, payload)) = headers(first, sent, &load) else {
            return;
        };
        let net: Address = Direct::load(sock, offset!(sock_net));
        tuple.net_ns = Direct::load(net, offset!(net_inum));
        let key = DatagramKey {
            socket: sock as u64,
            tuple,
            reserved: 0,
        };
        let datagram = Datagram {
            length,
            count: 1,
            sent,
            context: Context::Owner,
        };
        seen(&key, datagram, |to, length| load(payload, to, length));
    }
}

#[inline(always)]
fn seen(key: &DatagramKey, datagram: Datagram, copy: impl Fn(*mut u8, u32) -> bool) {
    let flow = udp::count(key, datagram);
    if key.tuple.remote_port == dns::PORT {
        dns::report(key, flow, datagram, copy);
    }
}

/// Both ends, the length of the payload and where it begins, out of a packet whose first byte is known.
///
/// Nothing is seen of a datagram behind an extension header of IPv6.
#[inline(always)]
unsafe fn headers(
    first: u8,
    sent: bool,
    load: &impl Fn(u32, *mut u8, u32) -> bool,
) -> Option<(Tuple, u32, u32)> {
    let v4 = first >> 4 == 4;
    // Both headers at once: each load is a call. Options of IPv4, between the two, are rare.
    let mut words = [0_u32; (V6_LENGTH + UDP_HEADER) as usize / 4];
    let at = if v4 { u32::from(first & 15) * 4 } else { V6_LENGTH };
    let all = if v4 { V4_LEAST as u32 } else { V6_LENGTH } + UDP_HEADER;
    if !load(0, (&raw mut words).cast(), all) {
        return None;
    }
    let ports = if v4 {
        if at != V4_LEAST as u32 && !load(at, (&raw mut words[5]).cast(), UDP_HEADER) {
            return None;
        }
        [words[5], words[6]]
    } else {
        [words[10], words[11]]
    };
    let (source, destination) = if v4 {
        let mapped = 0xffff_u32.to_be();
        ([0, 0, mapped, words[3]], [0, 0, mapped, words[4]])
    } else {
        (
            [words[2], words[3], words[4], words[5]],
            [words[6], words[7], words[8], words[9]],
        )
    };
    // SAFETY: the layout of a UDP header.
    let ports = unsafe { core::mem::transmute::<[u32; 2], Ports>(ports) };
    // SAFETY: any bytes are an address.
    let (source, destination) = unsafe {
        (
            core::mem::transmute::<[u32; 4], [u8; 16]>(source),
            core::mem::transmute::<[u32; 4], [u8; 16]>(destination),
        )
    };
    let (from, to) = (u16::from_be(ports.source), u16::from_be(ports.destination));
    let length = u32::from(u16::from_be(ports.length)).saturating_sub(UDP_HEADER);
    let ends = if sent {
        (source, destination, from, to)
    } else {
        (destination, source, to, from)
    };
    let tuple = Tuple {
        local_address: ends.0,
        remote_address: ends.1,
        local_port: ends.2,
        remote_port: ends.3,
        family: if v4 { AF_INET } else { AF_INET6 },
        reserved: 0,
        net_ns: 0,
    };
    Some((tuple, length, at + UDP_HEADER))
}
