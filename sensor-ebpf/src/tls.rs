//! The first words of TLS clients: copied from the buffer that the process gives to the kernel, in that process.
//!
//! A connection is looked at when it has sent no more than what it sends now; later data costs three loads. Looked for are the
//! first bytes of a ClientHello, in the first buffer of the call.

use aya_ebpf::{
    helpers::{
        bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs,
        generated::{bpf_probe_read_user, bpf_skc_to_tcp_sock},
    },
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};
use sensor_common::{
    Signal, TlsHello,
    record::{HELLO_MAX, flow_flags},
};

use crate::{
    emit,
    kernel::{Access, Address, Direct, Probe, bounded, features, offset},
    network::{self, FLOWS, Owner},
};

const IPPROTO_TCP: u16 = 6;

// Numbers of x86-64.
const WRITE: u64 = 1;
const WRITEV: u64 = 20;
const SENDTO: u64 = 44;
const SENDMSG: u64 = 46;
const SENDMMSG: u64 = 307;

/// `struct user_msghdr`: where its buffers are listed.
const MSG_IOV: u64 = 16;

/// The record and handshake headers: type, version, length, type, length.
const HEAD: u32 = 9;
const HANDSHAKE: u8 = 22;
const TLS_MAJOR: u8 = 3;
const CLIENT_HELLO: u8 = 1;

/// Size of a kernel stack, and of the registers at its end.
const STACK_SIZE: usize = 16 << 10;
const REGISTERS: usize = 168;

#[repr(C)]
struct Hello<const N: usize> {
    head: TlsHello,
    bytes: [u8; N],
}

/// `sock_send_length(struct sock *sk, int ret, int flags)`.
#[btf_tracepoint(function = "sock_send_length")]
pub fn tls_send(ctx: BtfTracePointContext) -> i32 {
    sent(ctx.arg(0), ctx.arg(1));
    0
}

/// `int tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)`.
#[fexit(function = "tcp_sendmsg")]
pub fn tls_sendmsg(ctx: FExitContext) -> i32 {
    // The result lies behind the arguments.
    sent(ctx.arg(0), ctx.arg(3));
    0
}

#[inline(always)]
fn sent(sock: Address, length: i32) {
    // SAFETY: a socket, by both prototypes; the helper returns null unless it is a full TCP one.
    unsafe {
        if length < HEAD as i32 || Direct::load::<u16>(sock, offset!(sock_protocol)) != IPPROTO_TCP {
            return;
        }
        let tcp: Address = bpf_skc_to_tcp_sock(sock.cast_mut().cast()).cast_const().cast();
        if tcp.is_null() || Direct::load::<u64>(tcp, offset!(tcp_bytes_sent)) > length as u64 {
            return;
        }
        let Some(owner) = FLOWS.get_ptr_mut(network::key(sock)) else {
            return;
        };
        let passed = u64::from(flow_flags::INBOUND | flow_flags::HAS_SENT);
        if (*owner).flags & passed != 0 {
            return;
        }
        (*owner).flags |= u64::from(flow_flags::HAS_SENT);
        first(sock, length as u32, owner);
    }
}

/// What a client sends first.
#[inline(always)]
unsafe fn first(sock: Address, length: u32, owner: *mut Owner) {
    // SAFETY: `Probe` and the helpers check every address.
    unsafe {
        let Some(buffer) = buffer() else { return };
        let mut head = [0_u8; HEAD as usize];
        bpf_probe_read_user(head.as_mut_ptr().cast(), HEAD, buffer as *const _);
        if head[0] != HANDSHAKE || head[1] != TLS_MAJOR || head[5] != CLIENT_HELLO {
            return;
        }
        let Some(admitted) = emit::admit(Signal::TlsHello) else {
            return;
        };
        let Some(admitted) = network::unless_muted(admitted, sock, &(*owner).identity) else {
            return;
        };
        // What follows in the buffer, or in the call, is not the hello's.
        let record = u32::from(u16::from_be_bytes([head[3], head[4]])) + 5;
        let length = if record < length { record } else { length };
        if length <= 1024 {
            submit::<1024>(admitted, sock, owner, buffer, length);
        } else {
            submit::<HELLO_MAX>(admitted, sock, owner, buffer, length);
        }
    }
}

#[inline(always)]
unsafe fn submit<const N: usize>(
    admitted: emit::Admitted,
    sock: Address,
    owner: *mut Owner,
    buffer: u64,
    total: u32,
) {
    admitted.submit::<Hello<N>>(|record| {
        // SAFETY: the record is valid for writes, the owner while the program runs; the helper checks the source.
        unsafe {
            let head = &raw mut (*record).body.head;
            network::copy(&raw const (*owner).identity, &raw mut (*record).header.identity);
            network::write_tuple(sock, &raw mut (*head).tuple);
            (*head).socket = network::key(sock);
            (*head).flags = (*owner).flags as u32;
            (*head).total = total;
            let length = bounded::<N>(total);
            let bytes = (&raw mut (*record).body.bytes).cast();
            let copied = bpf_probe_read_user(bytes, length, buffer as *const _) == 0;
            (*head).length = if copied { length } else { 0 };
        }
    });
}

/// The first buffer of the call that the current task makes.
#[inline(always)]
unsafe fn buffer() -> Option<u64> {
    // SAFETY: `Probe` and the helper check every address.
    unsafe {
        let registers = registers();
        let number: u64 = Probe::load(registers, offset!(regs_orig_ax));
        let mut at: u64 = Probe::load(registers, offset!(regs_si));
        if number == WRITE || number == SENDTO {
            return Some(at);
        }
        if number != WRITEV && number != SENDMSG && number != SENDMMSG {
            return None;
        }
        let mut next = 0_u64;
        // A message of several begins with what one alone is.
        if number != WRITEV {
            bpf_probe_read_user((&raw mut next).cast(), 8, at.wrapping_add(MSG_IOV) as *const _);
            at = next;
        }
        bpf_probe_read_user((&raw mut next).cast(), 8, at as *const _);
        Some(next)
    }
}

/// What the task had in its registers when it called.
#[inline(always)]
unsafe fn registers() -> Address {
    // SAFETY: the helpers are there where the feature says so.
    unsafe {
        if features().task_registers == 1 {
            return bpf_task_pt_regs(bpf_get_current_task_btf()) as Address;
        }
        let stack: Address = Probe::load(bpf_get_current_task() as Address, offset!(task_stack));
        stack.wrapping_add(STACK_SIZE - REGISTERS)
    }
}
