//! What system calls say, at their return: one program for all of them, driven by a table.
//!
//! The registers still hold the number and the arguments then, and a descriptor that was returned can be followed to the
//! file that the kernel opened. Texts are read when the kernel has read them already: between the two, another thread of the
//! process can change them. That is what better rungs are for.

use aya_ebpf::{
    helpers::bpf_get_current_task,
    macros::{btf_tracepoint, map},
    maps::Array,
    programs::BtfTracePointContext,
};
use sensor_common::{
    CallRule, Header, Operation, Signal,
    call::{
        ANY, CALLS_MAX, FILE_MODE, KERNEL_ALONE, PEEKED, PLAIN, PathArguments, RESULT, Ruled, TESTS, VALUES,
    },
    credential::Change,
    record::operation_flags,
};

use crate::{
    credential,
    emit::{self, Admitted},
    file::{self, Facts, Open},
    filter,
    fold::{self, Folding},
    identity,
    kernel::{Access, Address, Current, Direct, Probe, offset},
    path,
    scratch::{self, Caller, Draft},
    sequence,
};

/// `status` of a thread that made a 32-bit call: its numbers mean something else.
const TS_COMPAT: u32 = 2;
/// Code segment of 32-bit programs: their calls have other numbers.
const USER32_CS: u16 = 0x23;
/// The current directory, where a descriptor of a directory is expected.
const AT_FDCWD: i32 = -100;
/// `f_mode` of a file that the call made.
const FMODE_CREATED: u64 = 0x0010_0000;
/// `f_mode`, bits of reading and writing.
const FMODE_ACCESS: u32 = 3;
const FMODE_WRITE: u32 = 2;

/// By number of the call.
#[map]
static CALLS: Array<CallRule> = Array::with_max_entries(CALLS_MAX as u32, 0);

/// Bit *n* set: call number *n* has a rule. The loader replaces it; a line of the cache tells what the table, larger than that
/// cache, would be asked for at every call.
#[unsafe(no_mangle)]
static RULED: Ruled = [0; CALLS_MAX / 64];

/// `sys_exit(struct pt_regs *regs, long ret)`.
#[btf_tracepoint(function = "sys_exit")]
pub fn call_exit(ctx: BtfTracePointContext) -> i32 {
    let registers: Address = ctx.arg(0);
    let result: i64 = ctx.arg(1);
    // SAFETY: registers, by the tracepoint's prototype.
    let number: u64 = unsafe { Direct::load(registers, offset!(regs_orig_ax)) };
    // SAFETY: as above.
    if unsafe { Direct::load::<u16>(registers, offset!(regs_cs)) } == USER32_CS {
        if let Some((change, number)) = credential::of_32_bit(number) {
            credential::after_call(change as u32, number);
        }
        return 0;
    }
    sequence::called(registers, number);
    if !is_ruled(number) {
        return 0;
    }
    let Some(rule) = CALLS.get(number as u32) else {
        return 0;
    };
    // An exec that succeeds has been compared; one that fails may have changed them before it did.
    if rule.credentials != 0 && (rule.credentials != Change::Exec as u8 || result < 0) {
        credential::after_call(u32::from(rule.credentials), number as u32);
    }
    // What failed has not happened.
    if rule.signal == 0 || result < 0 {
        return 0;
    }
    if is_reported(registers, number as u32, result, rule) && rule.credentials == 0 {
        credential::after_call(Change::None as u32, number as u32);
    }
    0
}

#[inline(always)]
fn is_ruled(number: u64) -> bool {
    if number >= CALLS_MAX as u64 {
        return false;
    }
    // SAFETY: the index is within the array, which is never written to.
    let bits = unsafe { core::ptr::read_volatile((&raw const RULED[0]).add(number as usize / 64)) };
    bits >> (number % 64) & 1 != 0
}

