//! Which file it is: the same words for every record.

use sensor_common::{Signal, layout::ABSENT};

use crate::kernel::{Access, Address, Head, Probe, offset};

// include/uapi/linux/magic.h
const PROC_MAGIC: u64 = 0x9fa0;
const SECURITYFS_MAGIC: u64 = 0x7363_6673;
const TRACEFS_MAGIC: u64 = 0x7472_6163;
const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

/// The first words of a file or an inode.
pub type Words = [u64; 10];

/// A file that a process has open.
pub struct Open {
    address: Address,
    file: Head<10>,
}

impl Open {
    /// # Safety
    /// `room` must be valid for writes, and for reads as long as this lives.
    #[inline(always)]
    pub unsafe fn read(file: Address, room: *mut Words) -> Self {
        Self {
            address: file,
            // SAFETY: as promised.
            file: unsafe { Head::read(file, room) },
        }
    }

    #[inline(always)]
    pub fn is_none(&self) -> bool {
        self.address.is_null()
    }

    /// How it was opened (`f_mode`).
    #[inline(always)]
    pub fn mode(&self) -> u32 {
        // SAFETY: a number.
        unsafe { self.file.field(offset!(file_mode)) }
    }

    #[inline(always)]
    pub fn inode(&self) -> Address {
        // SAFETY: an address, which is not followed here.
        unsafe { self.file.field(offset!(file_inode)) }
    }

    /// Its dentry and mount.
    #[inline(always)]
    pub fn place(&self) -> (Address, Address) {
        // SAFETY: as above.
        unsafe {
            (
                self.file.field(offset!(file_dentry)),
                self.file.field(offset!(file_mnt)),
            )
        }
    }
}

/// What identifies a file, and what kind it is.
#[derive(Clone, Copy)]
pub struct Facts {
    pub inode: u64,
    /// In the kernel's encoding (major << 20 | minor).
    pub device: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Names that it has in directories.
    pub links: u32,
    /// Of the file system that it lies in.
    pub super_block: Address,
}

impl Facts {
    /// Of no file at all.
    pub const NONE: Self = Self {
        inode: 0,
        device: 0,
        mode: 0,
        links: 0,
        super_block: core::ptr::null(),
    };
}

/// Of an inode; zeroes where there is none.
#[inline(always)]
pub fn facts(inode: Address) -> Facts {
    // SAFETY: `Probe` checks every address.
    unsafe {
        let super_block: Address = Probe::load(inode, offset!(inode_sb));
        Facts {
            inode: Probe::load(inode, offset!(inode_ino)),
            device: Probe::load(super_block, offset!(super_block_dev)),
            mode: u32::from(Probe::load::<u16>(inode, offset!(inode_mode))),
            links: Probe::load(inode, offset!(inode_nlink)),
            super_block,
        }
    }
}

/// The same with fewer calls, by memory of the caller's: the stack has no room for it.
///
/// # Safety
/// `room` must be valid for writes.
#[inline(always)]
pub unsafe fn facts_in(inode: Address, room: *mut Words) -> Facts {
    // SAFETY: as promised; `Probe` checks every address.
    unsafe {
        let head = Head::read(inode, room);
        Facts {
            inode: head.field(offset!(inode_ino)),
            device: Probe::load(head.field(offset!(inode_sb)), offset!(super_block_dev)),
            mode: u32::from(head.field::<u16>(offset!(inode_mode))),
            links: head.field(offset!(inode_nlink)),
            super_block: head.field(offset!(inode_sb)),
        }
    }
}

/// Whether an inode of an overlay file system has a file in the upper layer: it was made or changed there. False for other file
/// systems, and where the kernel does not say how it keeps that.
#[inline(always)]
pub fn is_in_upper_layer(inode: Address, super_block: Address) -> bool {
    let (vfs_inode, upper) = (offset!(overlay_vfs_inode), offset!(overlay_upper));
    if vfs_inode == ABSENT || upper == ABSENT {
        return false;
    }
    // SAFETY: `Probe` checks every address.
    unsafe {
        let magic: u64 = Probe::load(super_block, offset!(super_block_magic));
        if magic != OVERLAYFS_SUPER_MAGIC {
            return false;
        }
        let upper: Address = Probe::load(inode.wrapping_sub(vfs_inode as usize), upper);
        !upper.is_null()
    }
}

/// Dentry and mount of a file.
#[inline(always)]
pub fn place(file: Address) -> (Address, Address) {
    // SAFETY: `Probe` checks every address.
    unsafe {
        (
            Probe::load(file, offset!(file_dentry)),
            Probe::load(file, offset!(file_mnt)),
        )
    }
}

/// What a file changes of the kernel when it is written to: told by its file system, `super_block`, since that may be mounted
/// anywhere.
#[inline(always)]
pub unsafe fn changes_of_kernel(super_block: Address, dentry: Address) -> Option<Signal> {
    // SAFETY: `Probe` checks every address.
    unsafe {
        let magic: u64 = Probe::load(super_block, offset!(super_block_magic));
        if magic == TRACEFS_MAGIC {
            return Some(Signal::Tracing);
        }
        if magic == SECURITYFS_MAGIC && name(dentry) == u64::from_le_bytes(*b"lockdown") {
            return Some(Signal::Lockdown);
        }
        if magic == PROC_MAGIC && top_directory(dentry as u64) == SYS {
            return Some(Signal::Sysctl);
        }
    }
    None
}

/// The first eight bytes of a name.
#[inline(always)]
unsafe fn name(dentry: Address) -> u64 {
    // SAFETY: `Probe` checks every address.
    unsafe {
        let name: Address = Probe::load(dentry, offset!(dentry_name));
        Probe::load(name, 0)
    }
}

const SYS: u32 = u32::from_le_bytes(*b"sys\0");

/// The first four bytes of the name of the directory below the root in which a file is, however deep; 0 beyond 16 levels.
///
/// A function of its own, for the verifier's sake.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn top_directory(dentry: u64) -> u32 {
    let mut dentry = dentry as Address;
    let mut step = 0;
    while step < 16 {
        step += 1;
        // SAFETY: `Probe` checks every address.
        unsafe {
            let parent: Address = Probe::load(dentry, offset!(dentry_parent));
            let above: Address = Probe::load(parent, offset!(dentry_parent));
            if above == parent {
                return name(dentry) as u32;
            }
            dentry = parent;
        }
    }
    0
}
