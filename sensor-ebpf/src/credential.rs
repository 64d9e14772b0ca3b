//! Who got other credentials, and whether anything explains it.
//!
//! For each task the credentials are noted that it was last seen with: from its fork on, or from the first look for what ran before
//! the programs did. They are compared at exec, fork and exit, at the return of the calls that set them, and of every
//! call that is reported otherwise. What nobody compares meanwhile is compared later: a forged credential does not go away.
//!
//! Nothing here may be wrong about a well-behaved program. Where a note is gone (there is room for [`TASKS`], the longest unseen
//! go first), or may be another task's, the task is noted anew and nothing is said.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::bpf_get_current_task,
    macros::{btf_tracepoint, fentry, map},
    maps::LruHashMap,
    programs::{BtfTracePointContext, FEntryContext},
};
use sensor_common::{
    Signal, UNSET_ID,
    credential::{Accounted, Change, Cred, Credential, Moment, accounted_flags, explains, file_bits},
};

use crate::{
    emit, identity,
    kernel::{Access, Address, Current, Direct, Probe, features, offset},
    twin::{self, Twin},
};

/// Tasks whose credentials are noted.
const TASKS: u32 = 16384;
const PF_KTHREAD: u32 = 0x0020_0000;

/// By the task's address. Entries are replaced, never written to: one that is pushed out becomes another task's at once.
#[map]
static ACCOUNTED: LruHashMap<u64, Accounted> = LruHashMap::with_max_entries(TASKS, 0);

/// `commit_creds(struct cred *new)`: before the kernel replaces them, they must be what they were. Without this hook, credentials
/// that are forged and then set by a call are judged by what the call made of them.
#[fentry(function = "commit_creds")]
pub fn credential_commit(_ctx: FEntryContext) -> i32 {
    note_commit();
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn credential_exec(ctx: BtfTracePointContext) -> i32 {
    let task: Address = ctx.arg(0);
    twin::is_mine(Twin::Credential, 0, task);
    after_exec(task, ctx.arg(1), ctx.arg(2));
    0
}

/// What [`credential_exec`] was skipped for: what an exec changes would be taken for forged at the next look.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn credential_exec_second(ctx: BtfTracePointContext) -> i32 {
    after_exec_again(1, ctx.arg(0), ctx.arg(1), ctx.arg(2))
}

/// What both before it were skipped for.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn credential_exec_third(ctx: BtfTracePointContext) -> i32 {
    after_exec_again(2, ctx.arg(0), ctx.arg(1), ctx.arg(2))
}

#[inline(always)]
fn after_exec_again(place: u32, task: Address, tid: i32, bprm: Address) -> i32 {
    if twin::is_mine(Twin::Credential, place, task) {
        after_exec(task, tid, bprm);
    }
    0
}

