//! Orders of system calls that are new to a workload.
//!
//! The mark of a profiled thread goes with its id: it is inherited, set anew by the cgroup at an exec, and taken
//! away at the thread's end; the agent marks what runs already. Of a profiled thread the last calls are looked up in the set of
//! what its workload is known to do; while the workload is learned, what is not there is put there, afterwards it is
//! reported once. CPUs write the set without a lock: where two put a window into the same place at once, one of them is not
//! known yet, and is learned or reported again.
//!
//! A thread that is not profiled pays for a look at one word. To ask for its id would cost more than all else: a call of a helper returns, which
//! processors with the mitigation "Safe RET" take 20 ns for. But the registers lie on its stack, whose address is at hand; so a
//! thread that was found not to be profiled leaves a pass under its stack's number.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};
use core::{arch::asm, ptr};
use sensor_common::{
    Sequence, Signal,
    sequence::{
        BUCKET, BUCKETS, Bucket, CGROUPS_MAX, Marks, NO_HISTORY, PASSES, REPORTED, REPORTS_MAX, STACK_BITS,
        THREADS, ThreadState, WINDOWS_MAX, WORKLOADS, WorkloadCounts, WorkloadState, bucket, calls, is_whole,
        key, other_bucket, pass, push, stack_of, workload,
    },
};

use crate::{
    emit, identity,
    kernel::{Access, Address, Direct, Probe, are_sequences_wanted, offset},
};

const BPF_F_MMAPABLE: u32 = 1 << 10;
const SECOND: u64 = 1_000_000_000;
/// See `call`: numbers of 32-bit calls mean something else.
const TS_COMPAT: u32 = 2;

#[map]
static MARKS: Array<Marks> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// By the lowest bits of a thread's id.
#[map]
static THREAD_STATES: Array<ThreadState> = Array::with_max_entries(THREADS as u32, BPF_F_MMAPABLE);

/// The windows that are known.
#[map]
static KNOWN: Array<Bucket> = Array::with_max_entries(BUCKETS as u32, BPF_F_MMAPABLE);

#[map]
static WORKLOAD_STATES: Array<WorkloadState> = Array::with_max_entries(WORKLOADS as u32, BPF_F_MMAPABLE);

#[map]
static WORKLOAD_COUNTS: PerCpuArray<WorkloadCounts> = PerCpuArray::with_max_entries(WORKLOADS as u32, 0);

/// From the cgroups of profiled workloads to their numbers.
#[map]
static PROFILED_CGROUPS: LruHashMap<u64, u32> = LruHashMap::with_max_entries(CGROUPS_MAX, 0);

/// The current thread has made a system call; `registers` are where the kernel keeps those of its program.
#[inline(always)]
pub fn called(registers: Address, number: u64) {
    if !are_sequences_wanted() {
        return;
    }
    let Some(marks) = MARKS.get_ptr_mut(0) else { return };
    let stack = number_of(registers) >> STACK_BITS;
    // SAFETY: within the map's value, by constants and by masks.
    unsafe {
        // Before the mark is looked at: a pass must not outlive a mark that is set meanwhile.
        let pass = pass(stack, look(&raw const (*marks).generation));
        let place = pass_of(marks, stack);
        if look(place) == pass {
            return;
        }
        let tid = bpf_get_current_pid_tgid() as u32;
        let workload = look(mark_of(marks, tid));
        if workload == 0 {
            ptr::write_volatile(place, pass);
            return;
        }
        take_pass(marks, stack);
        follow(tid, workload, number);
    }
}

/// A pointer as a number. The verifier forbids arithmetic on pointers but for negation, the result of which it takes for a number.
#[inline(always)]
fn number_of(pointer: Address) -> u64 {
    let mut number = pointer as u64;
    // SAFETY: negates a register.
    unsafe { asm!("{0} = -{0}", inout(reg) number, options(pure, nomem, nostack)) };
    number.wrapping_neg()
}

#[inline(always)]
fn follow(tid: u32, workload: u8, number: u64) {
    let Some(state) = state(tid) else { return };
    // SAFETY: map memory; only this thread writes the state that bears its id.
    let history = unsafe {
        if (*state).tid != tid {
            return;
        }
        let history = push((*state).history, number);
        (*state).history = history;
        history
    };
    if !is_whole(history) {
        return;
    }
    let key = key(history, workload);
    if !holds(bucket(key), key) {
        not_at_first_sight(key);
    }
}

