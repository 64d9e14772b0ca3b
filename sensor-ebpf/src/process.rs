//! Processes begin, replace their program, and end.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_user,
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use sensor_common::{
    Exec, Exit, Fork, Signal,
    record::{ARGS_MAX, exec_flags},
};

use crate::{
    emit::{self, Admitted},
    environment, file, identity,
    kernel::{Access, Address, Direct, Probe, offset},
    path::{self, Tail},
    scratch::{self, Caller, Draft},
    sequence,
    twin::{self, Twin},
};

const SIGNAL_GROUP_EXIT: u32 = 4;

/// When the process began, to the nanosecond, that has this id now: `/proc` tells it to the hundredth of a second, in which an id may change hands.
/// By process id; the longest unseen is pushed out. 0 from when a process has ended until the next one with its id is entered, which is before that
/// runs, but after others can see it.
#[map]
static BIRTHS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(16_384, 0);

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: the new program is in
/// place, none of its instructions has run.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = ctx.arg(0);
    twin::is_mine(Twin::Exec, 0, task);
    // SAFETY: a task, by the tracepoint's prototype.
    unsafe { sequence::executed(task, ctx.arg(1)) };
    if let Some(admitted) = emit::admit(Signal::Exec) {
        exec(admitted, Caller::Exec, task, ctx.arg(2));
    }
    0
}

/// What [`process_exec`] was skipped for.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec_second(ctx: BtfTracePointContext) -> i32 {
    exec_again(1, ctx.arg(0), ctx.arg(1), ctx.arg(2))
}

/// What both before it were skipped for.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec_third(ctx: BtfTracePointContext) -> i32 {
    exec_again(2, ctx.arg(0), ctx.arg(1), ctx.arg(2))
}

#[inline(always)]
fn exec_again(place: u32, task: Address, old_tid: u32, bprm: Address) -> i32 {
    if twin::is_mine(Twin::Exec, place, task) {
        // SAFETY: as in `process_exec`.
        unsafe { sequence::executed(task, old_tid) };
        emit::admit_alone(Signal::Exec, |admitted, context| {
            exec(admitted, Caller::Context(context.number()), task, bprm);
        });
    }
    0
}

#[inline(always)]
fn exec(admitted: Admitted, caller: Caller, task: Address, bprm: Address) {
    let Some(Draft {
        header,
        body: exec,
        tail,
        ..
    }) = scratch::begin::<Exec>(caller)
    else {
        return admitted.lose();
    };
    // SAFETY: the scratch memory is this CPU's and the caller's alone; addresses come from the kernel.
    unsafe {
        (*exec).flags = 0;

        let mm: Address = Direct::load(task, offset!(task_mm));
        arguments(exec, tail, mm);
        executable(exec, caller, tail, mm);
        current_directory(exec, caller, tail, task);

        let filename: Address = Direct::load(bprm, offset!(bprm_filename));
        let interpreter: Address = Direct::load(bprm, offset!(bprm_interp));
        if filename != interpreter {
            (*exec).flags |= exec_flags::SCRIPT;
        }
        (*exec).filename_length = tail.push_str(filename);
        variables(exec, caller, tail, mm);

        identify_exec(caller.number());
        admitted.output::<Exec>(header, tail);
    }
}

/// Writes who has the new program, the current task. A function of its own: the kernel verifies it once, not on each way that leads
/// here, and to follow typed addresses takes it long.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn identify_exec(caller: u32) -> u32 {
    let Some(Draft { header, .. }) = scratch::begun::<Exec>(caller) else {
        return 0;
    };
    // SAFETY: the scratch memory is this CPU's and the caller's alone.
    unsafe { identity::write_current(&raw mut (*header).identity) };
    1
}

