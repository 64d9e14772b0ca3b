//! Process trees without a network: who belongs to one.
//!
//! Who is forked by a member is one. A process id that is not a member's any more is taken out at the process's end, or at the latest when somebody
//! else is given it.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use sensor_common::verdict::kinds;

use crate::{
    kernel::{Access, Address, Direct, offset},
    maps::{V_MEMBERS, V_SOCKETS, V_TREES, kinds, strikes},
};

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`: the child has not run.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn verdict_fork(ctx: BtfTracePointContext) -> i32 {
    forked(ctx.arg(0), ctx.arg(1))
}

/// What [`verdict_fork`] was skipped for: since Linux 7.0 the kernel does that where a program was put aside on the same CPU.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn verdict_fork_second(ctx: BtfTracePointContext) -> i32 {
    forked(ctx.arg(0), ctx.arg(1))
}

/// What both before it were skipped for.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn verdict_fork_third(ctx: BtfTracePointContext) -> i32 {
    forked(ctx.arg(0), ctx.arg(1))
}

#[inline(always)]
fn forked(parent: Address, child: Address) -> i32 {
    if kinds() & kinds::TREE == 0 {
        return 0;
    }
    // SAFETY: both are tasks, by the tracepoint's prototype; map memory is valid while the program runs.
    unsafe {
        let tgid: u32 = Direct::load(child, offset!(task_tgid));
        let tid: u32 = Direct::load(child, offset!(task_pid));
        if tgid != tid {
            return 0;
        }
        let parent: u32 = Direct::load(parent, offset!(task_tgid));
        if let Some(top) = V_MEMBERS.get_ptr(parent) {
            let _ = V_MEMBERS.insert(tgid, &*top, 0);
        } else {
            let _ = V_MEMBERS.remove(tgid);
        }
    }
    0
}

/// `sched_process_exit(struct task_struct *p)`.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn verdict_exit(ctx: BtfTracePointContext) -> i32 {
    if kinds() & kinds::TREE == 0 {
        return 0;
    }
    let task: Address = ctx.arg(0);
    // SAFETY: a task, by the tracepoint's prototype.
    unsafe {
        let signal: Address = Direct::load(task, offset!(task_signal));
        let live: u32 = Direct::load(signal, offset!(signal_live));
        if live == 0 {
            let _ = V_MEMBERS.remove(Direct::load::<u32>(task, offset!(task_tgid)));
        }
    }
    0
}

/// Whether a process is without a network.
#[inline(always)]
pub fn is_stopped(tgid: u32) -> bool {
    // SAFETY: map memory is valid while the program runs.
    unsafe {
        V_MEMBERS
            .get_ptr(tgid)
            .and_then(|top| V_TREES.get_ptr_mut(&*top))
            .is_some_and(|verdict| strikes(verdict))
    }
}

/// Whether a socket was one's that is.
#[inline(always)]
pub fn is_socket_stopped(cookie: u64) -> bool {
    // SAFETY: as above.
    unsafe {
        V_SOCKETS
            .get_ptr(cookie)
            .and_then(|top| V_TREES.get_ptr_mut(&*top))
            .is_some_and(|verdict| strikes(verdict))
    }
}