/// Reports the call, if it is one that counts; false if it is not, and where it is one more of what was reported.
#[inline(always)]
fn is_reported(registers: Address, number: u32, result: i64, rule: &CallRule) -> bool {
    let Some(Draft {
        header,
        body,
        tail,
        heads,
    }) = scratch::begin::<Operation>(Caller::Call)
    else {
        return false;
    };
    // SAFETY: the scratch memory is this CPU's and this program's alone; addresses come from the kernel.
    unsafe {
        let values = &raw mut (*body).values;
        read_arguments(registers, values);
        let descriptor = match rule.file {
            0 => NO_FILE,
            RESULT => result as u32,
            position => argument(values, position) as u32,
        };
        let opened = look_up(descriptor);
        if opened == OF_32_BIT {
            return false;
        }
        let open = Open::read(opened as Address, &raw mut (*heads)[0]);
        (*values)[FILE_MODE as usize] = u64::from(open.mode());
        if rule.peek != 0 {
            (*values)[PEEKED as usize] = u64::from(user_word(argument(values, rule.peek)));
        }
        if !passes(rule, values) && !(rule.watched != 0 && is_watched(&open)) {
            return false;
        }
        let created = rule.created != 0 && (*values)[FILE_MODE as usize] & FMODE_CREATED != 0;
        let mut signal = u32::from(if created { rule.created } else { rule.signal }) - 1;
        let facts = if open.is_none() {
            Facts::NONE
        } else {
            file::facts_in(open.inode(), &raw mut (*heads)[1])
        };
        if rule.kernel != 0 {
            match changed_by(&open, &facts) {
                Some(kernel) => signal = kernel as u32,
                None if rule.kernel == KERNEL_ALONE => return false,
                None => {}
            }
        }
        let Some(admitted) = emit::admit_number(signal) else {
            return true;
        };
        let Some(admitted) = unless_muted(admitted, header) else {
            return true;
        };
        let settings = admitted.settings();
        let (mut slot, mut index, mut generation) = (None, 0, 0);
        if rule.folds != 0 && !created {
            let mode = (*values)[FILE_MODE as usize] as u32 & FMODE_ACCESS;
            let key = fold::Key {
                start_time: (*header).identity.start_time,
                inode: facts.inode,
                tgid: (*header).identity.tgid,
                device: facts.device,
                kind: signal | mode << 16 | number << 18,
            };
            match fold::fold(settings, &key) {
                Folding::Again(0) => {
                    admitted.fold();
                    return false;
                }
                Folding::Again(rule) => {
                    admitted.mute_by(rule - 1);
                    return false;
                }
                Folding::First(fold, place) => {
                    (index, generation) = (place, fold.generation);
                    slot = Some(fold);
                }
                Folding::Alone => {}
            }
        }
        (*body).result = result;
        (*body).call = number;
        (*body).flags = 0;
        (*body).lengths = [0; 4];
        (*body).inode = facts.inode;
        (*body).device = facts.device;
        (*body).mode = facts.mode;
        (*body).fold = index;
        (*body).fold_generation = generation;
        if settings.mutes == 0 {
            identify();
        }
        if let Some(muting) = describe_all(&open, rule, values, body, tail) {
            if let Some(slot) = slot {
                fold::mute(slot, settings, muting);
            }
            admitted.mute_by(muting);
            return true;
        }
        admitted.output::<Operation>(header, tail);
    }
    true
}

/// Mutes it if the agent did it, or a process that a rule mutes. Afterwards the header says who it is if there are any rules.
#[inline(always)]
unsafe fn unless_muted(admitted: Admitted, header: *const Header) -> Option<Admitted> {
    // SAFETY: the caller's header, in which `look_up` has written that.
    let admitted = admitted.unless_own(unsafe { (*header).identity.tgid })?;
    let settings = admitted.settings();
    if settings.mutes == 0 {
        return Some(admitted);
    }
    identify();
    // SAFETY: as above; all of it was just written.
    let admitted = admitted.unless_muted(unsafe { &(*header).identity })?;
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() } as Address;
    admitted.unless_by(filter::executable(settings, task))
}

/// What [`look_up`] is asked for a call that has no file, …
const NO_FILE: u32 = u32::MAX;
/// … and what it says of one of a 32-bit program. No file has this address.
const OF_32_BIT: u64 = 1;

