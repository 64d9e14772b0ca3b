//! What is done to the kernel and to the processes that a host hangs on: modules that were loaded, signals to protected
//! processes, parameters that were written. Each is an [`Operation`] whose call is one of [`sensor_common::call::hook`].

use aya_ebpf::{
    helpers::{
        bpf_get_current_task,
        generated::{bpf_sysctl_get_current_value, bpf_sysctl_get_name, bpf_sysctl_get_new_value},
    },
    macros::{btf_tracepoint, cgroup_sysctl, map},
    maps::HashMap,
    programs::{BtfTracePointContext, SysctlContext},
};
use sensor_common::{
    Operation, Signal,
    call::{PROTECTED_MAX, VALUES, hook},
    record::operation_flags,
};

use crate::{
    context::Context,
    emit::{self, Admitted},
    identity,
    kernel::{Access, Address, Direct, Probe, offset},
    path::Tail,
    scratch::{self, Caller, Draft},
};

/// Processes whose signals are reported, by process id: the agent keeps it.
#[map]
static PROTECTED: HashMap<u32, u32> = HashMap::with_max_entries(PROTECTED_MAX, 0);

/// Signals that end or stop a process that does not handle them: SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGABRT, SIGBUS, SIGFPE,
/// SIGKILL, SIGSEGV, SIGTERM, SIGSTOP, SIGTSTP.
const FATAL: u64 = 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 11
    | 1 << 15
    | 1 << 19
    | 1 << 20;

// What a process sent, not the kernel: include/uapi/asm-generic/siginfo.h.
const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_TKILL: i32 = -6;

/// `module_load(struct module *mod)`: in place, its own code has not run.
#[btf_tracepoint(function = "module_load")]
pub fn module_load(ctx: BtfTracePointContext) -> i32 {
    let module: Address = ctx.arg(0);
    // The return of system calls counts modules too.
    emit::admit_alone(Signal::Module, |admitted, context| {
        loaded(module, admitted, context);
    });
    0
}

#[inline(always)]
fn loaded(module: Address, admitted: Admitted, context: &Context) {
    let Some(Draft {
        header, body, tail, ..
    }) = scratch::begin::<Operation>(Caller::Context(context.number()))
    else {
        return admitted.lose();
    };
    // SAFETY: the scratch memory is this context's alone; `Probe` checks every address.
    unsafe {
        blank(body, hook::MODULE_LOAD);
        (*body).values[0] = Direct::load(module, offset!(module_taints));
        (*body).lengths[1] = tail.push_str(module.wrapping_add(offset!(module_name) as usize));
        identity::write_current(&raw mut (*header).identity);
        admitted.output::<Operation>(header, tail);
    }
}

/// `signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`.
#[btf_tracepoint(function = "signal_generate")]
pub fn process_signal(ctx: BtfTracePointContext) -> i32 {
    let number: i32 = ctx.arg(0);
    let info: Address = ctx.arg(1);
    let target: Address = ctx.arg(2);
    let result: i32 = ctx.arg(4);
    if number as u32 > 63 || FATAL >> (number as u32) & 1 == 0 {
        return 0;
    }
    // SAFETY: by the tracepoint's prototype; `info` may be a small number instead, which `Probe` finds to be no address.
    unsafe {
        let tgid: u32 = Direct::load(target, offset!(task_tgid));
        if PROTECTED.get_ptr(tgid).is_none() {
            return 0;
        }
        let sender = bpf_get_current_task() as Address;
        // 0 is a signal of a process without further information, 1 one of the kernel.
        let code: i32 = if info as u64 == 1 {
            1
        } else {
            Probe::load(info, offset!(siginfo_code))
        };
        if !matches!(code, SI_USER | SI_QUEUE | SI_TKILL) {
            return 0;
        }
        let Some(admitted) = emit::admit(Signal::ProcessSignal) else {
            return 0;
        };
        let own: u32 = Probe::load(sender, offset!(task_tgid));
        let Some(admitted) = admitted.unless_own(own) else {
            return 0;
        };
        admitted.submit::<Operation>(|record| {
            let body = &raw mut (*record).body;
            blank(body, hook::SIGNAL);
            (*body).values[0] = number as u64;
            (*body).values[1] = u64::from(tgid);
            (*body).values[2] = result as u64;
            identity::write::<Probe>(sender, &raw mut (*record).header.identity);
        });
    }
    0
}

/// A parameter below `/proc/sys` is read or written. Never refuses anything.
#[cgroup_sysctl]
pub fn sysctl_write(ctx: SysctlContext) -> i32 {
    const ALLOWED: i32 = 1;
    // SAFETY: the context is valid for the program.
    if unsafe { (*ctx.sysctl).write } == 0 {
        return ALLOWED;
    }
    emit::admit_alone(Signal::Sysctl, |admitted, context| {
        written(&ctx, admitted, context);
    });
    ALLOWED
}

#[inline(always)]
fn written(ctx: &SysctlContext, admitted: Admitted, context: &Context) {
    let Some(Draft {
        header, body, tail, ..
    }) = scratch::begin::<Operation>(Caller::Context(context.number()))
    else {
        return admitted.lose();
    };
    // SAFETY: the scratch memory is this context's alone; each helper writes within the room that it is given.
    unsafe {
        blank(body, hook::SYSCTL);
        (*body).lengths[1] = push(tail, |to| bpf_sysctl_get_name(ctx.sysctl, to, TEXT, 0));
        (*body).lengths[2] = push(tail, |to| bpf_sysctl_get_current_value(ctx.sysctl, to, TEXT));
        (*body).lengths[3] = push(tail, |to| bpf_sysctl_get_new_value(ctx.sysctl, to, TEXT));
        identity::write::<Probe>(bpf_get_current_task() as Address, &raw mut (*header).identity);
        let Some(admitted) = admitted.unless_own((*header).identity.tgid) else {
            return;
        };
        admitted.output::<Operation>(header, tail);
    }
}

/// Longest name or value, its NUL included; a power of two.
const TEXT: u64 = 256;

/// Appends what `read` writes and returns its length, which is at most that of the room, whatever the helper says of what it cut.
#[inline(always)]
unsafe fn push(tail: Tail, read: impl FnOnce(*mut core::ffi::c_char) -> i64) -> u32 {
    // SAFETY: `end` leaves room for more than TEXT bytes.
    unsafe {
        let Some(end) = tail.end() else { return 0 };
        let said = read(end.cast());
        // -E2BIG: there was more; the room is full.
        let length = if said == -7 {
            TEXT - 1
        } else if said < 0 {
            0
        } else {
            said as u64 & (TEXT - 1)
        };
        tail.advance(length);
        length as u32
    }
}

#[inline(always)]
unsafe fn blank(body: *mut Operation, call: u32) {
    // SAFETY: the caller's body is valid for writes; all of it is plain numbers.
    unsafe {
        (*body).result = 0;
        let mut index = 0;
        while index < VALUES {
            (*body).values[index] = 0;
            index += 1;
        }
        (*body).inode = 0;
        (*body).device = 0;
        (*body).mode = 0;
        (*body).call = call;
        (*body).flags = operation_flags::HOOK;
        (*body).lengths = [0; 4];
        (*body).fold = 0;
        (*body).fold_generation = 0;
    }
}
