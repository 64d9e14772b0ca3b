//! Programs that are not to run.
//!
//! Two rungs, both of which are attached. A security hook, where the kernel has them and asks, makes the exec fail with `EPERM`. Behind it, at the
//! tracepoint `sched_process_exec`, the new program is in place and has not run an instruction: `SIGKILL` ends it there.
//!
//! On the second rung a script is known by the path only that it was executed by: its interpreter is what was put in place.

use core::ptr;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, generated::bpf_send_signal},
    macros::{btf_tracepoint, lsm},
    programs::{BtfTracePointContext, LsmContext},
};
use sensor_common::{
    FileKey, UNSET_ID,
    layout::ABSENT,
    verdict::{TICK, Verdict, kinds},
};

use crate::{
    kernel::{Access, Address, Probe, offset, opaque},
    maps::{self, V_FILES, V_PATHS, V_SPARED_FILES, V_USERS, kinds, state},
    path::{self, Place},
};

const SIGKILL: u32 = 9;
const EPERM: i32 = 1;
const SIGNAL_GROUP_EXIT: u32 = 4;

/// `int bprm_check_security(struct linux_binprm *bprm)`: asked for a program, and again for its interpreter.
#[lsm(hook = "bprm_check_security")]
pub fn verdict_check(ctx: LsmContext) -> i32 {
    // What another module has refused stays refused.
    let before: i32 = ctx.arg(1);
    if before != 0 {
        return before;
    }
    let bprm: Address = ctx.arg(0);
    // SAFETY: `Probe` checks every address.
    let file: Address = unsafe { Probe::load(bprm, offset!(bprm_file)) };
    // A result that the compiler knows to be 0 or 1 it would negate, and the verifier does not know it.
    let stopped = is_stopped(file as u64, 0, Place::Check as u32);
    if opaque(stopped.into()) != 0 {
        return -EPERM;
    }
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn verdict_exec(ctx: BtfTracePointContext) -> i32 {
    executed(ctx.arg(2), Place::Exec)
}

/// What [`verdict_exec`] was skipped for: since Linux 7.0 the kernel does that where a program was put aside on the same CPU.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn verdict_exec_second(ctx: BtfTracePointContext) -> i32 {
    executed(ctx.arg(2), Place::ExecSecond)
}

/// What both before it were skipped for.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn verdict_exec_third(ctx: BtfTracePointContext) -> i32 {
    executed(ctx.arg(2), Place::ExecThird)
}

#[inline(always)]
fn executed(bprm: Address, place: Place) -> i32 {
    // SAFETY: `Probe` checks every address; the helper takes a number.
    unsafe {
        let task = bpf_get_current_task() as Address;
        let signal: Address = Probe::load(task, offset!(task_signal));
        let flags: u32 = Probe::load(signal, offset!(signal_flags));
        if flags & SIGNAL_GROUP_EXIT != 0 {
            return 0;
        }
        let mm: Address = Probe::load(task, offset!(task_mm));
        let file: Address = Probe::load(mm, offset!(mm_exe_file));
        let filename: Address = Probe::load(bprm, offset!(bprm_filename));
        let interpreter: Address = Probe::load(bprm, offset!(bprm_interp));
        let script = if filename == interpreter {
            0
        } else {
            filename as u64
        };
        if is_stopped(file as u64, script, place as u32) != 0 {
            bpf_send_signal(SIGKILL);
        }
    }
    0
}

/// Whether the current process is kept from running `file`. `script` is the name of the script that it interprets, 0 if none.
///
/// A function of its own: the verifier checks it once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn is_stopped(file: u64, script: u64, place: u32) -> u32 {
    let kinds = kinds();
    if kinds & kinds::OF_EXEC == 0 {
        return 0;
    }
    let file = file as Address;
    // SAFETY: `Probe` checks every address; map memory is valid while the program runs.
    unsafe {
        let task = bpf_get_current_task() as Address;
        if is_above(task) {
            return 0;
        }
        let inode: Address = Probe::load(file, offset!(file_inode));
        let super_block: Address = Probe::load(inode, offset!(inode_sb));
        let key = FileKey {
            inode: Probe::load(inode, offset!(inode_ino)),
            device: Probe::load(super_block, offset!(super_block_dev)),
            reserved: 0,
        };
        if V_SPARED_FILES.get_ptr(key).is_some() {
            return 0;
        }
        if kinds & kinds::FILE != 0
            && let Some(verdict) = V_FILES.get_ptr_mut(key)
            && strikes(verdict, task)
        {
            return 1;
        }
        if kinds & kinds::USER != 0 && is_user_stopped(task) {
            return 1;
        }
    }
    if kinds & kinds::PATH == 0 {
        return 0;
    }
    if path::of_file(file as u64, place) != 0 && is_path_stopped(place) {
        return 1;
    }
    if script != 0 && path::of_script(script, place) != 0 && is_path_stopped(place) {
        return 1;
    }
    0
}

/// Whether `task` is of a process that nothing stops: the first, or the agent.
#[inline(always)]
unsafe fn is_above(task: Address) -> bool {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if tgid == 1 {
        return true;
    }
    let Some(state) = state() else { return true };
    // SAFETY: map memory is valid while the program runs; `Probe` checks every address.
    unsafe {
        if ptr::read_volatile(&raw const (*state).agent_tgid) != tgid {
            return false;
        }
        let leader: Address = Probe::load(task, offset!(task_group_leader));
        let start: u64 = Probe::load(leader, offset!(task_start_boottime));
        start / TICK == ptr::read_volatile(&raw const (*state).agent_start)
    }
}

#[inline(always)]
unsafe fn is_user_stopped(task: Address) -> bool {
    if offset!(task_loginuid) == ABSENT {
        return false;
    }
    // SAFETY: `Probe` checks every address; map memory is valid while the program runs.
    unsafe {
        let user: u32 = Probe::load(task, offset!(task_loginuid));
        if user == UNSET_ID {
            return false;
        }
        V_USERS
            .get_ptr_mut(user)
            .is_some_and(|verdict| strikes(verdict, task))
    }
}

/// Whether the path that was put together last is that of a verdict.
#[inline(always)]
fn is_path_stopped(place: u32) -> bool {
    let Some(key) = path::key(place) else { return false };
    // SAFETY: map memory is valid while the program runs; the helper has no arguments.
    unsafe {
        let task = bpf_get_current_task() as Address;
        V_PATHS
            .get_ptr_mut(&*key)
            .is_some_and(|verdict| strikes(verdict, task))
    }
}

/// Whether a verdict holds; it is counted then, and `task` noted as the last that it stopped.
///
/// # Safety
/// `verdict` must be a value of a map.
#[inline(always)]
unsafe fn strikes(verdict: *mut Verdict, task: Address) -> bool {
    // SAFETY: as promised; `Probe` checks every address.
    unsafe {
        if !maps::strikes(verdict) {
            return false;
        }
        let leader: Address = Probe::load(task, offset!(task_group_leader));
        let start: u64 = Probe::load(leader, offset!(task_start_boottime));
        ptr::write_volatile(&raw mut (*verdict).last_start, start);
        ptr::write_volatile(
            &raw mut (*verdict).last_tgid,
            (bpf_get_current_pid_tgid() >> 32) as u32,
        );
    }
    true
}