/// Writes into the header which process it is and when that began, and finds the file behind a descriptor: its address, 0 if there is none.
/// A function of its own: the kernel verifies it once, not on each way that leads here, and to follow typed addresses takes it long.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn look_up(descriptor: u32) -> u64 {
    let Some(Draft { header, .. }) = scratch::begin::<Operation>(Caller::Call) else {
        return OF_32_BIT;
    };
    // SAFETY: the scratch memory is this CPU's and this program's alone; the current task is read as what it is.
    unsafe {
        let task = identity::current();
        let status: u32 = Current::load(task, offset!(task_thread_status));
        if status & TS_COMPAT != 0 {
            return OF_32_BIT;
        }
        (*header).identity.tgid = Current::load(task, offset!(task_tgid));
        (*header).identity.start_time = identity::began::<Current>(task);
        if descriptor == NO_FILE {
            return 0;
        }
        let files: Address = Current::load(task, offset!(task_files));
        file_of::<Current>(files, descriptor as i32) as u64
    }
}

/// Writes who is acting into the header. A function of its own, verified once, by itself.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn identify() -> u32 {
    let Some(Draft { header, .. }) = scratch::begin::<Operation>(Caller::Call) else {
        return 0;
    };
    // SAFETY: the scratch memory is this CPU's and this program's alone.
    unsafe { identity::write_current(&raw mut (*header).identity) };
    1
}

/// Whether the file, or the directory that it is in, is watched.
#[inline(always)]
unsafe fn is_watched(open: &Open) -> bool {
    if open.is_none() || emit::settings().is_none_or(|settings| settings.watches == 0) {
        return false;
    }
    // SAFETY: `Probe` checks every address.
    unsafe {
        if filter::is_watched(open.inode()) {
            return true;
        }
        let parent: Address = Probe::load(open.place().0, offset!(dentry_parent));
        filter::is_watched(Probe::load(parent, offset!(dentry_inode)))
    }
}

/// Writes the file and both paths. The rule that mutes all that has a path, if one does.
#[inline(always)]
unsafe fn describe_all(
    open: &Open,
    rule: &CallRule,
    values: *const [u64; VALUES],
    body: *mut Operation,
    tail: path::Tail,
) -> Option<u32> {
    // SAFETY: as the caller's.
    unsafe {
        let (mut paths, mut muted, mut muting) = (0, 0, 0);
        let mut note = |walked: u32| {
            if walked == path::NONE {
                return;
            }
            paths += 1;
            if walked & path::MUTED != 0 {
                muted += 1;
                muting = walked & 0xffff;
            }
        };
        if !open.is_none() {
            note(describe(open, body, tail));
        }
        note(path_argument(&rule.paths[0], values, body, tail, 0));
        note(path_argument(&rule.paths[1], values, body, tail, 2));
        if muted > 0 && muted == paths {
            Some(muting)
        } else {
            None
        }
    }
}

#[inline(always)]
unsafe fn read_arguments(registers: Address, values: *mut [u64; VALUES]) {
    // SAFETY: registers, by the tracepoint's prototype.
    unsafe {
        (*values)[0] = Direct::load(registers, offset!(regs_di));
        (*values)[1] = Direct::load(registers, offset!(regs_si));
        (*values)[2] = Direct::load(registers, offset!(regs_dx));
        (*values)[3] = Direct::load(registers, offset!(regs_r10));
        (*values)[4] = Direct::load(registers, offset!(regs_r8));
        (*values)[5] = Direct::load(registers, offset!(regs_r9));
        (*values)[6] = 0;
        (*values)[7] = 0;
    }
}

/// The argument that a rule names, from 1.
#[inline(always)]
unsafe fn argument(values: *const [u64; VALUES], position: u8) -> u64 {
    let index = position.wrapping_sub(1) as usize & (VALUES - 1);
    // SAFETY: the index is within the array.
    unsafe { core::ptr::read_volatile((&raw const (*values)[0]).add(index)) }
}

#[inline(always)]
unsafe fn passes(rule: &CallRule, values: *const [u64; VALUES]) -> bool {
    let all = rule.all != 0;
    let mut passed = all || rule.tests == 0;
    let mut index = 0;
    while index < TESTS {
        if index as u8 >= rule.tests {
            break;
        }
        let test = &rule.test[index];
        // SAFETY: the caller's values are valid.
        let bits = unsafe { argument(values, test.value as u8 + 1) } & test.mask;
        let good = if test.wanted == ANY {
            bits != 0
        } else {
            bits == test.wanted
        };
        if all {
            passed &= good;
        } else {
            passed |= good;
        }
        index += 1;
    }
    passed
}

