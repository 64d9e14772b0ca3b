//! Where the kernel keeps what the programs read: one table of fields, resolved against the running kernel's BTF.
//!
//! The kernel programs see a [`Layout`] as read-only data, hence as constants to the verifier; the agent fills it in
//! from [`FIELDS`] before loading. A field that this kernel does not have is [`ABSENT`], and code that
//! checks for that is removed by the verifier.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The offset of a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// A field of a kernel type, and the names it has had.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name of the offset in [`Layout`].
    pub name: &'static str,
    /// Its kernel names, the newest first: type and path of members (`task_struct`, `nsproxy.mnt_ns`).
    pub paths: &'static [(&'static str, &'static str)],
    /// What stays invisible on a kernel without it; `None` where the programs cannot do without it.
    pub blind_spot: Option<&'static str>,
}

macro_rules! layout {
    ($($name:ident $((without: $blind_spot:literal))?: $($kind:literal . $path:literal)|+;)+) => {
        /// Byte offsets of kernel fields, each from the start of its type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[allow(missing_docs, reason = "the kernel's own names")]
        pub struct Layout {
            $(pub $name: u32,)+
        }

        impl Layout {
            /// A layout that knows no field.
            pub const UNKNOWN: Self = Self { $($name: ABSENT,)+ };
        }

        /// Every field of [`Layout`], in its order.
        pub const FIELDS: &[Field] = &[
            $(Field {
                name: stringify!($name),
                paths: &[$(($kind, $path)),+],
                blind_spot: layout!(@blind_spot $($blind_spot)?),
            },)+
        ];
    };
    (@blind_spot $text:literal) => { Some($text) };
    (@blind_spot) => { None };
}

