//! What the hooks of the security modules say: the same operations as [system calls](super::calls), seen where the kernel is about to
//! do them. And submissions to io_uring, which tell what is asked for but not of what.

use sensor_common::{
    Signal,
    call::{Hook, LOCKDOWN_REASONS},
};

use super::calls::{
    BPF_COMMANDS, CLONE_FLAGS, Call, Detail, FAMILIES, FLAG_REQUESTS, MOUNT_FLAGS, OPEN_FLAGS, PROTECTION,
    RENAME_FLAGS, Show, UNMOUNT_FLAGS, call, detail,
};

const fn hook(hook: Hook, name: &'static str, signal: Signal, details: &'static [Detail]) -> Call {
    Call {
        details,
        ..call(hook as u32, name, signal)
    }
}

const MODE: Detail = detail("mode", 0, Show::Octal);
// include/linux/ptrace.h
const ACCESS: Show = Show::Bits(&[
    (1, "PTRACE_MODE_READ"),
    (2, "PTRACE_MODE_ATTACH"),
    (4, "PTRACE_MODE_NOAUDIT"),
    (8, "PTRACE_MODE_FSCREDS"),
    (16, "PTRACE_MODE_REALCREDS"),
]);

// include/uapi/linux/io_uring.h
const URING_OPCODES: Show = Show::Name(&[
    (0, "IORING_OP_NOP"),
    (1, "IORING_OP_READV"),
    (2, "IORING_OP_WRITEV"),
    (3, "IORING_OP_FSYNC"),
    (4, "IORING_OP_READ_FIXED"),
    (5, "IORING_OP_WRITE_FIXED"),
    (6, "IORING_OP_POLL_ADD"),
    (7, "IORING_OP_POLL_REMOVE"),
    (8, "IORING_OP_SYNC_FILE_RANGE"),
    (9, "IORING_OP_SENDMSG"),
    (10, "IORING_OP_RECVMSG"),
    (11, "IORING_OP_TIMEOUT"),
    (12, "IORING_OP_TIMEOUT_REMOVE"),
    (13, "IORING_OP_ACCEPT"),
    (14, "IORING_OP_ASYNC_CANCEL"),
    (15, "IORING_OP_LINK_TIMEOUT"),
    (16, "IORING_OP_CONNECT"),
    (17, "IORING_OP_FALLOCATE"),
    (18, "IORING_OP_OPENAT"),
    (19, "IORING_OP_CLOSE"),
    (20, "IORING_OP_FILES_UPDATE"),
    (21, "IORING_OP_STATX"),
    (22, "IORING_OP_READ"),
    (23, "IORING_OP_WRITE"),
    (24, "IORING_OP_FADVISE"),
    (25, "IORING_OP_MADVISE"),
    (26, "IORING_OP_SEND"),
    (27, "IORING_OP_RECV"),
    (28, "IORING_OP_OPENAT2"),
    (29, "IORING_OP_EPOLL_CTL"),
    (30, "IORING_OP_SPLICE"),
    (31, "IORING_OP_PROVIDE_BUFFERS"),
    (32, "IORING_OP_REMOVE_BUFFERS"),
    (33, "IORING_OP_TEE"),
    (34, "IORING_OP_SHUTDOWN"),
    (35, "IORING_OP_RENAMEAT"),
    (36, "IORING_OP_UNLINKAT"),
    (37, "IORING_OP_MKDIRAT"),
    (38, "IORING_OP_SYMLINKAT"),
    (39, "IORING_OP_LINKAT"),
    (40, "IORING_OP_MSG_RING"),
    (41, "IORING_OP_FSETXATTR"),
    (42, "IORING_OP_SETXATTR"),
    (43, "IORING_OP_FGETXATTR"),
    (44, "IORING_OP_GETXATTR"),
    (45, "IORING_OP_SOCKET"),
    (46, "IORING_OP_URING_CMD"),
    (47, "IORING_OP_SEND_ZC"),
    (48, "IORING_OP_SENDMSG_ZC"),
    (49, "IORING_OP_READ_MULTISHOT"),
    (50, "IORING_OP_WAITID"),
    (51, "IORING_OP_FUTEX_WAIT"),
    (52, "IORING_OP_FUTEX_WAKE"),
    (53, "IORING_OP_FUTEX_WAITV"),
    (54, "IORING_OP_FIXED_FD_INSTALL"),
    (55, "IORING_OP_FTRUNCATE"),
    (56, "IORING_OP_BIND"),
    (57, "IORING_OP_LISTEN"),
    (58, "IORING_OP_RECV_ZC"),
    (59, "IORING_OP_EPOLL_WAIT"),
    (60, "IORING_OP_READV_FIXED"),
    (61, "IORING_OP_WRITEV_FIXED"),
    (62, "IORING_OP_PIPE"),
]);

