//! Other processes, memory, namespaces, mounts, and the kernel itself.

use aya_ebpf::{
    macros::{lsm, map},
    maps::Array,
    programs::LsmContext,
};
use sensor_common::{
    Signal,
    call::{Hook, REASONS_MAX, Reasons},
};

use super::{Part, argument, place, report};
use crate::{
    file,
    kernel::{Access, Address, Probe, features, offset},
};

/// Set once any hook has been asked: the kernel attaches programs to hooks that it never asks, where it was booted without.
#[map]
static LSM_ASKED: Array<u32> = Array::with_max_entries(1, 0);

/// What is asked of `locked_down`, in numbers of ours. The loader replaces it.
#[unsafe(no_mangle)]
static REASONS: Reasons = [0; REASONS_MAX];

// include/linux/ptrace.h
const PTRACE_MODE_ATTACH: u64 = 2;
// include/uapi/asm-generic/mman-common.h
const PROT_EXEC: u64 = 4;
// include/uapi/linux/sched.h: all CLONE_NEW… flags
const NAMESPACES: u64 = 0x7e02_0000;
// include/uapi/linux/bpf.h: program load and attach, raw tracepoint, link
const BPF_COMMANDS: [u64; 4] = [5, 8, 17, 28];
// include/linux/socket.h, include/linux/net.h
const AF_PACKET: u64 = 17;
const SOCK_RAW: u64 = 3;

/// `ptrace_access_check(struct task_struct *child, unsigned int mode)`: attaching, reading and writing its memory, taking
/// its descriptors.
#[lsm(hook = "ptrace_access_check")]
pub fn lsm_ptrace_access_check(ctx: LsmContext) -> i32 {
    let mode = number(&ctx, 1);
    if mode & PTRACE_MODE_ATTACH == 0 {
        return 0;
    }
    report(Signal::Ptrace, Hook::PtraceAccessCheck, |report| {
        // SAFETY: `Probe` checks every address.
        let tgid: u32 = unsafe { Probe::load(argument(&ctx, 0), offset!(task_tgid)) };
        report.values([mode, u64::from(tgid), 0]);
    })
}

/// `mmap_file(struct file *file, unsigned long reqprot, unsigned long prot, unsigned long flags)`.
#[lsm(hook = "mmap_file")]
pub fn lsm_mmap_file(ctx: LsmContext) -> i32 {
    let protection: u64 = ctx.arg(2);
    if protection & PROT_EXEC == 0 || argument::<u64>(&ctx, 0) != 0 {
        return 0;
    }
    report(Signal::ExecMemory, Hook::MmapFile, |report| {
        report.values([protection, 0, 0]);
    })
}

/// `file_mprotect(struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)`.
#[lsm(hook = "file_mprotect")]
pub fn lsm_file_mprotect(ctx: LsmContext) -> i32 {
    let protection: u64 = ctx.arg(2);
    if protection & PROT_EXEC == 0 {
        return 0;
    }
    report(Signal::ExecMemory, Hook::FileMprotect, |report| {
        // SAFETY: `Probe` checks every address.
        let start: u64 = unsafe { Probe::load(argument(&ctx, 0), offset!(area_start)) };
        report.values([protection, start, 0]);
    })
}

/// `task_alloc(struct task_struct *task, unsigned long clone_flags)`: `clone` and `clone3`.
#[lsm(hook = "task_alloc")]
pub fn lsm_task_alloc(ctx: LsmContext) -> i32 {
    let flags: u64 = ctx.arg(1);
    if flags & NAMESPACES == 0 {
        return 0;
    }
    report(Signal::Namespace, Hook::TaskAlloc, |report| {
        report.values([flags, 0, 0]);
    })
}

/// `sb_mount(const char *dev_name, const struct path *path, const char *type, unsigned long flags, void *data)`.
#[lsm(hook = "sb_mount")]
pub fn lsm_sb_mount(ctx: LsmContext) -> i32 {
    report(Signal::Mount, Hook::SbMount, |report| {
        report.values([argument(&ctx, 3), 0, 0]);
        report.text(Part::Path, argument(&ctx, 0));
        let (dentry, mount) = place(argument(&ctx, 1));
        report.path(Part::Target, dentry, mount);
    })
}

/// `sb_umount(struct vfsmount *mnt, int flags)`.
#[lsm(hook = "sb_umount")]
pub fn lsm_sb_umount(ctx: LsmContext) -> i32 {
    report(Signal::Mount, Hook::SbUmount, |report| {
        report.values([number(&ctx, 1), 0, 0]);
        let mount: Address = argument(&ctx, 0);
        // SAFETY: `Probe` checks every address.
        let root: Address = unsafe { Probe::load(mount, offset!(vfsmount_root)) };
        report.path(Part::Path, root, mount);
    })
}

