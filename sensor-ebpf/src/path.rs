//! Paths, walked from a file up to the root of its mount namespace, as the kernel itself does to print one.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user_str};
use sensor_common::{MuteKind, record::PATH_MAX};

use crate::{
    emit, filter,
    kernel::{Access, Address, Head, Probe, offset},
    scratch::{self, Caller},
};

/// Deepest path that is walked; each step is a component or a mount.
const STEPS_MAX: u32 = 64;
/// Longest component, NUL included.
const NAME_MAX: u32 = 256;

/// Memory to append the variable parts of a record to. The cursor lives beside the bytes, not in a register, so
/// that the verifier sees the same state each time round a loop.
#[derive(Clone, Copy)]
pub struct Tail {
    pub cursor: *mut u64,
    pub bytes: *mut u8,
}

/// A part may begin anywhere below this (a power of two) …
const BEGIN_MAX: u64 = 16384;
/// … and be as long as this.
const PART_MAX: u64 = 8192;
/// Bytes that a tail has room for.
pub const TAIL_SIZE: usize = (BEGIN_MAX + PART_MAX) as usize;

impl Tail {
    /// Bytes written so far.
    #[inline(always)]
    pub unsafe fn length(self) -> u64 {
        // SAFETY: the caller's tail is valid.
        unsafe { core::ptr::read_volatile(self.cursor) }
    }

    /// Where the next part goes; `None` where there is no room for one.
    #[inline(always)]
    pub unsafe fn end(self) -> Option<*mut u8> {
        // SAFETY: the caller's tail is valid, and the mask keeps a part's beginning within it.
        unsafe {
            let cursor = self.length();
            if cursor >= BEGIN_MAX {
                return None;
            }
            Some(self.bytes.add((cursor & (BEGIN_MAX - 1)) as usize))
        }
    }

    #[inline(always)]
    pub unsafe fn advance(self, length: u64) {
        // SAFETY: the caller's tail is valid.
        unsafe { core::ptr::write_volatile(self.cursor, self.length() + length) }
    }

    /// Copies a string of the current process. Its length without its NUL, and the whole of it or not; `None` where it
    /// could not be read.
    #[inline(always)]
    pub unsafe fn push_user_str(self, source: u64) -> Option<(u32, bool)> {
        // SAFETY: as in `push_str`.
        unsafe {
            let end = self.end()?;
            let copied = bpf_probe_read_user_str(end.cast(), PATH_MAX as u32, source as *const _);
            if copied <= 0 {
                return None;
            }
            self.advance(copied as u64 - 1);
            Some((copied as u32 - 1, copied < PATH_MAX as i64))
        }
    }

    /// Copies a string and returns its length without its NUL; 0 where it could not be read.
    #[inline(always)]
    pub unsafe fn push_str(self, source: Address) -> u32 {
        // SAFETY: `end` leaves room for PART_MAX bytes, and the helper checks the source.
        unsafe {
            let Some(end) = self.end() else { return 0 };
            let copied = bpf_probe_read_kernel_str(end.cast(), PATH_MAX as u32, source.cast());
            if copied <= 1 {
                return 0;
            }
            self.advance(copied as u64 - 1);
            copied as u32 - 1
        }
    }
}

/// Appends what stands for the root directory, which has no component, as a text; its length.
#[inline(always)]
pub unsafe fn push_root(tail: Tail) -> u32 {
    // SAFETY: as promised by the caller.
    unsafe {
        let Some(end) = tail.end() else { return 0 };
        *end = b'/';
        tail.advance(1);
    }
    1
}

/// What [`walk`] says: the walk reached the root, …
pub const ROOTED: u32 = 1;
/// … or a file that is in no directory at all, as a memfd is, or in a file system that is not in the mount, …
pub const DETACHED: u32 = 2;
/// … or neither: the path is cut.
pub const CUT: u32 = 0;
/// With the number of a rule: it mutes the file or a directory above it.
pub const MUTED: u32 = 1 << 16;
/// There was no path to walk. A number rather than an option: what an option leaves undefined, the verifier refuses.
pub const NONE: u32 = 1 << 17;

/// Appends the path of `dentry` in `vfsmount` to the caller's record, leaf first with a NUL after each component.
#[inline(always)]
pub fn walk(caller: Caller, dentry: Address, vfsmount: Address) -> u32 {
    push_path(dentry as u64, vfsmount as u64, caller.number())
}

/// See [`walk`].
///
/// A function of its own with nothing but numbers as arguments, so that the verifier checks it once, by itself. Inlined, the
/// many ways out of the loop multiply with what follows.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn push_path(dentry: u64, vfsmount: u64, caller: u32) -> u32 {
    let Some(tail) = scratch::tail(caller) else {
        return CUT;
    };
    // What is executed is told whatever is muted; what security hooks report is muted by the agent.
    let mutes = caller == Caller::Call.number()
        && emit::settings().is_some_and(|settings| settings.has(MuteKind::Path));
    let mut dentry = dentry as Address;
    let mut vfsmount = vfsmount as Address;
    // SAFETY: `Probe` checks every address.
    let mut root: Address = unsafe { Probe::load(vfsmount, offset!(vfsmount_root)) };
    let mut room = MaybeUninit::<[u64; 7]>::uninit();
    let mut step = 0;
    while step < STEPS_MAX {
        step += 1;
        // SAFETY: `Probe` checks every address; the tail checks its own bounds.
        unsafe {
            let head = Head::read(dentry, room.as_mut_ptr());
            if mutes && let Some(rule) = filter::path(head.field(offset!(dentry_inode))) {
                return MUTED | rule & 0xffff;
            }
            if dentry == root {
                let mount = vfsmount.wrapping_sub(offset!(mount_mnt) as usize);
                let above: Address = Probe::load(mount, offset!(mount_parent));
                if above == mount || above.is_null() {
                    return ROOTED;
                }
                dentry = Probe::load(mount, offset!(mount_mountpoint));
                vfsmount = above.wrapping_add(offset!(mount_mnt) as usize);
                root = Probe::load(vfsmount, offset!(vfsmount_root));
                continue;
            }
            let Some(end) = tail.end() else { return CUT };
            let name: Address = head.field(offset!(dentry_name));
            let copied = bpf_probe_read_kernel_str(end.cast(), NAME_MAX, name.cast());
            if copied <= 0 {
                return CUT;
            }
            // The root of a file system that is not mounted where the walk began: no component is called that.
            if *end == b'/' {
                return DETACHED;
            }
            tail.advance(copied as u64);
            let parent: Address = head.field(offset!(dentry_parent));
            // A file without a directory, as a memfd or a pipe.
            if parent == dentry {
                return DETACHED;
            }
            dentry = parent;
        }
    }
    CUT
}