/// Every hook. The signal is the one that it mostly reports.
#[rustfmt::skip]
pub const HOOKS: &[Call] = &[
    hook(Hook::FileOpen, "file_open", Signal::FileOpen, &[detail("flags", 0, OPEN_FLAGS)]),
    hook(Hook::PathMkdir, "path_mkdir", Signal::FileCreate, &[MODE]),
    hook(Hook::PathMknod, "path_mknod", Signal::FileCreate, &[MODE, detail("device", 1, Show::Hex)]),
    hook(Hook::PathRename, "path_rename", Signal::FileRename, &[detail("flags", 0, RENAME_FLAGS)]),
    hook(Hook::PathUnlink, "path_unlink", Signal::FileUnlink, &[]),
    hook(Hook::PathRmdir, "path_rmdir", Signal::FileUnlink, &[]),
    hook(Hook::PathLink, "path_link", Signal::FileLink, &[]),
    hook(Hook::PathSymlink, "path_symlink", Signal::FileLink, &[]),
    hook(Hook::PathTruncate, "path_truncate", Signal::FileTruncate, &[]),
    hook(Hook::FileTruncate, "file_truncate", Signal::FileTruncate, &[]),
    hook(Hook::PathChmod, "path_chmod", Signal::FileChmod, &[MODE]),
    hook(Hook::PathChown, "path_chown", Signal::FileChown, &[detail("uid", 0, Show::Signed), detail("gid", 1, Show::Signed)]),
    hook(Hook::InodeSetxattr, "inode_setxattr", Signal::FileXattr, &[]),
    hook(Hook::InodeRemovexattr, "inode_removexattr", Signal::FileXattr, &[]),
    hook(Hook::InodeSetAcl, "inode_set_acl", Signal::FileXattr, &[]),
    hook(Hook::InodeRemoveAcl, "inode_remove_acl", Signal::FileXattr, &[]),
    hook(Hook::FileIoctl, "file_ioctl", Signal::FileFlags, &[detail("request", 0, FLAG_REQUESTS)]),
    hook(Hook::FileIoctlCompat, "file_ioctl_compat", Signal::FileFlags, &[detail("request", 0, FLAG_REQUESTS)]),
    hook(Hook::PtraceAccessCheck, "ptrace_access_check", Signal::Ptrace, &[detail("access", 0, ACCESS), detail("pid", 1, Show::Signed)]),
    hook(Hook::MmapFile, "mmap_file", Signal::ExecMemory, &[detail("protection", 0, PROTECTION)]),
    hook(Hook::FileMprotect, "file_mprotect", Signal::ExecMemory, &[detail("area", 1, Show::Hex), detail("protection", 0, PROTECTION)]),
    hook(Hook::TaskAlloc, "task_alloc", Signal::Namespace, &[detail("flags", 0, CLONE_FLAGS)]),
    hook(Hook::SbMount, "sb_mount", Signal::Mount, &[detail("flags", 0, MOUNT_FLAGS)]),
    hook(Hook::SbUmount, "sb_umount", Signal::Mount, &[detail("flags", 0, UNMOUNT_FLAGS)]),
    hook(Hook::MoveMount, "move_mount", Signal::Mount, &[]),
    hook(Hook::PathChroot, "path_chroot", Signal::RootChange, &[]),
    hook(Hook::SbPivotroot, "sb_pivotroot", Signal::RootChange, &[]),
    hook(Hook::KernelReadFile, "kernel_read_file", Signal::Module, &[]),
    hook(Hook::KernelLoadData, "kernel_load_data", Signal::Module, &[]),
    hook(Hook::Bpf, "bpf", Signal::Bpf, &[detail("command", 0, BPF_COMMANDS)]),
    hook(Hook::SocketCreate, "socket_create", Signal::RawSocket,
        &[detail("family", 0, FAMILIES), detail("type", 1, Show::Number), detail("protocol", 2, Show::Number)]),
    hook(Hook::LockedDown, "locked_down", Signal::Lockdown, &[detail("reason", 0, Show::Name(LOCKDOWN_REASONS))]),
    hook(Hook::IoUringSubmit, "io_uring_submit", Signal::IoUring, &[detail("opcode", 0, URING_OPCODES), detail("unreported_before", 1, Show::Number)]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hook_has_one_row() {
        let numbers: Vec<u32> = HOOKS.iter().map(|hook| hook.number).collect();
        let expected: Vec<u32> = (Hook::FileOpen as u32..=Hook::IoUringSubmit as u32).collect();
        assert_eq!(numbers, expected);
        for hook in HOOKS {
            assert_eq!(Call::of(hook.number).map(|row| row.name), Some(hook.name));
        }
    }
}
