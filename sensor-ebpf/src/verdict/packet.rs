//! The far end of a packet, out of its headers.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Out,
    In,
}

pub struct Packet {
    /// The other end's address.
    pub remote: [u32; 4],
    /// Its port, 0 where there is none to be seen.
    pub port: u32,
    /// Without this the host would lose its address, or its neighbours.
    pub is_vital: bool,
}

// Offsets in headers of RFC 791 and 8200, in bytes, and protocol numbers.
const V4_LENGTH: u32 = 20;
const V6_LENGTH: u32 = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const HOP_BY_HOP: u8 = 0;

/// Bits of an IPv4 header's fourth half-word that say where in a datagram a fragment begins.
const FRAGMENT: u32 = 0x1fff;

/// Both ports of DHCP, client's first, and of DHCPv6.
const DHCP: (u32, u32) = (68, 67);
const DHCPV6: (u32, u32) = (546, 547);
const BROADCAST: u32 = u32::MAX;

/// Link-local multicast (`ff02::/16`), as the first word of an address.
const LINK_MULTICAST: u32 = 0xff02_0000;

/// What the header of the transport says.
struct Transport {
    source: u32,
    destination: u32,
    /// Type of an ICMPv6 message, 0 for anything else.
    message: u8,
}

/// # Safety
/// `skb` must be the program's context.
#[inline(always)]
pub unsafe fn read(skb: *mut __sk_buff, direction: Direction) -> Option<Packet> {
    let mut head = [0_u32; 10];
    // SAFETY: as promised; a header's length fits the memory.
    unsafe {
        if !load(skb, 0, (&raw mut head).cast(), V4_LENGTH) {
            return None;
        }
        let first = byte(head[0], 0);
        if first >> 4 == 4 {
            let (source, destination) = (mapped(head[3]), mapped(head[4]));
            let fragment = u32::from_be(head[1]) & FRAGMENT;
            let transport = if fragment == 0 {
                transport(skb, byte(head[2], 1), u32::from(first & 15) * 4)
            } else {
                NOTHING
            };
            let vital = is_lease(
                &transport,
                byte(head[2], 1),
                DHCP,
                direction,
                head[4] == BROADCAST,
            );
            return Some(packet(source, destination, &transport, direction, vital));
        }
        if !load(skb, 0, (&raw mut head).cast(), V6_LENGTH) {
            return None;
        }
        let mut protocol = byte(head[1], 2);
        let hops = byte(head[1], 3);
        let mut at = V6_LENGTH;
        if protocol == HOP_BY_HOP {
            let mut options = [0_u8; 2];
            load(skb, at, (&raw mut options).cast(), 2);
            protocol = options[0];
            at += (u32::from(options[1]) + 1) * 8;
        }
        let source = [head[2], head[3], head[4], head[5]];
        let destination = [head[6], head[7], head[8], head[9]];
        let transport = transport(skb, protocol, at);
        let near = u32::from_be(destination[0]) >> 16 == LINK_MULTICAST >> 16;
        let vital = is_neighbourhood(transport.message, hops, near)
            || is_lease(&transport, protocol, DHCPV6, direction, near);
        Some(packet(source, destination, &transport, direction, vital))
    }
}

const NOTHING: Transport = Transport {
    source: 0,
    destination: 0,
    message: 0,
};

#[inline(always)]
fn packet(
    source: [u32; 4],
    destination: [u32; 4],
    transport: &Transport,
    direction: Direction,
    is_vital: bool,
) -> Packet {
    let (remote, port) = match direction {
        Direction::Out => (destination, transport.destination),
        Direction::In => (source, transport.source),
    };
    Packet {
        remote,
        port,
        is_vital,
    }
}

#[inline(always)]
unsafe fn transport(skb: *mut __sk_buff, protocol: u8, at: u32) -> Transport {
    let has_ports = matches!(protocol, TCP | UDP | DCCP | SCTP | UDP_LITE);
    if !has_ports && protocol != ICMPV6 {
        return NOTHING;
    }
    let mut word = 0_u32;
    // SAFETY: as the caller's.
    unsafe { load(skb, at, (&raw mut word).cast(), 4) };
    let word = u32::from_be(word);
    if has_ports {
        Transport {
            source: word >> 16,
            destination: word & 0xffff,
            message: 0,
        }
    } else {
        Transport {
            message: (word >> 24) as u8,
            ..NOTHING
        }
    }
}

/// Neighbour discovery (RFC 4861; it never passes a router: 255 hops are left of 255), and the reports by which switches know who listens to it
/// (RFC 3810, to the link).
#[inline(always)]
fn is_neighbourhood(message: u8, hops: u8, near: bool) -> bool {
    match message {
        133..=136 => hops == 255,
        130..=132 | 143 => near && hops == 1,
        _ => false,
    }
}

/// Asking the whole link for an address, and whoever answers. A lease is renewed so at the latest before it ends; no single
/// host is asked, which could be anywhere.
#[inline(always)]
fn is_lease(
    transport: &Transport,
    protocol: u8,
    (client, server): (u32, u32),
    direction: Direction,
    to_link: bool,
) -> bool {
    if protocol != UDP {
        return false;
    }
    match direction {
        Direction::Out => to_link && transport.source == client && transport.destination == server,
        Direction::In => transport.source == server && transport.destination == client,
    }
}

#[inline(always)]
fn mapped(address: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), address]
}

/// A byte of a word as it lies in memory.
#[inline(always)]
fn byte(word: u32, place: u32) -> u8 {
    (word >> (8 * place)) as u8
}

#[inline(always)]
unsafe fn load(skb: *mut __sk_buff, from: u32, to: *mut u8, length: u32) -> bool {
    // SAFETY: `to` is valid for `length` bytes by the caller, which the verifier checks too.
    unsafe { bpf_skb_load_bytes(skb.cast(), from, to.cast(), length) == 0 }
}
