//! The upper rungs of operations: hooks of the security modules. They are asked with what the kernel is about to work on, whoever
//! asked for it: a system call of either width, or io_uring.

use super::{Hook, Part, Rung};

const OUTCOME: &str = "whether it then failed, and what an earlier security module refuses";

const fn lsm(program: &'static str, hook: &'static str, also: &'static [Part]) -> Rung {
    Rung {
        program,
        hook: Hook::Lsm(hook),
        also,
        blind_spot: OUTCOME,
    }
}

const fn with(program: &'static str, hook: &'static str) -> Part {
    Part {
        program,
        hook: Hook::Lsm(hook),
        optional: false,
    }
}

/// A hook that only newer kernels have.
const fn newer(program: &'static str, hook: &'static str) -> Part {
    Part {
        optional: true,
        ..with(program, hook)
    }
}

/// Which of two signals an open is shows only then: both have the same parts.
pub(super) const FILE_OPEN: Rung = lsm("lsm_file_open", "file_open", MAKING);
pub(super) const FILE_CREATE: Rung = FILE_OPEN;
const MAKING: &[Part] = &[
    with("lsm_path_mkdir", "path_mkdir"),
    with("lsm_path_mknod", "path_mknod"),
];

/// Files of tracefs are told by an open too; calls beside it tell of probes that are performance counters.
pub(super) const TRACING: Rung = Rung {
    blind_spot: "what was written: a file of tracefs counts when it is opened for writing; probes that a kernel module makes",
    ..lsm("lsm_file_open", "file_open", &[])
};
/// What a locked down kernel forbids, and the file by which it becomes one.
pub(super) const LOCKDOWN: Rung = Rung {
    blind_spot: "what was written: the file counts when it is opened for writing; the kernel's own command line",
    ..lsm(
        "lsm_file_open",
        "file_open",
        &[with("lsm_locked_down", "locked_down")],
    )
};

pub(super) const FILE_RENAME: Rung = lsm("lsm_path_rename", "path_rename", &[]);
pub(super) const FILE_UNLINK: Rung = lsm(
    "lsm_path_unlink",
    "path_unlink",
    &[with("lsm_path_rmdir", "path_rmdir")],
);
pub(super) const FILE_LINK: Rung = lsm(
    "lsm_path_link",
    "path_link",
    &[with("lsm_path_symlink", "path_symlink")],
);
/// `file_truncate` came in 6.2; before, `path_truncate` was asked in its place.
pub(super) const FILE_TRUNCATE: Rung = Rung {
    blind_spot: "the new length, whether it then failed, and what an earlier security module refuses",
    ..lsm(
        "lsm_path_truncate",
        "path_truncate",
        &[newer("lsm_file_truncate", "file_truncate")],
    )
};
pub(super) const FILE_CHMOD: Rung = lsm("lsm_path_chmod", "path_chmod", &[]);
pub(super) const FILE_CHOWN: Rung = lsm("lsm_path_chown", "path_chown", &[]);
/// Access lists have hooks of their own since 6.2; before, they were attributes like others.
pub(super) const FILE_XATTR: Rung = Rung {
    blind_spot: "the mount by which the file was reached, whether it then failed, and what an earlier security module refuses",
    ..lsm(
        "lsm_inode_setxattr",
        "inode_setxattr",
        &[
            with("lsm_inode_removexattr", "inode_removexattr"),
            newer("lsm_inode_set_acl", "inode_set_acl"),
            newer("lsm_inode_remove_acl", "inode_remove_acl"),
        ],
    )
};
/// Calls of 32-bit programs have a hook of their own since 6.8; before, it is never asked.
pub(super) const FILE_FLAGS: Rung = lsm(
    "lsm_file_ioctl",
    "file_ioctl",
    &[newer("lsm_file_ioctl_compat", "file_ioctl_compat")],
);

pub(super) const PTRACE: Rung = lsm("lsm_ptrace_access_check", "ptrace_access_check", &[]);
pub(super) const EXEC_MEMORY: Rung = lsm(
    "lsm_mmap_file",
    "mmap_file",
    &[with("lsm_file_mprotect", "file_mprotect")],
);
pub(super) const NAMESPACE: Rung = lsm("lsm_task_alloc", "task_alloc", &[]);
pub(super) const MOUNT: Rung = lsm(
    "lsm_sb_mount",
    "sb_mount",
    &[
        with("lsm_sb_umount", "sb_umount"),
        with("lsm_move_mount", "move_mount"),
    ],
);
pub(super) const ROOT_CHANGE: Rung = lsm(
    "lsm_path_chroot",
    "path_chroot",
    &[with("lsm_sb_pivotroot", "sb_pivotroot")],
);
pub(super) const MODULE: Rung = lsm(
    "lsm_kernel_read_file",
    "kernel_read_file",
    &[with("lsm_kernel_load_data", "kernel_load_data")],
);
pub(super) const KEXEC: Rung = MODULE;
pub(super) const BPF: Rung = lsm("lsm_bpf", "bpf", &[]);
pub(super) const RAW_SOCKET: Rung = lsm("lsm_socket_create", "socket_create", &[]);
