//! The path of a program, put together as a [key](sensor_common::verdict::Path).

use aya_ebpf::{
    helpers::{bpf_get_current_task, generated::bpf_probe_read_kernel_str},
    macros::map,
    maps::PerCpuArray,
};
use sensor_common::verdict::{PATH_MAX, Path};

use crate::kernel::{Access, Address, Probe, offset};

/// Deepest path that is walked; each step is a component or a mount.
const STEPS_MAX: u32 = 64;
/// Bytes of a key, and as many of one component behind them.
const KEY: usize = PATH_MAX + 1;
const ROOM: usize = 2 * KEY;

/// Which program. The kernel runs none of them twice at once on a CPU, so each has memory of its own.
#[derive(Clone, Copy)]
pub enum Place {
    Check,
    Exec,
    ExecSecond,
    ExecThird,
}

/// A path under construction. The cursor lies beside the bytes, not in a register, so that the verifier sees the same state each time
/// round a loop.
#[repr(C)]
struct Room {
    cursor: u64,
    bytes: [u8; ROOM],
}

#[map]
static V_ROOMS: PerCpuArray<Room> = PerCpuArray::with_max_entries(4, 0);

/// What was put together last.
#[inline(always)]
pub fn key(place: u32) -> Option<*const Path> {
    let room = V_ROOMS.get_ptr(place)?;
    // SAFETY: only an address within the map's value is taken.
    Some(unsafe { (&raw const (*room).bytes).cast() })
}

/// Puts together the path of `file`, leaf first. 0 if it has none, or one that is too long to be named.
///
/// A function of its own: the verifier checks it once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn of_file(file: u64, place: u32) -> u32 {
    let Some(room) = V_ROOMS.get_ptr_mut(place) else {
        return 0;
    };
    // SAFETY: the room is this program's on this CPU; `Probe` checks every address.
    unsafe {
        clear(room);
        let dentry: Address = Probe::load(file as Address, offset!(file_dentry));
        let mount: Address = Probe::load(file as Address, offset!(file_mnt));
        climb(dentry as u64, mount as u64, place)
    }
}

/// Puts together the path by which a script was executed: as it is written if it is absolute, leaf first if it is a name in the current
/// directory. 0 for any other.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn of_script(name: u64, place: u32) -> u32 {
    let Some(room) = V_ROOMS.get_ptr_mut(place) else {
        return 0;
    };
    // SAFETY: as above; what is copied ends within the room.
    unsafe {
        clear(room);
        let bytes: *mut u8 = (&raw mut (*room).bytes).cast();
        let mut name = name as Address;
        if bpf_probe_read_kernel_str(bytes.cast(), KEY as u32 + 1, name.cast()) > KEY as i64 {
            return 0;
        }
        if *bytes == b'/' {
            return 1;
        }
        if *bytes == b'.' && *bytes.add(1) == b'/' {
            name = name.wrapping_add(2);
            clear(room);
            bpf_probe_read_kernel_str(bytes.cast(), KEY as u32, name.cast());
        }
        let mut length = 0;
        while length < PATH_MAX {
            match core::ptr::read_volatile(bytes.add(length)) {
                0 => break,
                b'/' => return 0,
                _ => length += 1,
            }
        }
        if length == 0 {
            return 0;
        }
        (*room).cursor = length as u64 + 1;
        let task = bpf_get_current_task() as Address;
        let fs: Address = Probe::load(task, offset!(task_fs));
        let dentry: Address = Probe::load(fs, offset!(fs_pwd_dentry));
        let mount: Address = Probe::load(fs, offset!(fs_pwd_mnt));
        climb(dentry as u64, mount as u64, place)
    }
}

#[inline(always)]
unsafe fn clear(room: *mut Room) {
    // SAFETY: as the caller's; a key is whole words.
    unsafe {
        (*room).cursor = 0;
        let words: *mut u64 = (&raw mut (*room).bytes).cast();
        let mut word = 0;
        while word < KEY / 8 {
            core::ptr::write_volatile(words.add(word), 0);
            word += 1;
        }
    }
}

/// Appends the components from `dentry` in `vfsmount` up to the root of the mount namespace, as the kernel does to print a path.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn climb(dentry: u64, vfsmount: u64, place: u32) -> u32 {
    let Some(room) = V_ROOMS.get_ptr_mut(place) else {
        return 0;
    };
    let mut dentry = dentry as Address;
    let mut vfsmount = vfsmount as Address;
    let mut step = 0;
    while step < STEPS_MAX {
        step += 1;
        // SAFETY: `Probe` checks every address; the mask keeps a component within the room.
        unsafe {
            let root: Address = Probe::load(vfsmount, offset!(vfsmount_root));
            if dentry == root {
                let mount = vfsmount.wrapping_sub(offset!(mount_mnt) as usize);
                let above: Address = Probe::load(mount, offset!(mount_parent));
                if above == mount || above.is_null() {
                    return 1;
                }
                dentry = Probe::load(mount, offset!(mount_mountpoint));
                vfsmount = above.wrapping_add(offset!(mount_mnt) as usize);
                continue;
            }
            let cursor = core::ptr::read_volatile(&raw const (*room).cursor);
            if cursor >= KEY as u64 {
                return 0;
            }
            let bytes: *mut u8 = (&raw mut (*room).bytes).cast();
            let end = bytes.add((cursor & (KEY as u64 - 1)) as usize);
            let name: Address = Probe::load(dentry, offset!(dentry_name));
            let copied = bpf_probe_read_kernel_str(end.cast(), KEY as u32, name.cast());
            // Neither a component that cannot be read nor the root of what is not mounted here.
            if copied <= 0 || *end == b'/' {
                return 0;
            }
            let cursor = cursor + copied as u64;
            // What does not fit with its NUL is no path that can be named.
            if cursor > KEY as u64 {
                return 0;
            }
            core::ptr::write_volatile(&raw mut (*room).cursor, cursor);
            let parent: Address = Probe::load(dentry, offset!(dentry_parent));
            if parent == dentry {
                return 0;
            }
            dentry = parent;
        }
    }
    0
}