#[inline(always)]
unsafe fn arguments(exec: *mut Exec, tail: Tail, mm: Address) {
    // SAFETY: see `exec`; the length is bounded before the copy.
    unsafe {
        let start: u64 = Direct::load(mm, offset!(mm_arg_start));
        let end: u64 = Direct::load(mm, offset!(mm_arg_end));
        let total = end.wrapping_sub(start);
        (*exec).args_address = start;
        (*exec).args_total = total;
        (*exec).args_length = 0;
        let mut length = total;
        if length > ARGS_MAX as u64 {
            length = ARGS_MAX as u64;
            (*exec).flags |= exec_flags::ARGS_TRUNCATED;
        }
        if bpf_probe_read_user(tail.bytes.cast(), length as u32, start as *const _) == 0 {
            (*exec).args_length = length as u32;
            tail.advance(length);
        } else {
            (*exec).flags |= exec_flags::ARGS_UNREADABLE;
        }
    }
}

#[inline(always)]
unsafe fn variables(exec: *mut Exec, caller: Caller, tail: Tail, mm: Address) {
    // SAFETY: see `exec`.
    unsafe {
        let before = tail.length();
        let start: u64 = Direct::load(mm, offset!(mm_env_start));
        let end: u64 = Direct::load(mm, offset!(mm_env_end));
        if !environment::append(caller, start, end) {
            (*exec).flags |= exec_flags::VARIABLES_UNREAD;
        }
        (*exec).variables_length = (tail.length() - before) as u32;
        (*exec).reserved = 0;
    }
}

#[inline(always)]
unsafe fn executable(exec: *mut Exec, caller: Caller, tail: Tail, mm: Address) {
    // SAFETY: see `exec`.
    unsafe {
        (*exec).inode = 0;
        (*exec).device = 0;
        (*exec).path_length = 0;
        let file: Address = Direct::load(mm, offset!(mm_exe_file));
        if file.is_null() {
            (*exec).flags |= exec_flags::PATH_TRUNCATED;
            return;
        }
        let inode = Probe::load(file, offset!(file_inode));
        let facts = file::facts(inode);
        (*exec).inode = facts.inode;
        (*exec).device = facts.device;
        if facts.links == 0 {
            (*exec).flags |= exec_flags::UNLINKED;
        }
        if file::is_in_upper_layer(inode, facts.super_block) {
            (*exec).flags |= exec_flags::OVERLAY_UPPER;
        }

        let before = tail.length();
        let (dentry, mnt) = file::place(file);
        match path::walk(caller, dentry, mnt) {
            path::CUT => (*exec).flags |= exec_flags::PATH_TRUNCATED,
            path::DETACHED if facts.links == 0 => (*exec).flags |= exec_flags::MEMFD,
            _ => {}
        }
        (*exec).path_length = (tail.length() - before) as u32;
    }
}