/// What a file changes of the kernel, if it was opened for writing and no better hook reports that.
#[inline(always)]
unsafe fn changed_by(open: &Open, facts: &Facts) -> Option<Signal> {
    if open.mode() & FMODE_WRITE == 0 {
        return None;
    }
    // SAFETY: the caller's file.
    let kernel = unsafe { file::changes_of_kernel(facts.super_block, open.place().0) }?;
    (!emit::settings()?.is_taken_over(kernel)).then_some(kernel)
}

/// The file behind a descriptor in a table of them, which `A` can read; null where there is none.
#[inline(always)]
unsafe fn file_of<A: Access>(files: Address, descriptor: i32) -> Address {
    // SAFETY: `A` and `Probe` check every address.
    unsafe {
        let table: Address = A::load(files, offset!(files_fdt));
        let count: u32 = A::load(table, offset!(fdtable_max_fds));
        if descriptor < 0 || descriptor as u32 >= count {
            return core::ptr::null();
        }
        let array: Address = A::load(table, offset!(fdtable_fd));
        Probe::load(array, (descriptor as u32).wrapping_mul(8))
    }
}

/// The file's path: how far that was walked.
#[inline(always)]
unsafe fn describe(open: &Open, body: *mut Operation, tail: path::Tail) -> u32 {
    // SAFETY: the caller's body and tail.
    unsafe {
        let (dentry, mnt) = open.place();
        let walked = path::walk(Caller::Call, dentry, mnt);
        if walked == path::CUT {
            (*body).flags |= operation_flags::TRUNCATED;
        }
        (*body).lengths[0] = tail.length() as u32;
        walked
    }
}

/// The directory that a path is relative to, and its text: how far the directory was walked.
#[inline(always)]
unsafe fn path_argument(
    arguments: &PathArguments,
    values: *const [u64; VALUES],
    body: *mut Operation,
    tail: path::Tail,
    part: usize,
) -> u32 {
    if arguments.text == 0 {
        return path::NONE;
    }
    // SAFETY: `Probe` checks every address, and the tail its own bounds.
    unsafe {
        let mut walked = path::NONE;
        let source = argument(values, arguments.text);
        if arguments.directory != PLAIN {
            let before = tail.length();
            let directory = directory_of(source, arguments.directory, values);
            walked = path::walk(Caller::Call, directory.0, directory.1);
            if walked == path::CUT {
                (*body).flags |= operation_flags::TRUNCATED;
            }
            (*body).lengths[part] = (tail.length() - before) as u32;
        }
        match tail.push_user_str(source) {
            Some((length, whole)) => {
                (*body).lengths[part + 1] = length;
                if !whole {
                    (*body).flags |= operation_flags::TRUNCATED;
                }
            }
            None => (*body).flags |= operation_flags::UNREADABLE,
        }
        walked
    }
}

/// Dentry and mount that the path begins at.
#[inline(always)]
unsafe fn directory_of(source: u64, position: u8, values: *const [u64; VALUES]) -> (Address, Address) {
    // SAFETY: `Probe` checks every address.
    unsafe {
        let task = bpf_get_current_task() as Address;
        let fs: Address = Probe::load(task, offset!(task_fs));
        if user_byte(source) == b'/' {
            return (
                Probe::load(fs, offset!(fs_root_dentry)),
                Probe::load(fs, offset!(fs_root_mnt)),
            );
        }
        let descriptor = argument(values, position) as i32;
        if position == 0 || descriptor == AT_FDCWD {
            return (
                Probe::load(fs, offset!(fs_pwd_dentry)),
                Probe::load(fs, offset!(fs_pwd_mnt)),
            );
        }
        let files: Address = Probe::load(task, offset!(task_files));
        file::place(file_of::<Probe>(files, descriptor))
    }
}

#[inline(always)]
unsafe fn user_word(source: u64) -> u32 {
    let mut word = 0_u32;
    // SAFETY: the helper writes the word, zero where the address is bad.
    unsafe {
        aya_ebpf::helpers::generated::bpf_probe_read_user((&raw mut word).cast(), 4, source as *const _);
    }
    word
}

#[inline(always)]
unsafe fn user_byte(source: u64) -> u8 {
    let mut byte = 0_u8;
    // SAFETY: the helper writes the byte, zero where the address is bad.
    unsafe {
        aya_ebpf::helpers::generated::bpf_probe_read_user((&raw mut byte).cast(), 1, source as *const _);
    }
    byte
}
