//! Files: hooks that are given the name under its directory's lock, or the file that was opened. Nothing that the process does at
//! the same time changes what is reported.

use aya_ebpf::{helpers::bpf_get_current_task, macros::lsm, programs::LsmContext};
use sensor_common::{Signal, call::Hook, record::operation_flags};

use super::{Part, Report, argument, is_taken_over, place, report};
use crate::{
    file,
    kernel::{Access, Address, Direct, Probe, features, offset},
    path,
};

// include/linux/fs.h
const FMODE_WRITE: u32 = 2;
/// The open made the file.
const FMODE_CREATED: u32 = 1 << 20;
/// A file that a stacked file system opened for itself, beneath one that was reported.
const FMODE_NOACCOUNT: u32 = 1 << 29;
// include/uapi/linux/stat.h
const S_IFMT: u64 = 0o170_000;
const S_IFREG: u64 = 0o100_000;
// include/uapi/linux/fs.h: FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FS_IOC32_SETFLAGS
const CHANGES_FLAGS: [u32; 3] = [0x4008_6602, 0x401c_5820, 0x4004_6602];

/// `file_open(struct file *file)`.
#[lsm(hook = "file_open")]
pub fn lsm_file_open(ctx: LsmContext) -> i32 {
    let file: Address = ctx.arg(0);
    // SAFETY: a file, by the hook's prototype.
    let mode: u32 = unsafe { Direct::load(file, offset!(file_mode)) };
    if mode & (FMODE_WRITE | FMODE_CREATED) == 0 || mode & FMODE_NOACCOUNT != 0 {
        return 0;
    }
    let fill = |report: &Report| {
        // SAFETY: `Probe` checks every address.
        unsafe {
            let flags: u32 = Probe::load(file, offset!(file_flags));
            report.values([u64::from(flags), 0, 0]);
            report.inode(Probe::load(file, offset!(file_inode)));
        }
        let (dentry, mount) = file::place(file);
        report.path(Part::Path, dentry, mount);
    };
    if mode & FMODE_CREATED != 0 {
        return report(Signal::FileCreate, Hook::FileOpen, fill);
    }
    // SAFETY: a file, as above.
    match unsafe { changes_of_kernel(file) } {
        Some(Signal::Tracing) => report(Signal::Tracing, Hook::FileOpen, fill),
        Some(Signal::Lockdown) => report(Signal::Lockdown, Hook::FileOpen, fill),
        // The call tells, where no hook of its own does.
        Some(Signal::Sysctl) if !is_taken_over(Signal::Sysctl) => 0,
        _ => report(Signal::FileOpen, Hook::FileOpen, fill),
    }
}

/// See [`file::changes_of_kernel`].
#[inline(always)]
unsafe fn changes_of_kernel(file: Address) -> Option<Signal> {
    // SAFETY: `Probe` checks every address.
    unsafe {
        let inode: Address = Probe::load(file, offset!(file_inode));
        file::changes_of_kernel(Probe::load(inode, offset!(inode_sb)), file::place(file).0)
    }
}

/// `path_mkdir(const struct path *dir, struct dentry *dentry, umode_t mode)`.
#[lsm(hook = "path_mkdir")]
pub fn lsm_path_mkdir(ctx: LsmContext) -> i32 {
    report(Signal::FileCreate, Hook::PathMkdir, |report| {
        report.values([argument(&ctx, 2), 0, 0]);
        named(report, Part::Path, &ctx, 0, 1);
    })
}

/// `path_mknod(const struct path *dir, struct dentry *dentry, umode_t mode, unsigned int dev)`. Regular files are not
/// reported: an open asks this hook before it asks whether the directory may be written to, and shows itself that it made one.
#[lsm(hook = "path_mknod")]
pub fn lsm_path_mknod(ctx: LsmContext) -> i32 {
    let mode: u64 = argument(&ctx, 2);
    if matches!(mode & S_IFMT, 0 | S_IFREG) {
        return 0;
    }
    report(Signal::FileCreate, Hook::PathMknod, |report| {
        report.values([mode, argument(&ctx, 3), 0]);
        named(report, Part::Path, &ctx, 0, 1);
    })
}