#[inline(always)]
unsafe fn current_directory(exec: *mut Exec, caller: Caller, tail: Tail, task: Address) {
    // SAFETY: see `exec`.
    unsafe {
        let fs: Address = Direct::load(task, offset!(task_fs));
        let before = tail.length();
        let dentry = Probe::load(fs, offset!(fs_pwd_dentry));
        if path::walk(caller, dentry, Probe::load(fs, offset!(fs_pwd_mnt))) == path::CUT {
            (*exec).flags |= exec_flags::CWD_TRUNCATED;
        }
        (*exec).cwd_length = (tail.length() - before) as u32;
    }
}

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`: the child is complete and has
/// not run. Threads are left out.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let (parent, child) = (ctx.arg(0), ctx.arg(1));
    twin::is_mine(Twin::Fork, 0, child);
    // SAFETY: both are tasks, by the tracepoint's prototype.
    unsafe { sequence::forked(parent, child) };
    if is_process(child) {
        born(child);
        if let Some(admitted) = emit::admit(Signal::Fork) {
            fork(admitted, parent, child);
        }
    }
    0
}

/// What [`process_fork`] was skipped for.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork_second(ctx: BtfTracePointContext) -> i32 {
    fork_again(1, ctx.arg(0), ctx.arg(1))
}

/// What both before it were skipped for.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork_third(ctx: BtfTracePointContext) -> i32 {
    fork_again(2, ctx.arg(0), ctx.arg(1))
}

#[inline(always)]
fn fork_again(place: u32, parent: Address, child: Address) -> i32 {
    if twin::is_mine(Twin::Fork, place, child) {
        // SAFETY: as in `process_fork`.
        unsafe { sequence::forked(parent, child) };
        if is_process(child) {
            born(child);
            emit::admit_alone(Signal::Fork, |admitted, _| fork(admitted, parent, child));
        }
    }
    0
}

/// Whether a new task is a process, not a thread.
#[inline(always)]
fn is_process(child: Address) -> bool {
    // SAFETY: a task, by the tracepoint's prototype.
    unsafe {
        let tgid: u32 = Direct::load(child, offset!(task_tgid));
        let pid: u32 = Direct::load(child, offset!(task_pid));
        tgid == pid
    }
}

/// Notes when a new process began.
#[inline(always)]
fn born(child: Address) {
    // SAFETY: a task, by the tracepoint's prototype.
    let (tgid, began): (u32, u64) = unsafe {
        (
            Direct::load(child, offset!(task_tgid)),
            identity::began::<Direct>(child),
        )
    };
    // Without a note, the agent goes by what `/proc` tells.
    let _ = BIRTHS.insert(&tgid, &began, 0);
}

/// Notes that a process has ended: who gets its id is another, also before that is entered.
#[inline(always)]
fn ended(task: Address) {
    // SAFETY: a task, by the tracepoint's prototype.
    let tgid: u32 = unsafe { Direct::load(task, offset!(task_tgid)) };
    if let Some(began) = BIRTHS.get_ptr_mut(&tgid) {
        // SAFETY: a value of the map, which is written whole.
        unsafe { began.write(0) };
    }
}

#[inline(always)]
fn fork(admitted: Admitted, parent: Address, child: Address) {
    // SAFETY: both are tasks, by the tracepoint's prototype.
    admitted.submit::<Fork>(|record| unsafe {
        identity::write::<Direct>(parent, &raw mut (*record).header.identity);
        identity::write::<Direct>(child, &raw mut (*record).body.child);
    });
}

/// `sched_process_exit(struct task_struct *p)`: reported when the last thread goes.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let task = ctx.arg(0);
    twin::is_mine(Twin::Exit, 0, task);
    // SAFETY: a task, by the tracepoint's prototype.
    unsafe { sequence::exited(task) };
    if is_last(task) {
        ended(task);
        if let Some(admitted) = emit::admit(Signal::Exit) {
            exit(admitted, task);
        }
    }
    0
}

/// What [`process_exit`] was skipped for.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit_second(ctx: BtfTracePointContext) -> i32 {
    exit_again(1, ctx.arg(0))
}

/// What both before it were skipped for.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit_third(ctx: BtfTracePointContext) -> i32 {
    exit_again(2, ctx.arg(0))
}

#[inline(always)]
fn exit_again(place: u32, task: Address) -> i32 {
    if twin::is_mine(Twin::Exit, place, task) {
        // SAFETY: as in `process_exit`.
        unsafe { sequence::exited(task) };
        if is_last(task) {
            ended(task);
            emit::admit_alone(Signal::Exit, |admitted, _| exit(admitted, task));
        }
    }
    0
}

/// Whether no other thread of its process is left. Two that end at once may both find that; the agent counts the second
/// as aggregated.
#[inline(always)]
fn is_last(task: Address) -> bool {
    // SAFETY: a task, by the tracepoint's prototype.
    unsafe {
        let signal: Address = Direct::load(task, offset!(task_signal));
        let live: u32 = Direct::load(signal, offset!(signal_live));
        live == 0
    }
}

#[inline(always)]
fn exit(admitted: Admitted, task: Address) {
    // SAFETY: a task, by the tracepoint's prototype.
    admitted.submit::<Exit>(|record| unsafe {
        identity::write::<Direct>(task, &raw mut (*record).header.identity);
        (*record).body.status = status(task, Direct::load(task, offset!(task_signal)));
        (*record).body.reserved = 0;
    });
}

/// What `wait` would report of the thread group.
#[inline(always)]
unsafe fn status(task: Address, signal: Address) -> u32 {
    // SAFETY: see `process_exit`.
    unsafe {
        let flags: u32 = Direct::load(signal, offset!(signal_flags));
        if flags & SIGNAL_GROUP_EXIT != 0 {
            return Direct::load(signal, offset!(signal_group_exit_code));
        }
        let leader: Address = Direct::load(task, offset!(task_group_leader));
        Direct::load(leader, offset!(task_exit_code))
    }
}