layout! {
    task_tgid: "task_struct"."tgid";
    task_pid: "task_struct"."pid";
    task_stack: "task_struct"."stack";
    task_flags: "task_struct"."flags";
    task_real_parent: "task_struct"."real_parent";
    task_group_leader: "task_struct"."group_leader";
    // Renamed in 5.5.
    task_start_boottime: "task_struct"."start_boottime" | "task_struct"."real_start_time";
    task_cred: "task_struct"."cred";
    task_real_cred: "task_struct"."real_cred";
    // Only with CONFIG_AUDIT.
    task_loginuid (without: "who logged in to start a process"): "task_struct"."loginuid";
    task_sessionid (without: "the login session of a process"): "task_struct"."sessionid";
    task_nsproxy: "task_struct"."nsproxy";
    task_thread_pid: "task_struct"."thread_pid";
    task_mm: "task_struct"."mm";
    task_fs: "task_struct"."fs";
    task_files: "task_struct"."files";
    task_thread_status: "task_struct"."thread_info.status";
    task_comm: "task_struct"."comm";
    task_exit_code: "task_struct"."exit_code";
    task_signal: "task_struct"."signal";
    task_cgroups: "task_struct"."cgroups";
    cred_uid: "cred"."uid";
    cred_gid: "cred"."gid";
    cred_euid: "cred"."euid";
    cred_egid: "cred"."egid";
    cred_permitted: "cred"."cap_permitted";
    cred_effective: "cred"."cap_effective";
    cred_user_ns: "cred"."user_ns";
    user_namespace_inum: "user_namespace"."ns.inum";
    nsproxy_mnt_ns: "nsproxy"."mnt_ns";
    nsproxy_net_ns: "nsproxy"."net_ns";
    mnt_namespace_inum: "mnt_namespace"."ns.inum";
    net_inum: "net"."ns.inum";
    pid_namespace_inum: "pid_namespace"."ns.inum";
    pid_level: "pid"."level";
    pid_numbers: "pid"."numbers";
    upid_ns: "upid"."ns";
    css_set_dfl_cgrp: "css_set"."dfl_cgrp";
    css_set_subsys: "css_set"."subsys";
    css_cgroup: "cgroup_subsys_state"."cgroup";
    cgroup_kn: "cgroup"."kn";
    kernfs_node_id: "kernfs_node"."id";
    mm_exe_file: "mm_struct"."exe_file";
    mm_arg_start: "mm_struct"."arg_start";
    mm_arg_end: "mm_struct"."arg_end";
    file_dentry: "file"."f_path.dentry";
    file_mnt: "file"."f_path.mnt";
    file_inode: "file"."f_inode";
    file_mode: "file"."f_mode";
    file_flags: "file"."f_flags";
    path_dentry: "path"."dentry";
    path_mnt: "path"."mnt";
    files_fdt: "files_struct"."fdt";
    fdtable_max_fds: "fdtable"."max_fds";
    fdtable_fd: "fdtable"."fd";
    fs_root_dentry: "fs_struct"."root.dentry";
    fs_root_mnt: "fs_struct"."root.mnt";
    fs_pwd_dentry: "fs_struct"."pwd.dentry";
    fs_pwd_mnt: "fs_struct"."pwd.mnt";
    dentry_parent: "dentry"."d_parent";
    dentry_name: "dentry"."d_name.name";
    dentry_inode: "dentry"."d_inode";
    vfsmount_root: "vfsmount"."mnt_root";
    vfsmount_sb: "vfsmount"."mnt_sb";
    mount_mnt: "mount"."mnt";
    mount_parent: "mount"."mnt_parent";
    mount_mountpoint: "mount"."mnt_mountpoint";
    inode_ino: "inode"."i_ino";
    inode_mode: "inode"."i_mode";
    inode_nlink: "inode"."i_nlink";
    inode_sb: "inode"."i_sb";
    super_block_dev: "super_block"."s_dev";
    mm_env_start: "mm_struct"."env_start";
    mm_env_end: "mm_struct"."env_end";
    super_block_magic: "super_block"."s_magic";
    module_name: "module"."name";
    module_taints: "module"."taints";
    siginfo_code: "kernel_siginfo"."si_code";
    // Where the overlay file system is a part of the kernel: of a module the kernel's own type information says nothing.
    overlay_vfs_inode (without: "whether a program lies in the upper layer of an overlay file system"): "ovl_inode"."vfs_inode";
    overlay_upper (without: "whether a program lies in the upper layer of an overlay file system"): "ovl_inode"."__upperdentry";
    area_start: "vm_area_struct"."vm_start";
    // Only with CONFIG_IO_URING.
    uring_opcode (without: "what is asked for through io_uring"): "io_kiocb"."opcode";
    bprm_file: "linux_binprm"."file";
    bprm_filename: "linux_binprm"."filename";
    bprm_interp: "linux_binprm"."interp";
    // x86-64, as is what reads them.
    regs_orig_ax: "pt_regs"."orig_ax";
    regs_cs: "pt_regs"."cs";
    regs_di: "pt_regs"."di";
    regs_si: "pt_regs"."si";
    regs_dx: "pt_regs"."dx";
    regs_r10: "pt_regs"."r10";
    regs_r8: "pt_regs"."r8";
    regs_r9: "pt_regs"."r9";
    signal_live: "signal_struct"."live";
    signal_flags: "signal_struct"."flags";
    signal_group_exit_code: "signal_struct"."group_exit_code";
    sock_family: "sock"."__sk_common.skc_family";
    sock_dport: "sock"."__sk_common.skc_dport";
    sock_num: "sock"."__sk_common.skc_num";
    sock_daddr: "sock"."__sk_common.skc_daddr";
    sock_rcv_saddr: "sock"."__sk_common.skc_rcv_saddr";
    sock_v6_daddr (without: "the other end's address of IPv6 connections"): "sock"."__sk_common.skc_v6_daddr";
    sock_v6_rcv_saddr (without: "this end's address of IPv6 connections"): "sock"."__sk_common.skc_v6_rcv_saddr";
    sock_net: "sock"."__sk_common.skc_net";
    sock_protocol: "sock"."sk_protocol";
    sock_flags: "sock"."__sk_common.skc_flags";
    sock_max_ack_backlog: "sock"."sk_max_ack_backlog";
    // `skc_num` is cleared before a socket is reported closed; this is not.
    tcp_sport: "tcp_sock"."inet_conn.icsk_inet.inet_sport";
    tcp_bytes_sent: "tcp_sock"."bytes_sent";
    tcp_bytes_retrans: "tcp_sock"."bytes_retrans";
    tcp_bytes_received: "tcp_sock"."bytes_received";
    tcp_segs_in: "tcp_sock"."segs_in";
    tcp_segs_out: "tcp_sock"."segs_out";
    tcp_total_retrans: "tcp_sock"."total_retrans";
    tcp_srtt_us: "tcp_sock"."srtt_us";
    skb_head: "sk_buff"."head";
    skb_sk: "sk_buff"."sk";
    skb_network_header: "sk_buff"."network_header";
    skb_transport_header: "sk_buff"."transport_header";
}