/// `move_mount(const struct path *from_path, const struct path *to_path)`.
#[lsm(hook = "move_mount")]
pub fn lsm_move_mount(ctx: LsmContext) -> i32 {
    report(Signal::Mount, Hook::MoveMount, |report| {
        let (dentry, mount) = place(argument(&ctx, 0));
        report.path(Part::Path, dentry, mount);
        let (dentry, mount) = place(argument(&ctx, 1));
        report.path(Part::Target, dentry, mount);
    })
}

/// `path_chroot(const struct path *path)`.
#[lsm(hook = "path_chroot")]
pub fn lsm_path_chroot(ctx: LsmContext) -> i32 {
    report(Signal::RootChange, Hook::PathChroot, |report| {
        let (dentry, mount) = place(argument(&ctx, 0));
        report.path(Part::Path, dentry, mount);
    })
}

/// `sb_pivotroot(const struct path *old_path, const struct path *new_path)`: where the old root goes, and the new one.
#[lsm(hook = "sb_pivotroot")]
pub fn lsm_sb_pivotroot(ctx: LsmContext) -> i32 {
    report(Signal::RootChange, Hook::SbPivotroot, |report| {
        let (dentry, mount) = place(argument(&ctx, 1));
        report.path(Part::Path, dentry, mount);
        let (dentry, mount) = place(argument(&ctx, 0));
        report.path(Part::Target, dentry, mount);
    })
}

/// `kernel_read_file(struct file *file, enum kernel_read_file_id id, bool contents)`.
#[lsm(hook = "kernel_read_file")]
pub fn lsm_kernel_read_file(ctx: LsmContext) -> i32 {
    load(number(&ctx, 1) as u32, Hook::KernelReadFile, argument(&ctx, 0))
}

/// `kernel_load_data(enum kernel_load_data_id id, bool contents)`: from the memory of a process.
#[lsm(hook = "kernel_load_data")]
pub fn lsm_kernel_load_data(ctx: LsmContext) -> i32 {
    load(number(&ctx, 0) as u32, Hook::KernelLoadData, core::ptr::null())
}

#[inline(always)]
fn load(what: u32, hook: Hook, file: Address) -> i32 {
    let loads = features().loads;
    let fill = |report: &super::Report| {
        if !file.is_null() {
            let (dentry, mount) = file::place(file);
            report.inode_of(dentry);
            report.path(Part::Path, dentry, mount);
        }
    };
    if what == loads.module || what == loads.module_compressed {
        report(Signal::Module, hook, fill)
    } else if what == loads.kexec_image || what == loads.kexec_initramfs {
        report(Signal::Kexec, hook, fill)
    } else {
        0
    }
}

/// `bpf(int cmd, union bpf_attr *attr, unsigned int size, …)`.
#[lsm(hook = "bpf")]
pub fn lsm_bpf(ctx: LsmContext) -> i32 {
    if let Some(asked) = LSM_ASKED.get_ptr_mut(0) {
        // SAFETY: the map's only entry; everybody writes the same.
        unsafe {
            if core::ptr::read_volatile(asked) == 0 {
                core::ptr::write_volatile(asked, 1);
            }
        }
    }
    let command = number(&ctx, 0);
    if !BPF_COMMANDS.contains(&command) {
        return 0;
    }
    report(Signal::Bpf, Hook::Bpf, |report| {
        report.values([command, 0, 0]);
    })
}

/// `socket_create(int family, int type, int protocol, int kern)`.
#[lsm(hook = "socket_create")]
pub fn lsm_socket_create(ctx: LsmContext) -> i32 {
    let (family, kind) = (number(&ctx, 0), number(&ctx, 1));
    if kind != SOCK_RAW && family != AF_PACKET || number(&ctx, 3) != 0 {
        return 0;
    }
    report(Signal::RawSocket, Hook::SocketCreate, |report| {
        report.values([family, kind, number(&ctx, 2)]);
    })
}

/// `locked_down(enum lockdown_reason what)`: may this be done? Asked whether the kernel is locked down or not.
#[lsm(hook = "locked_down")]
pub fn lsm_locked_down(ctx: LsmContext) -> i32 {
    let what = number(&ctx, 0);
    if what >= REASONS_MAX as u64 {
        return 0;
    }
    // SAFETY: the index is within the array, which is never written to.
    let reason = unsafe { core::ptr::read_volatile((&raw const REASONS[0]).add(what as usize)) };
    if reason == 0 {
        return 0;
    }
    report(Signal::Lockdown, Hook::LockedDown, |report| {
        report.values([u64::from(reason), 0, 0]);
    })
}

/// An argument of 32 bits: what lies above them is not said to be zero.
#[inline(always)]
fn number(ctx: &LsmContext, position: usize) -> u64 {
    ctx.arg::<u64>(position) & 0xffff_ffff
}