/// `path_rename(const struct path *old_dir, struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry,
/// unsigned int flags)`; without the flags before 6.0, where an exchange asks twice.
#[lsm(hook = "path_rename")]
pub fn lsm_path_rename(ctx: LsmContext) -> i32 {
    report(Signal::FileRename, Hook::PathRename, |report| {
        if features().rename_flags == 1 {
            report.values([argument(&ctx, 4), 0, 0]);
        }
        named(report, Part::Path, &ctx, 0, 1);
        named(report, Part::Target, &ctx, 2, 3);
        report.inode_of(argument(&ctx, 1));
    })
}

/// `path_unlink(const struct path *dir, struct dentry *dentry)`.
#[lsm(hook = "path_unlink")]
pub fn lsm_path_unlink(ctx: LsmContext) -> i32 {
    report(Signal::FileUnlink, Hook::PathUnlink, |report| {
        named(report, Part::Path, &ctx, 0, 1);
        report.inode_of(argument(&ctx, 1));
    })
}

/// `path_rmdir(const struct path *dir, struct dentry *dentry)`.
#[lsm(hook = "path_rmdir")]
pub fn lsm_path_rmdir(ctx: LsmContext) -> i32 {
    report(Signal::FileUnlink, Hook::PathRmdir, |report| {
        named(report, Part::Path, &ctx, 0, 1);
        report.inode_of(argument(&ctx, 1));
    })
}

/// `path_link(struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry)`.
#[lsm(hook = "path_link")]
pub fn lsm_path_link(ctx: LsmContext) -> i32 {
    report(Signal::FileLink, Hook::PathLink, |report| {
        named(report, Part::Path, &ctx, 1, 0);
        named(report, Part::Target, &ctx, 1, 2);
        report.inode_of(argument(&ctx, 0));
    })
}

/// `path_symlink(const struct path *dir, struct dentry *dentry, const char *old_name)`.
#[lsm(hook = "path_symlink")]
pub fn lsm_path_symlink(ctx: LsmContext) -> i32 {
    report(Signal::FileLink, Hook::PathSymlink, |report| {
        report.text(Part::Path, argument(&ctx, 2));
        named(report, Part::Target, &ctx, 0, 1);
    })
}

/// `path_truncate(const struct path *path)`: also of an open that empties the file, and before 6.2 of `ftruncate`.
#[lsm(hook = "path_truncate")]
pub fn lsm_path_truncate(ctx: LsmContext) -> i32 {
    report(Signal::FileTruncate, Hook::PathTruncate, |report| {
        whole(report, argument(&ctx, 0));
    })
}

/// `file_truncate(struct file *file)` (6.2).
#[lsm(hook = "file_truncate")]
pub fn lsm_file_truncate(ctx: LsmContext) -> i32 {
    report(Signal::FileTruncate, Hook::FileTruncate, |report| {
        of_file(report, argument(&ctx, 0));
    })
}

/// `path_chmod(const struct path *path, umode_t mode)`.
#[lsm(hook = "path_chmod")]
pub fn lsm_path_chmod(ctx: LsmContext) -> i32 {
    report(Signal::FileChmod, Hook::PathChmod, |report| {
        report.values([argument(&ctx, 1), 0, 0]);
        whole(report, argument(&ctx, 0));
    })
}

/// `path_chown(const struct path *path, kuid_t uid, kgid_t gid)`.
#[lsm(hook = "path_chown")]
pub fn lsm_path_chown(ctx: LsmContext) -> i32 {
    report(Signal::FileChown, Hook::PathChown, |report| {
        report.values([argument(&ctx, 1), argument(&ctx, 2), 0]);
        whole(report, argument(&ctx, 0));
    })
}

/// `inode_setxattr(struct mnt_idmap *idmap, struct dentry *dentry, const char *name, …)`; without the first before 5.12.
#[lsm(hook = "inode_setxattr")]
pub fn lsm_inode_setxattr(ctx: LsmContext) -> i32 {
    let dentry = features().xattr_dentry;
    report(Signal::FileXattr, Hook::InodeSetxattr, |report| {
        attribute(report, &ctx, dentry);
    })
}

