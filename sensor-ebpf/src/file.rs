//! Which file it is: the same words for every record.

use sensor_common::layout::ABSENT;

use crate::kernel::{Access, Address, Probe, offset};

/// `s_magic` of overlay file systems (include/uapi/linux/magic.h).
const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

/// What identifies a file, and what kind it is.
pub struct Facts {
    pub inode: u64,
    /// In the kernel's encoding (major << 20 | minor).
    pub device: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Names that it has in directories.
    pub links: u32,
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
        }
    }
}

/// Whether an inode of an overlay file system has a file in the upper layer: it was made or changed there. False for other file
/// systems, and where the kernel does not say how it keeps that.
#[inline(always)]
pub fn is_in_upper_layer(inode: Address) -> bool {
    let (vfs_inode, upper) = (offset!(overlay_vfs_inode), offset!(overlay_upper));
    if vfs_inode == ABSENT || upper == ABSENT {
        return false;
    }
    // SAFETY: `Probe` checks every address.
    unsafe {
        let super_block: Address = Probe::load(inode, offset!(inode_sb));
        let magic: u64 = Probe::load(super_block, offset!(super_block_magic));
        let upper: Address = Probe::load(inode.wrapping_sub(vfs_inode as usize), upper);
        magic == OVERLAYFS_SUPER_MAGIC && !upper.is_null()
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