/// What else the programs must know about the kernel and the host before they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Features {
    /// 1 where the helper `bpf_get_current_task_btf` exists (5.11), else 0.
    pub current_task_btf: u32,
    /// Number of the v1 cgroup controller whose hierarchy names cgroups; [`ABSENT`] for the v2 hierarchy.
    pub cgroup_subsys: u32,
    /// CPUs that share a ring, as a power of two.
    pub cpus_per_ring_log2: u32,
    /// 1 where orders of system calls are looked at, else 0.
    pub sequences: u32,
    /// 1 where the helper `bpf_task_pt_regs` exists (5.15), else 0.
    pub task_registers: u32,
    /// 1 where programs of tracepoints can be preempted (7.0), and the kernel skips a run of one that is on the CPU already; else 0.
    pub preempted: u32,
    /// Arguments of `inet_csk_accept`; the return value follows them.
    pub accept_arguments: u32,
    /// 1 where the hook `path_rename` is told the flags (6.0), else 0.
    pub rename_flags: u32,
    /// Position of the file among the arguments of the hooks `inode_setxattr` and `inode_removexattr`: 1 since 5.12, which put
    /// another one before it.
    pub xattr_dentry: u32,
    /// Where the tracepoint `io_uring_submit_sqe` has what was asked for; it has changed twice.
    pub uring_submission: u32,
    /// What the hooks `kernel_read_file` and `kernel_load_data` call things; [`ABSENT`] where this kernel does not have them.
    pub loads: Loads,
}

/// [`Features::uring_submission`]: the first argument is the request (6.1).
pub const URING_REQUEST_FIRST: u32 = 0;
/// The second argument is the request (5.14).
pub const URING_REQUEST_SECOND: u32 = 1;
/// The second argument is the opcode.
pub const URING_OPCODE_SECOND: u32 = 2;

/// Numbers of `enum kernel_read_file_id`; those of `enum kernel_load_data_id` are the same by their definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Loads {
    /// A module.
    pub module: u32,
    /// A module that the kernel unpacks (6.18).
    pub module_compressed: u32,
    /// Another kernel.
    pub kexec_image: u32,
    /// Its initial file system.
    pub kexec_initramfs: u32,
}

impl Features {
    /// The least that every supported kernel has.
    pub const LEAST: Self = Self {
        current_task_btf: 0,
        task_registers: 0,
        cgroup_subsys: ABSENT,
        cpus_per_ring_log2: 0,
        sequences: 0,
        preempted: 0,
        accept_arguments: 4,
        rename_flags: 0,
        xattr_dentry: 0,
        uring_submission: URING_OPCODE_SECOND,
        loads: Loads {
            module: ABSENT,
            module_compressed: ABSENT,
            kexec_image: ABSENT,
            kexec_initramfs: ABSENT,
        },
    };
}
