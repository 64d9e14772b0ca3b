//! Sockets that get a local address because their process asks for it. An address that the kernel chooses when a socket connects
//! or sends goes another way.

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::bpf_get_socket_cookie,
    macros::{cgroup_sock, fexit},
    programs::{FExitContext, SockContext},
};
use sensor_common::{Bind, Signal, Tuple};

use crate::{
    emit, identity,
    kernel::{Access, Address, Direct, offset},
    network::{self, AF_INET, AF_INET6},
    scratch::{self, Caller, Draft},
    udp,
};

const IPPROTO_UDP: u32 = 17;

/// What lets the socket have its address. These programs only watch.
const ALLOW: i32 = 1;

/// `int __inet_bind(struct sock *sk, struct sockaddr *uaddr, int addr_len, u32 flags)`.
#[fexit(function = "__inet_bind")]
pub fn bind_exit(ctx: FExitContext) -> i32 {
    bound(&ctx);
    0
}

/// `int __inet6_bind(struct sock *sk, struct sockaddr *uaddr, int addr_len, u32 flags)`.
#[fexit(function = "__inet6_bind")]
pub fn bind6_exit(ctx: FExitContext) -> i32 {
    bound(&ctx);
    0
}

#[inline(always)]
fn bound(ctx: &FExitContext) {
    let sock: Address = ctx.arg(0);
    // The result lies behind the arguments.
    let result: i32 = ctx.arg(4);
    if result != 0 {
        return;
    }
    // SAFETY: a socket, by the function's prototype.
    let protocol: u16 = unsafe { Direct::load(sock, offset!(sock_protocol)) };
    report(u32::from(protocol), NO_COOKIE, |tuple| {
        // SAFETY: a socket, as above.
        unsafe { network::write_tuple(sock, tuple) }
    });
}

#[cgroup_sock(post_bind4)]
pub fn bind_cgroup(ctx: SockContext) -> i32 {
    // SAFETY: the context is the kernel's.
    unsafe { bound_in_cgroup(ctx.sock, AF_INET) };
    ALLOW
}

#[cgroup_sock(post_bind6)]
pub fn bind6_cgroup(ctx: SockContext) -> i32 {
    // SAFETY: the context is the kernel's.
    unsafe { bound_in_cgroup(ctx.sock, AF_INET6) };
    ALLOW
}

#[inline(always)]
unsafe fn bound_in_cgroup(sock: *mut bpf_sock, family: u16) {
    // SAFETY: fields of the context, which the kernel translates.
    unsafe {
        let protocol = (*sock).protocol;
        let cookie = if protocol == IPPROTO_UDP {
            bpf_get_socket_cookie(sock.cast())
        } else {
            NO_COOKIE
        };
        let port = (*sock).src_port as u16;
        let words = if family == AF_INET {
            [0, 0, 0xffff_u32.to_be(), (*sock).src_ip4]
        } else {
            [
                (*sock).src_ip6[0],
                (*sock).src_ip6[1],
                (*sock).src_ip6[2],
                (*sock).src_ip6[3],
            ]
        };
        report(protocol, cookie, |tuple| {
            *tuple = Tuple {
                local_address: core::mem::transmute::<[u32; 4], [u8; 16]>(words),
                remote_address: [0; 16],
                local_port: port,
                remote_port: 0,
                family,
                reserved: 0,
                net_ns: 0,
            };
        });
    }
}

/// Of a socket whose owner needs not be known. A number rather than an option: what an option leaves undefined, the verifier refuses.
const NO_COOKIE: u64 = 0;

/// Reports it. `cookie` names a socket whose owner shall be known when it receives.
#[inline(always)]
fn report(protocol: u32, cookie: u64, fill: impl FnOnce(*mut Tuple)) {
    emit::admit_alone(Signal::Bind, |admitted, context| {
        let Some(admitted) = admitted.unless_own(network::current_tgid()) else {
            return;
        };
        // Not in the ring: a map of Linux 5.10 takes no owner from there.
        let caller = Caller::Context(context.number());
        let Some(Draft {
            header, body, tail, ..
        }) = scratch::begin::<Bind>(caller)
        else {
            return admitted.lose();
        };
        // SAFETY: the scratch memory is this context's alone.
        unsafe {
            identity::write_current_anywhere(&raw mut (*header).identity);
            if cookie != NO_COOKIE {
                udp::note_owner(cookie, &(*header).identity);
            }
            fill(&raw mut (*body).tuple);
            (*body).protocol = protocol;
            admitted.output::<Bind>(header, tail);
        }
    });
}