#[inline(always)]
fn after_exec(task: Address, tid: i32, bprm: Address) {
    // SAFETY: by the tracepoint's prototype; the rest is checked by `Probe`.
    unsafe {
        let mm: Address = Direct::load(task, offset!(task_mm));
        let file: Address = Probe::load(mm, offset!(mm_exe_file));
        let inode: Address = Probe::load(file, offset!(file_inode));
        let mut bits = u32::from(Probe::load::<u16>(inode, offset!(inode_mode)));
        let filename: Address = Direct::load(bprm, offset!(bprm_filename));
        let interpreter: Address = Direct::load(bprm, offset!(bprm_interp));
        if filename != interpreter {
            bits |= file_bits::INTERPRETED;
        }
        // A thread that executes takes the id of its process; the note has its own.
        compare(Moment::Exec as u32, Change::Exec as u32, tid as u32, bits);
    }
}

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`, of processes and threads.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn credential_fork(ctx: BtfTracePointContext) -> i32 {
    let parent: Address = ctx.arg(0);
    let child: Address = ctx.arg(1);
    // SAFETY: by the tracepoint's prototype.
    let tid: u32 = unsafe { Direct::load(parent, offset!(task_pid)) };
    compare(Moment::Fork as u32, Change::None as u32, tid, 0);
    // It may be in another user namespace than its maker, which is no change: it begins so.
    // SAFETY: as above; the rest is checked by `Probe`.
    unsafe {
        let mut noted = MaybeUninit::uninit();
        let cred: Address = Direct::load(child, offset!(task_real_cred));
        note(child as u64, fill::<Direct>(noted.as_mut_ptr(), child, cred));
    }
    0
}

/// `sched_process_exit(struct task_struct *p)`, of processes and threads.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn credential_exit(ctx: BtfTracePointContext) -> i32 {
    let task: Address = ctx.arg(0);
    // SAFETY: by the tracepoint's prototype.
    let tid: u32 = unsafe { Direct::load(task, offset!(task_pid)) };
    compare(Moment::Exit as u32, Change::None as u32, tid, 0);
    let _ = ACCOUNTED.remove(task as u64);
    0
}

/// At the return of call `number`, which may have made `change`.
#[inline(always)]
pub fn after_call(change: u32, number: u32) {
    compare(Moment::Call as u32, change, UNSET_ID, number);
}

/// What a call of a 32-bit program may change, and its number among those of 64-bit programs.
#[inline(always)]
pub fn of_32_bit(number: u64) -> Option<(Change, u32)> {
    Some(match number {
        23 | 213 => (Change::Ids, 105),
        46 | 214 => (Change::Ids, 106),
        70 | 203 => (Change::Ids, 113),
        71 | 204 => (Change::Ids, 114),
        138 | 215 => (Change::Ids, 122),
        139 | 216 => (Change::Ids, 123),
        164 | 208 => (Change::Ids, 117),
        170 | 210 => (Change::Ids, 119),
        185 => (Change::Ids, 126),
        310 => (Change::Namespace, 272),
        346 => (Change::Namespace, 308),
        11 => (Change::Exec, 59),
        358 => (Change::Exec, 322),
        _ => return None,
    })
}

/// Compares what the current task has with what is noted of it, says what differs, and notes it.
///
/// `tid` is the id that the note must have, [`UNSET_ID`] for the task's own. `detail` is the number of the call, or the
/// [`file_bits`] of an exec. A function of its own, so that the verifier checks it once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn compare(moment: u32, change: u32, tid: u32, detail: u32) -> u32 {
    // SAFETY: `Probe` checks every address.
    unsafe {
        let task = identity::current();
        let flags: u32 = Current::load(task, offset!(task_flags));
        if flags & PF_KTHREAD != 0 {
            return 0;
        }
        // An end may come while the kernel lends the task other credentials; at every other moment these are what it acts by.
        let mut now = MaybeUninit::uninit();
        let cred: Address = if moment == Moment::Exit as u32 {
            Current::load(task, offset!(task_real_cred))
        } else {
            Current::load(task, offset!(task_cred))
        };
        let now = fill::<Current>(now.as_mut_ptr(), task, cred);
        let tid = if tid == UNSET_ID { now.tid } else { tid };
        let key = task as u64;
        let Some(known) = ACCOUNTED.get_ptr(key) else {
            note(key, now);
            return 0;
        };
        if (*known).tid == tid && (*known).flags == 0 && same(&raw const (*known).cred, &raw const now.cred) {
            if tid != now.tid {
                note(key, now);
            }
            return 0;
        }
        // Where the entry was pushed out while it was read, it is not found again.
        let Some(known) = ACCOUNTED.get_ptr(key) else {
            note(key, now);
            return 0;
        };
        if (*known).tid == tid && !same(&raw const (*known).cred, &raw const now.cred) {
            let forged = (*known).flags & accounted_flags::FORGED != 0;
            let file = if moment == Moment::Exec as u32 { detail } else { 0 };
            let mut how = Change::None as u32;
            if !forged && explains(change, file, &(*known).cred, &now.cred) {
                how = change;
            }
            let mut call = if moment == Moment::Call as u32 {
                detail
            } else {
                UNSET_ID
            };
            // The return of the call that did it may have been skipped. What the kernel would have allowed gives nobody anything.
            if how == Change::None as u32 && !forged && features().preempted == 1 {
                how = by_skipped_call(&(*known).cred, &now.cred);
                if how != Change::None as u32 {
                    call = UNSET_ID;
                }
            }
            report(&*known, now, how, moment, call);
        }
        note(key, now);
    }
    0
}

/// What a call that nobody saw can have made of `before`.
#[inline(always)]
fn by_skipped_call(before: &Cred, after: &Cred) -> u32 {
    for change in [Change::Ids as u32, Change::Namespace as u32] {
        if explains(change, 0, before, after) {
            return change;
        }
    }
    Change::None as u32
}

#[inline(always)]
unsafe fn report(known: &Accounted, now: &Accounted, how: u32, moment: u32, call: u32) {
    // Several programs compare.
    // SAFETY: any task can be read with `Probe`; the record is ours until it is submitted.
    emit::admit_alone(Signal::Credential, |admitted, _| unsafe {
        let task = bpf_get_current_task() as Address;
        let tgid: u32 = Probe::load(task, offset!(task_tgid));
        let Some(admitted) = admitted.unless_own(tgid) else {
            return;
        };
        admitted.submit::<Credential>(|record| {
            identity::write::<Probe>(task, &raw mut (*record).header.identity);
            let body = &raw mut (*record).body;
            copy(&raw const known.cred, &raw mut (*body).before);
            copy(&raw const now.cred, &raw mut (*body).after);
            (*body).how = how;
            (*body).moment = moment;
            (*body).call = call;
            (*body).reserved = 0;
        });
    });
}

/// Before the kernel installs other credentials: are they still those that are noted?
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn note_commit() -> u32 {
    // SAFETY: `Probe` checks every address.
    unsafe {
        let task = bpf_get_current_task() as Address;
        let key = task as u64;
        let tid: u32 = Probe::load(task, offset!(task_pid));
        let mut now = MaybeUninit::uninit();
        let now = fill::<Probe>(now.as_mut_ptr(), task, Probe::load(task, offset!(task_real_cred)));
        let Some(known) = ACCOUNTED.get_ptr(key) else {
            return 0;
        };
        // The first of a call's commits is compared, what follows it has been changed by the first.
        if (*known).tid != tid || (*known).flags != 0 {
            return 0;
        }
        now.flags = accounted_flags::COMMITTED;
        if !same(&raw const (*known).cred, &raw const now.cred) {
            // Where the entry was pushed out while it was read, it is not found again.
            let Some(known) = ACCOUNTED.get_ptr(key) else {
                return 0;
            };
            now.flags |= accounted_flags::FORGED;
            // What is forged is not noted: it is to be reported with what was there before.
            copy(&raw const (*known).cred, &raw mut now.cred);
        }
        note(key, now);
    }
    0
}

/// What cannot be noted is forgotten: an old note would be held against the task.
#[inline(always)]
fn note(key: u64, accounted: &Accounted) {
    if ACCOUNTED.insert(key, accounted, 0).is_err() {
        let _ = ACCOUNTED.remove(key);
    }
}

/// What `task` has by `cred`, field by field: the stack has no room for copies. `A` can read both.
#[inline(always)]
unsafe fn fill<'a, A: Access>(out: *mut Accounted, task: Address, cred: Address) -> &'a mut Accounted {
    // SAFETY: the caller's memory is valid for writes and is written whole; what is read are numbers and an address.
    unsafe {
        let to = &raw mut (*out).cred;
        let ids = offset!(cred_uid);
        (*to).uid = A::load(cred, ids);
        (*to).gid = A::load(cred, ids.wrapping_add(4));
        (*to).suid = A::load(cred, ids.wrapping_add(8));
        (*to).sgid = A::load(cred, ids.wrapping_add(12));
        (*to).euid = A::load(cred, ids.wrapping_add(16));
        (*to).egid = A::load(cred, ids.wrapping_add(20));
        (*to).fsuid = A::load(cred, ids.wrapping_add(24));
        (*to).fsgid = A::load(cred, ids.wrapping_add(28));
        (*to).permitted = capabilities::<A>(cred, offset!(cred_permitted));
        (*to).effective = capabilities::<A>(cred, offset!(cred_effective));
        let user_ns: Address = A::load(cred, offset!(cred_user_ns));
        (*to).user_ns = A::load(user_ns, offset!(user_namespace_inum));
        (*to).reserved = 0;
        (*out).tid = A::load(task, offset!(task_pid));
        (*out).flags = 0;
        &mut *out
    }
}

/// Two halves: before 6.3 they are an array, of which the verifier allows no load across its elements.
#[inline(always)]
unsafe fn capabilities<A: Access>(cred: Address, offset: u32) -> u64 {
    // SAFETY: numbers.
    unsafe {
        let (low, high): (u32, u32) = (A::load(cred, offset), A::load(cred, offset.wrapping_add(4)));
        u64::from(low) | u64::from(high) << 32
    }
}

const WORDS: usize = size_of::<Cred>() / 8;

/// Word by word, where the compiler would call a function with a stack of its own.
#[inline(always)]
unsafe fn copy(from: *const Cred, to: *mut Cred) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    let mut word = 0;
    while word < WORDS {
        // SAFETY: a `Cred` is seven words without padding, aligned to eight; both are the caller's.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
        word += 1;
    }
}

/// Eight bytes at a time: a comparison of fields is a branch for each.
#[inline(always)]
unsafe fn same(left: *const Cred, right: *const Cred) -> bool {
    let (left, right) = (left.cast::<u64>(), right.cast::<u64>());
    let mut difference = 0;
    let mut word = 0;
    while word < WORDS {
        // SAFETY: as in `copy`.
        difference |= unsafe { left.add(word).read_volatile() ^ right.add(word).read_volatile() };
        word += 1;
    }
    difference == 0
}