/// `inode_removexattr(struct mnt_idmap *idmap, struct dentry *dentry, const char *name)`; likewise.
#[lsm(hook = "inode_removexattr")]
pub fn lsm_inode_removexattr(ctx: LsmContext) -> i32 {
    let dentry = features().xattr_dentry;
    report(Signal::FileXattr, Hook::InodeRemovexattr, |report| {
        attribute(report, &ctx, dentry);
    })
}

/// `inode_set_acl(struct mnt_idmap *idmap, struct dentry *dentry, const char *acl_name, struct posix_acl *kacl)` (6.2).
#[lsm(hook = "inode_set_acl")]
pub fn lsm_inode_set_acl(ctx: LsmContext) -> i32 {
    report(Signal::FileXattr, Hook::InodeSetAcl, |report| {
        attribute(report, &ctx, 1);
    })
}

/// `inode_remove_acl(struct mnt_idmap *idmap, struct dentry *dentry, const char *acl_name)` (6.2).
#[lsm(hook = "inode_remove_acl")]
pub fn lsm_inode_remove_acl(ctx: LsmContext) -> i32 {
    report(Signal::FileXattr, Hook::InodeRemoveAcl, |report| {
        attribute(report, &ctx, 1);
    })
}

/// `file_ioctl(struct file *file, unsigned int cmd, unsigned long arg)`.
#[lsm(hook = "file_ioctl")]
pub fn lsm_file_ioctl(ctx: LsmContext) -> i32 {
    flags(&ctx, Hook::FileIoctl)
}

/// `file_ioctl_compat(struct file *file, unsigned int cmd, unsigned long arg)`: of 32-bit programs (6.8).
#[lsm(hook = "file_ioctl_compat")]
pub fn lsm_file_ioctl_compat(ctx: LsmContext) -> i32 {
    flags(&ctx, Hook::FileIoctlCompat)
}

#[inline(always)]
fn flags(ctx: &LsmContext, hook: Hook) -> i32 {
    let request = ctx.arg::<u64>(1) as u32;
    if !CHANGES_FLAGS.contains(&request) {
        return 0;
    }
    report(Signal::FileFlags, hook, |report| {
        report.values([u64::from(request), 0, 0]);
        of_file(report, argument(ctx, 0));
    })
}

/// A name in a directory: positions of the directory's `struct path` and of the name's dentry among the arguments.
#[inline(always)]
fn named(report: &Report, part: Part, ctx: &LsmContext, directory: u32, dentry: u32) {
    let (_, mount) = place(argument(ctx, directory));
    report.path(part, argument(ctx, dentry), mount);
}

/// A file that a `struct path` leads to.
#[inline(always)]
fn whole(report: &Report, path: Address) {
    let (dentry, mount) = place(path);
    report.inode_of(dentry);
    report.path(Part::Path, dentry, mount);
}

#[inline(always)]
fn of_file(report: &Report, file: Address) {
    let (dentry, mount) = file::place(file);
    report.inode_of(dentry);
    report.path(Part::Path, dentry, mount);
}

/// An attribute, whose name follows the dentry. The hook is not told the mount: that of the current or the root directory is
/// the right one where it is of the same file system and leads to the file.
#[inline(always)]
fn attribute(report: &Report, ctx: &LsmContext, position: u32) {
    let dentry: Address = argument(ctx, position);
    report.inode_of(dentry);
    if report.path(Part::Path, dentry, likely_mount(dentry)) == path::DETACHED {
        report.flag(operation_flags::UNMOUNTED);
    }
    report.text(Part::Target, argument(ctx, position + 1));
}

#[inline(always)]
fn likely_mount(dentry: Address) -> Address {
    // SAFETY: `Probe` checks every address.
    unsafe {
        let inode: Address = Probe::load(dentry, offset!(dentry_inode));
        let super_block: Address = Probe::load(inode, offset!(inode_sb));
        let fs: Address = Probe::load(bpf_get_current_task() as Address, offset!(task_fs));
        let current: Address = Probe::load(fs, offset!(fs_pwd_mnt));
        if Probe::load::<Address>(current, offset!(vfsmount_sb)) == super_block {
            return current;
        }
        let root: Address = Probe::load(fs, offset!(fs_root_mnt));
        if Probe::load::<Address>(root, offset!(vfsmount_sb)) == super_block {
            return root;
        }
        core::ptr::null()
    }
}
