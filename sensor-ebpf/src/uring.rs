//! What is asked for through io_uring: on lower rungs nothing else shows it, on upper ones the operations themselves do as well.
//!
//! A database submits a million requests a second. So a process reports the first request of each kind on a CPU, and again when a
//! [`WINDOW`] is over, with the number of those between, which count as aggregated. What a process does not follow up is in
//! the account only.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map},
    maps::LruPerCpuHashMap,
    programs::BtfTracePointContext,
};
use sensor_common::{
    Operation, Signal,
    call::Hook,
    layout::{ABSENT, URING_REQUEST_FIRST, URING_REQUEST_SECOND},
    record::operation_flags,
};

use crate::{
    emit,
    hook::EMPTY,
    identity,
    kernel::{Access, Address, Current, Probe, features, offset},
};

/// Ten seconds, in nanoseconds.
const WINDOW: u64 = 10_000_000_000;

/// Requests of one kind by one process.
#[repr(C)]
#[derive(Clone, Copy)]
struct Kind {
    /// When the process began: its number may be another's by now.
    start_time: u64,
    tgid: u32,
    opcode: u32,
}

/// What came of a kind on one CPU.
#[repr(C)]
#[derive(Clone, Copy)]
struct Window {
    /// When it was last reported; 0: never.
    reported: u64,
    /// Requests since then.
    count: u64,
}

/// The longest unused is pushed out, and reported anew when it comes back.
#[map]
static SUBMISSIONS: LruPerCpuHashMap<Kind, Window> = LruPerCpuHashMap::with_max_entries(4096, 0);

/// `io_uring_submit_req(struct io_kiocb *req)` (6.4).
#[btf_tracepoint(function = "io_uring_submit_req")]
pub fn uring_submit_req(ctx: BtfTracePointContext) -> i32 {
    submitted(opcode_of(ctx.arg(0)));
    0
}

/// `io_uring_submit_sqe`, with other arguments in different versions.
#[btf_tracepoint(function = "io_uring_submit_sqe")]
pub fn uring_submit_sqe(ctx: BtfTracePointContext) -> i32 {
    let opcode = match features().uring_submission {
        URING_REQUEST_FIRST => opcode_of(ctx.arg(0)),
        URING_REQUEST_SECOND => opcode_of(ctx.arg(1)),
        _ => ctx.arg::<u64>(1) as u8,
    };
    submitted(opcode);
    0
}

#[inline(always)]
fn opcode_of(request: Address) -> u8 {
    if offset!(uring_opcode) == ABSENT {
        return 0;
    }
    // SAFETY: `Probe` checks every address.
    unsafe { Probe::load(request, offset!(uring_opcode)) }
}

#[inline(always)]
fn submitted(opcode: u8) {
    let Some(admitted) = emit::admit(Signal::IoUring) else {
        return;
    };
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(admitted) = admitted.unless_own(tgid) else {
        return;
    };
    let kind = Kind {
        // SAFETY: the current task.
        start_time: unsafe { identity::began::<Current>(identity::current()) },
        tgid,
        opcode: u32::from(opcode),
    };
    let Some(between) = due(&kind) else {
        return admitted.fold();
    };
    admitted.submit::<Operation>(|record| {
        // SAFETY: the reservation is ours.
        unsafe {
            (*record).body = Operation {
                call: Hook::IoUringSubmit as u32,
                flags: operation_flags::ATTEMPT,
                ..EMPTY
            };
            (*record).body.values[0] = u64::from(opcode);
            (*record).body.values[1] = between;
            identity::write_current(&raw mut (*record).header.identity);
        }
    });
}

/// How many were not reported since the last that was, if it is time for another.
#[inline(always)]
fn due(kind: &Kind) -> Option<u64> {
    // SAFETY: a helper without arguments.
    let now = unsafe { aya_ebpf::helpers::bpf_ktime_get_boot_ns() };
    let Some(window) = SUBMISSIONS.get_ptr_mut(kind) else {
        let first = Window {
            reported: now,
            count: 0,
        };
        let _ = SUBMISSIONS.insert(kind, &first, 0);
        return Some(0);
    };
    // SAFETY: the value is this CPU's, and the program cannot interrupt itself.
    unsafe {
        if now.wrapping_sub((*window).reported) < WINDOW {
            (*window).count += 1;
            return None;
        }
        let between = (*window).count;
        *window = Window {
            reported: now,
            count: 0,
        };
        Some(between)
    }
}