/// Whether a bucket has a key.
#[inline(always)]
fn holds(bucket: u32, key: u64) -> bool {
    let Some(bucket) = KNOWN.get_ptr(bucket) else {
        return false;
    };
    let at = |index: usize| {
        // SAFETY: the index is within the bucket.
        look(unsafe { (&raw const (*bucket).keys).cast::<u64>().add(index) })
    };
    at(0) == key
        || at(1) == key
        || at(2) == key
        || at(3) == key
        || at(4) == key
        || at(5) == key
        || at(6) == key
        || at(7) == key
}

/// Puts a key where there is room. False if there is none.
#[inline(always)]
fn put(bucket: u32, key: u64) -> bool {
    let Some(bucket) = KNOWN.get_ptr_mut(bucket) else {
        return false;
    };
    let mut index = 0;
    while index < BUCKET {
        // SAFETY: the index is within the bucket.
        unsafe {
            let place = (&raw mut (*bucket).keys).cast::<u64>().add(index);
            if look(place) == 0 {
                ptr::write_volatile(place, key);
                return true;
            }
        }
        index += 1;
    }
    false
}

/// The key is not in its usual place. A function that is verified by itself.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn not_at_first_sight(key: u64) -> u32 {
    if holds(other_bucket(key), key) || is_32_bit() {
        return 0;
    }
    let number = u32::from(workload(key));
    let (Some(state), Some(counts)) = (
        WORKLOAD_STATES.get_ptr_mut(number),
        WORKLOAD_COUNTS.get_ptr_mut(number),
    ) else {
        return 0;
    };
    // SAFETY: map memory; the counters are this CPU's, the state is written without a lock.
    unsafe {
        if (*state).enforced == 0 {
            if store(&mut *state, &mut *counts, key) {
                (*state).learned_at = bpf_ktime_get_boot_ns();
            }
        } else {
            novel(key);
        }
    }
    0
}

#[inline(always)]
fn is_32_bit() -> bool {
    // SAFETY: `Probe` checks the address.
    let status: u32 = unsafe { Probe::load(bpf_get_current_task() as Address, offset!(task_thread_status)) };
    status & TS_COMPAT != 0
}

#[inline(always)]
fn store(state: &mut WorkloadState, counts: &mut WorkloadCounts, key: u64) -> bool {
    if state.windows < WINDOWS_MAX && (put(bucket(key), key) || put(other_bucket(key), key)) {
        state.windows += 1;
        return true;
    }
    counts.unstored += 1;
    false
}

/// A window that its workload was not known to have. It is an event each time; only the first is reported. A function that is verified
/// by itself.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn novel(key: u64) -> u32 {
    let number = u32::from(workload(key));
    let (Some(state), Some(counts)) = (
        WORKLOAD_STATES.get_ptr_mut(number),
        WORKLOAD_COUNTS.get_ptr_mut(number),
    ) else {
        return 0;
    };
    let Some(admitted) = emit::admit(Signal::Sequence) else {
        return 0;
    };
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(admitted) = admitted.unless_own(tgid) else {
        return 0;
    };
    let reported = key | REPORTED;
    if holds(bucket(key), reported) || holds(other_bucket(key), reported) {
        admitted.fold();
        return 0;
    }
    // SAFETY: map memory; the counters are this CPU's, the state is written without a lock.
    let (state, counts) = unsafe { (&mut *state, &mut *counts) };
    if is_too_much(state) {
        counts.withheld += 1;
        admitted.fold();
        return 0;
    }
    store(state, counts, reported);
    let withheld = counts.withheld;
    counts.withheld = 0;
    admitted.submit::<Sequence>(|record| {
        // SAFETY: the record is being written, and every byte of it is.
        unsafe {
            identity::write_current(&raw mut (*record).header.identity);
            (*record).body.withheld = withheld;
            (*record).body.workload = number;
            (*record).body.calls = calls(key);
        }
    });
    0
}

/// Whether the workload has had its reports of this second.
#[inline(always)]
fn is_too_much(state: &mut WorkloadState) -> bool {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now.wrapping_sub(state.second) >= SECOND {
        state.second = now;
        state.reports = 0;
    }
    if state.reports >= REPORTS_MAX {
        return true;
    }
    state.reports += 1;
    false
}

