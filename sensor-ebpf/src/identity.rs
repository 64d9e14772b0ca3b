//! Who is acting.

use aya_ebpf::helpers::{bpf_get_current_task, bpf_get_current_task_btf};
use sensor_common::{Identity, UNSET_ID, layout::ABSENT, record::identity_flags};

use crate::kernel::{Access, Address, Direct, Probe, features, offset};

const PF_KTHREAD: u32 = 0x0020_0000;

/// Writes who the current task is into `out`. To be called from a function of its own: by helper, the loads of one
/// identity take half of the stack.
///
/// # Safety
/// `out` must be valid for writes.
#[inline(always)]
pub unsafe fn write_current(out: *mut Identity) {
    // SAFETY: as promised; before 5.11 only the helper without a type exists.
    unsafe {
        if features().current_task_btf == 1 {
            write::<Direct>(bpf_get_current_task_btf().cast_const().cast(), out);
        } else {
            write::<Probe>(bpf_get_current_task() as Address, out);
        }
    }
}

/// The current task, to be read by [`Current`].
#[inline(always)]
pub fn current() -> Address {
    // SAFETY: helpers without arguments; before 5.11 only the one without a type exists.
    unsafe {
        if features().current_task_btf == 1 {
            bpf_get_current_task_btf().cast_const().cast()
        } else {
            bpf_get_current_task() as Address
        }
    }
}

/// When the process of `task` began.
///
/// # Safety
/// `task` must be a task that `A` can read.
#[inline(always)]
pub unsafe fn began<A: Access>(task: Address) -> u64 {
    // SAFETY: as promised.
    unsafe { start_time::<A>(A::load(task, offset!(task_group_leader))) }
}

/// The same for programs that can be in the middle of it twice on one CPU, hence have no scratch memory, and that may
/// not ask for the task by type before 5.15. A function with a stack of its own.
///
/// # Safety
/// `out` must be valid for writes.
#[inline(never)]
pub unsafe fn write_current_anywhere(out: *mut Identity) {
    // SAFETY: as promised.
    unsafe { write::<Probe>(bpf_get_current_task() as Address, out) }
}

/// Writes who `task` is into `out`, every byte of it.
///
/// # Safety
/// `out` must be valid for writes; `task` must be a task that `A` can read.
#[inline(always)]
pub unsafe fn write<A: Access>(task: Address, out: *mut Identity) {
    // SAFETY: `out` as promised; what is read through `A` is plain numbers and addresses.
    unsafe {
        let leader: Address = A::load(task, offset!(task_group_leader));
        (*out).start_time = start_time::<A>(leader);
        (*out).tgid = A::load(task, offset!(task_tgid));
        (*out).tid = A::load(task, offset!(task_pid));

        let parent: Address = A::load(task, offset!(task_real_parent));
        (*out).parent_tgid = A::load(parent, offset!(task_tgid));
        let parent_leader: Address = A::load(parent, offset!(task_group_leader));
        (*out).parent_start_time = start_time::<A>(parent_leader);

        let cred: Address = A::load(task, offset!(task_cred));
        (*out).uid = A::load(cred, offset!(cred_uid));
        (*out).gid = A::load(cred, offset!(cred_gid));
        (*out).euid = A::load(cred, offset!(cred_euid));
        (*out).egid = A::load(cred, offset!(cred_egid));
        (*out).login_uid = optional::<A>(task, offset!(task_loginuid));
        (*out).session_id = optional::<A>(task, offset!(task_sessionid));

        (*out).cgroup = cgroup::<A>(task);
        namespaces::<A>(task, out);

        let flags: u32 = A::load(task, offset!(task_flags));
        (*out).flags = if flags & PF_KTHREAD != 0 {
            identity_flags::KERNEL_THREAD
        } else {
            0
        };
        (*out).reserved = 0;
        let comm: [u64; 2] = [
            A::load(task, offset!(task_comm)),
            A::load(task, offset!(task_comm).wrapping_add(8)),
        ];
        (*out).comm = core::mem::transmute::<[u64; 2], [u8; 16]>(comm);
    }
}

#[inline(always)]
unsafe fn start_time<A: Access>(leader: Address) -> u64 {
    // SAFETY: any bytes are a number.
    unsafe { A::load(leader, offset!(task_start_boottime)) }
}

#[inline(always)]
unsafe fn optional<A: Access>(base: Address, offset: u32) -> u32 {
    if offset == ABSENT {
        return UNSET_ID;
    }
    // SAFETY: any bytes are a number.
    unsafe { A::load(base, offset) }
}

/// Cgroup id in the v2 hierarchy, or in that of the v1 controller that the agent chose.
#[inline(always)]
pub unsafe fn cgroup<A: Access>(task: Address) -> u64 {
    // SAFETY: any bytes are a number or an address.
    unsafe {
        let css_set: Address = A::load(task, offset!(task_cgroups));
        let subsys = features().cgroup_subsys;
        let cgroup: Address = if subsys == ABSENT {
            A::load(css_set, offset!(css_set_dfl_cgrp))
        } else {
            let state: Address = A::load(
                css_set,
                offset!(css_set_subsys).wrapping_add(subsys.wrapping_mul(8)),
            );
            A::load(state, offset!(css_cgroup))
        };
        let node: Address = A::load(cgroup, offset!(cgroup_kn));
        A::load(node, offset!(kernfs_node_id))
    }
}

#[inline(always)]
unsafe fn namespaces<A: Access>(task: Address, out: *mut Identity) {
    // SAFETY: any bytes are a number or an address; a task that is nearly gone has no nsproxy, which reads
    // as zeroes.
    unsafe {
        let nsproxy: Address = A::load(task, offset!(task_nsproxy));
        let mount: Address = A::load(nsproxy, offset!(nsproxy_mnt_ns));
        (*out).mount_ns = A::load(mount, offset!(mnt_namespace_inum));
        let net: Address = A::load(nsproxy, offset!(nsproxy_net_ns));
        (*out).net_ns = A::load(net, offset!(net_inum));

        // `nsproxy` holds the pid namespace of the children; the task's own is that of its innermost number,
        // behind an index that the verifier cannot follow.
        let pid: Address = A::load(task, offset!(task_thread_pid));
        let level: u32 = A::load(pid, offset!(pid_level));
        let numbers = offset!(pid_numbers).wrapping_add(offset!(upid_ns));
        let upid_size = 16;
        let namespace: Address = Probe::load(pid, numbers.wrapping_add((level & 31).wrapping_mul(upid_size)));
        (*out).pid_ns = Probe::load(namespace, offset!(pid_namespace_inum));
    }
}