/// A thread was made: it belongs to where it came from.
///
/// # Safety
/// Both must be tasks, to the verifier too.
#[inline(always)]
pub unsafe fn forked(parent: Address, child: Address) {
    if !are_sequences_wanted() {
        return;
    }
    let Some(marks) = MARKS.get_ptr_mut(0) else { return };
    // SAFETY: as promised; what the mark and the state hold is plain numbers.
    unsafe {
        let tid: u32 = Direct::load(parent, offset!(task_pid));
        let workload = look(mark_of(marks, tid));
        if workload != 0 && state(tid).is_some_and(|state| (*state).tid == tid) {
            claim(marks, child, workload);
        }
    }
}

/// A process has a new program: it belongs to the workload of its cgroup.
///
/// # Safety
/// `task` must be a task, to the verifier too.
#[inline(always)]
pub unsafe fn executed(task: Address, old_tid: u32) {
    if !are_sequences_wanted() {
        return;
    }
    let Some(marks) = MARKS.get_ptr_mut(0) else { return };
    // SAFETY: as promised.
    unsafe {
        // Another thread than the leader takes the leader's id.
        release(marks, old_tid);
        release(marks, Direct::load(task, offset!(task_pid)));
        let cgroup = identity::cgroup::<Direct>(task);
        if let Some(workload) = PROFILED_CGROUPS.get(&cgroup) {
            claim(marks, task, *workload as u8);
        }
    }
}

/// A thread ends.
///
/// # Safety
/// `task` must be a task, to the verifier too.
#[inline(always)]
pub unsafe fn exited(task: Address) {
    if !are_sequences_wanted() {
        return;
    }
    if let Some(marks) = MARKS.get_ptr_mut(0) {
        // SAFETY: as promised.
        unsafe { release(marks, Direct::load(task, offset!(task_pid))) };
    }
}

/// Marks a thread, unless its place is another's.
#[inline(always)]
unsafe fn claim(marks: *mut Marks, task: Address, workload: u8) {
    // SAFETY: map memory, and a task.
    unsafe {
        let tid: u32 = Direct::load(task, offset!(task_pid));
        let mark = mark_of(marks, tid);
        let Some(state) = state(tid) else { return };
        if look(mark) != 0 && (*state).tid != 0 {
            return;
        }
        (*state).tid = tid;
        (*state).history = NO_HISTORY;
        ptr::write_volatile(mark, workload);
        // By helper: to the verifier, what a load finds there is no number but an address.
        let stack = Probe::load::<u64>(task, offset!(task_stack)) >> STACK_BITS;
        take_pass(marks, stack);
        // Where the kernel checks its addresses, stacks are twice as large, and registers lie in the upper half.
        take_pass(marks, stack + 1);
    }
}

/// Takes a thread's mark away, if the place is its own.
#[inline(always)]
unsafe fn release(marks: *mut Marks, tid: u32) {
    // SAFETY: map memory.
    unsafe {
        let mark = mark_of(marks, tid);
        if let Some(state) = state(tid)
            && look(mark) != 0
            && (*state).tid == tid
        {
            ptr::write_volatile(mark, 0);
            (*state).tid = 0;
        }
    }
}

/// The thread with this stack is profiled from now on.
#[inline(always)]
unsafe fn take_pass(marks: *mut Marks, stack: u64) {
    // SAFETY: map memory.
    unsafe {
        let place = pass_of(marks, stack);
        if stack_of(look(place)) == stack {
            ptr::write_volatile(place, 0);
        }
    }
}

#[inline(always)]
unsafe fn pass_of(marks: *mut Marks, stack: u64) -> *mut u64 {
    // SAFETY: the index is within the array.
    unsafe {
        (&raw mut (*marks).passes)
            .cast::<u64>()
            .add(stack as usize & (PASSES - 1))
    }
}

#[inline(always)]
unsafe fn mark_of(marks: *mut Marks, tid: u32) -> *mut u8 {
    // SAFETY: the index is within the array.
    unsafe {
        (&raw mut (*marks).marks)
            .cast::<u8>()
            .add(tid as usize & (THREADS - 1))
    }
}

#[inline(always)]
fn state(tid: u32) -> Option<*mut ThreadState> {
    THREAD_STATES.get_ptr_mut(tid & (THREADS as u32 - 1))
}

/// What others may write at any time.
#[inline(always)]
fn look<T: Copy>(place: *const T) -> T {
    // SAFETY: the callers' places are in map memory, and aligned.
    unsafe { ptr::read_volatile(place) }
}
