//! Which system call says what: the lowest rung of every signal that a call alone can report, as a table.
//!
//! A row names the call, its signal, when it counts, and what its arguments mean. Numbers are those of x86-64.

use std::{collections::HashMap, sync::LazyLock};

use sensor_common::{
    CallRule, Signal,
    call::{ANY, FILE_MODE, KERNEL_ALONE, PLAIN, PathArguments, RESULT, Ruled, TESTS, Test, hook},
    credential::Change,
};

use super::hooks::HOOKS;

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Show {
    /// As it is.
    Number,
    /// As a signed 32-bit number: descriptors, processes, users (−1 leaves one as it is).
    Signed,
    /// As permissions are.
    Octal,
    /// In hexadecimal.
    Hex,
    /// By name, where it has one.
    Name(&'static [(u64, &'static str)]),
    /// By the names of its bits; what has no name in hexadecimal.
    Bits(&'static [(u64, &'static str)]),
}

impl Show {
    /// For people; empty where the number says it all.
    #[must_use]
    pub fn text(self, number: u64) -> String {
        match self {
            Self::Number => String::new(),
            Self::Signed => (number as i32).to_string(),
            Self::Octal => format!("{:04o}", number & 0o7777),
            Self::Hex => format!("{number:#x}"),
            Self::Name(names) => names
                .iter()
                .find(|(value, _)| *value == number & ALL_BITS)
                .map_or_else(String::new, |(_, name)| (*name).to_owned()),
            Self::Bits(names) => bits(number, names),
        }
    }
}

fn bits(number: u64, names: &[(u64, &str)]) -> String {
    let mut rest = number;
    let mut words: Vec<String> = Vec::new();
    for (bits, name) in names {
        if number & bits == *bits {
            words.push((*name).to_owned());
            rest &= !bits;
        }
    }
    if rest != 0 || words.is_empty() {
        words.push(format!("{rest:#x}"));
    }
    words.join("|")
}

/// What an argument means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detail {
    /// Its name.
    pub name: &'static str,
    /// Which value of the record, from 0.
    pub value: usize,
    /// How to write it.
    pub show: Show,
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// The call's name.
    pub name: &'static str,
    /// Its number.
    pub number: u32,
    /// What it says.
    pub signal: Signal,
    /// How the kernel program finds that.
    pub rule: CallRule,
    /// The same where a better hook reports the signal, which does not see all of it.
    pub beside: Option<CallRule>,
    /// What its arguments mean.
    pub details: &'static [Detail],
}

impl Call {
    /// The row of a number.
    #[must_use]
    pub fn of(number: u32) -> Option<&'static Self> {
        static ROWS: LazyLock<HashMap<u32, &Call>> = LazyLock::new(|| {
            let rows = CALLS.iter().chain(TRACEPOINTS).chain(HOOKS).rev();
            rows.map(|call| (call.number, call)).collect()
        });
        ROWS.get(&number).copied()
    }

    /// The rule where better hooks report the signals of the set, with what only this host knows: kprobes and uprobes are performance
    /// counters of types whose numbers the kernel chose at its start.
    #[must_use]
    pub fn rule_here(&self, taken_over: u64) -> CallRule {
        let mut rule = self.rule_beside(taken_over);
        if self.name == PERF_EVENT_OPEN {
            for (test, kind) in rule.test.iter_mut().zip(["kprobe", "uprobe"]) {
                let path = format!("/sys/bus/event_source/devices/{kind}/type");
                let text = std::fs::read_to_string(path).unwrap_or_default();
                test.wanted = text.trim().parse().unwrap_or(NEVER);
            }
        }
        rule
    }

    /// Which calls have a row.
    #[must_use]
    pub fn ruled() -> Ruled {
        let mut ruled = Ruled::default();
        for call in CALLS {
            let number = call.number as usize;
            ruled[number / 64] |= 1 << (number % 64);
        }
        ruled
    }

    /// Whether its path, and its target, are paths: not names of something else, and not left empty.
    #[must_use]
    pub fn has_paths(&self) -> [bool; 2] {
        let named = |path: PathArguments| path.text != 0 && path.directory != PLAIN;
        let [path, target] = self.rule.paths;
        [self.rule.file != 0 || named(path), named(target)]
    }

    const fn on_file(mut self, argument: u8) -> Self {
        self.rule.file = argument;
        self
    }

    /// The file is the one that the call returned; one that it made is another signal.
    const fn opens(mut self) -> Self {
        self.rule.file = RESULT;
        self.rule.created = Signal::FileCreate as u16 + 1;
        self.rule.watched = 1;
        self.rule.kernel = 1;
        self.folds().when(FILE_MODE as usize, FMODE_WRITE, FMODE_WRITE)
    }

    /// What a process does again to the same file, or to none, is one event.
    const fn folds(mut self) -> Self {
        self.rule.folds = 1;
        self
    }

    const fn path(self, text: u8) -> Self {
        self.path_in(0, text)
    }

    const fn path_in(mut self, directory: u8, text: u8) -> Self {
        self.rule.paths[0] = PathArguments { directory, text };
        self
    }

    const fn target(self, text: u8) -> Self {
        self.target_in(0, text)
    }

    const fn target_in(mut self, directory: u8, text: u8) -> Self {
        self.rule.paths[1] = PathArguments { directory, text };
        self
    }

    /// Counts if the masked value is as wanted; several are alternatives.
    const fn when(mut self, value: usize, mask: u64, wanted: u64) -> Self {
        assert!((self.rule.tests as usize) < TESTS);
        self.rule.test[self.rule.tests as usize] = Test {
            mask,
            wanted,
            value: value as u32,
            reserved: 0,
        };
        self.rule.tests += 1;
        self
    }

    /// The conditions are not alternatives: all must hold.
    const fn all(mut self) -> Self {
        self.rule.all = 1;
        self
    }

    /// The first word of the structure that an argument points to is a value too.
    const fn peeking(mut self, argument: u8) -> Self {
        self.rule.peek = argument;
        self
    }

    /// What the call may do to credentials, beside what it is reported as.
    const fn changes(mut self, change: Change) -> Self {
        self.rule.credentials = change as u8;
        self
    }

    /// The row stays where a better hook reports the signal, which does not see this.
    const fn stays(mut self) -> Self {
        self.beside = Some(self.rule);
        self
    }

    /// The same where the value is so; several are alternatives.
    const fn stays_when(mut self, value: usize, mask: u64, wanted: u64) -> Self {
        let before = Self {
            rule: match self.beside {
                Some(rule) => rule,
                None => self.rule,
            },
            ..self
        };
        self.beside = Some(before.when(value, mask, wanted).rule);
        self
    }

    /// What the row says where better hooks report the signals of the set.
    fn rule_beside(&self, taken_over: u64) -> CallRule {
        if taken_over & 1 << self.signal as u64 == 0 {
            return self.rule;
        }
        if self.rule.kernel != 0 && taken_over & KERNEL_FILES != KERNEL_FILES {
            return CallRule {
                kernel: KERNEL_ALONE,
                watched: 0,
                ..self.rule
            };
        }
        self.beside.unwrap_or_default()
    }

    const fn with(mut self, details: &'static [Detail]) -> Self {
        self.details = details;
        self
    }
}

pub(super) const fn call(number: u32, name: &'static str, signal: Signal) -> Call {
    let none = PathArguments {
        directory: 0,
        text: 0,
    };
    let test = Test {
        mask: 0,
        wanted: 0,
        value: 0,
        reserved: 0,
    };
    Call {
        name,
        number,
        signal,
        rule: CallRule {
            signal: signal as u16 + 1,
            created: 0,
            file: 0,
            paths: [none; 2],
            tests: 0,
            all: 0,
            folds: 0,
            watched: 0,
            credentials: 0,
            peek: 0,
            kernel: 0,
            reserved: [0; 8],
            test: [test; TESTS],
        },
        beside: None,
        details: &[],
    }
}

/// A call that is reported only if credentials are others after it.
const fn sets(number: u32, name: &'static str, change: Change) -> Call {
    let mut call = call(number, name, Signal::Credential).changes(change);
    call.rule.signal = 0;
    call
}

pub(super) const fn detail(name: &'static str, value: usize, show: Show) -> Detail {
    Detail { name, value, show }
}

/// What files change the kernel when they are written to.
const KERNEL_FILES: u64 =
    1 << Signal::Tracing as u64 | 1 << Signal::Lockdown as u64 | 1 << Signal::Sysctl as u64;
const PERF_EVENT_OPEN: &str = "perf_event_open";
/// No word of 32 bits is this.
const NEVER: u64 = 1 << 32;

// arch/x86/include/uapi/asm/signal.h
const SIGNALS: Show = Show::Name(&[
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (15, "SIGTERM"),
    (19, "SIGSTOP"),
    (20, "SIGTSTP"),
]);
// include/trace/events/signal.h
const SIGNAL_RESULTS: Show = Show::Name(&[
    (0, "delivered"),
    (1, "ignored"),
    (2, "already pending"),
    (3, "lost"),
    (4, "lost"),
]);
// include/linux/panic.h
const TAINTS: Show = Show::Bits(&[
    (1, "proprietary"),
    (2, "forced"),
    (1 << 10, "staging"),
    (1 << 12, "out of tree"),
    (1 << 13, "unsigned"),
    (1 << 15, "live patch"),
]);

// include/linux/fs.h
const FMODE_WRITE: u64 = 2;
// include/uapi/linux/stat.h
const S_IFMT: u64 = 0o170_000;
const S_IFREG: u64 = 0o100_000;

// include/uapi/asm-generic/fcntl.h
pub(super) const OPEN_FLAGS: Show = Show::Bits(&[
    (0o1, "O_WRONLY"),
    (0o2, "O_RDWR"),
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o20_200_000, "O_TMPFILE"),
    (0o200_000, "O_DIRECTORY"),
    (0o400_000, "O_NOFOLLOW"),
    (0o2_000_000, "O_CLOEXEC"),
]);
pub(super) const RENAME_FLAGS: Show = Show::Bits(&[
    (1, "RENAME_NOREPLACE"),
    (2, "RENAME_EXCHANGE"),
    (4, "RENAME_WHITEOUT"),
]);
// include/uapi/linux/sched.h
const NAMESPACES: u64 = 0x7e02_0080;
pub(super) const CLONE_FLAGS: Show = Show::Bits(&[
    (0x0000_0080, "CLONE_NEWTIME"),
    (0x0002_0000, "CLONE_NEWNS"),
    (0x0200_0000, "CLONE_NEWCGROUP"),
    (0x0400_0000, "CLONE_NEWUTS"),
    (0x0800_0000, "CLONE_NEWIPC"),
    (0x1000_0000, "CLONE_NEWUSER"),
    (0x2000_0000, "CLONE_NEWPID"),
    (0x4000_0000, "CLONE_NEWNET"),
]);
// include/uapi/asm-generic/mman-common.h
const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;
pub(super) const PROTECTION: Show = Show::Bits(&[(1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC")]);
// include/uapi/linux/ptrace.h
const PTRACE_POKETEXT: u64 = 4;
const PTRACE_POKEDATA: u64 = 5;
const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;
const PTRACE_REQUESTS: Show = Show::Name(&[
    (PTRACE_POKETEXT, "PTRACE_POKETEXT"),
    (PTRACE_POKEDATA, "PTRACE_POKEDATA"),
    (PTRACE_ATTACH, "PTRACE_ATTACH"),
    (PTRACE_SEIZE, "PTRACE_SEIZE"),
]);
// include/uapi/linux/fs.h
const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
pub(super) const FLAG_REQUESTS: Show = Show::Name(&[
    (FS_IOC_SETFLAGS, "FS_IOC_SETFLAGS"),
    (FS_IOC_FSSETXATTR, "FS_IOC_FSSETXATTR"),
]);
// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: u64 = 5;
const BPF_PROG_ATTACH: u64 = 8;
const BPF_RAW_TRACEPOINT_OPEN: u64 = 17;
const BPF_LINK_CREATE: u64 = 28;
pub(crate) const BPF_LINK_DETACH: u64 = 34;
pub(super) const BPF_COMMANDS: Show = Show::Name(&[
    (BPF_PROG_LOAD, "BPF_PROG_LOAD"),
    (BPF_PROG_ATTACH, "BPF_PROG_ATTACH"),
    (BPF_RAW_TRACEPOINT_OPEN, "BPF_RAW_TRACEPOINT_OPEN"),
    (BPF_LINK_CREATE, "BPF_LINK_CREATE"),
    (BPF_LINK_DETACH, "BPF_LINK_DETACH"),
]);
// include/uapi/linux/keyctl.h
const KEYCTL_UPDATE: u64 = 2;
const KEYCTL_SETPERM: u64 = 5;
const KEYCTL_LINK: u64 = 8;
const KEYCTL_INSTANTIATE: u64 = 12;
const KEYCTL_OPERATIONS: Show = Show::Name(&[
    (KEYCTL_UPDATE, "KEYCTL_UPDATE"),
    (KEYCTL_SETPERM, "KEYCTL_SETPERM"),
    (KEYCTL_LINK, "KEYCTL_LINK"),
    (KEYCTL_INSTANTIATE, "KEYCTL_INSTANTIATE"),
]);
// include/linux/socket.h, include/linux/net.h
const AF_PACKET: u64 = 17;
const SOCK_TYPE_MASK: u64 = 0xf;
const SOCK_RAW: u64 = 3;
pub(super) const FAMILIES: Show = Show::Name(&[
    (2, "AF_INET"),
    (10, "AF_INET6"),
    (16, "AF_NETLINK"),
    (AF_PACKET, "AF_PACKET"),
]);
// include/uapi/linux/mount.h
pub(super) const MOUNT_FLAGS: Show = Show::Bits(&[
    (1, "MS_RDONLY"),
    (2, "MS_NOSUID"),
    (4, "MS_NODEV"),
    (8, "MS_NOEXEC"),
    (32, "MS_REMOUNT"),
    (4096, "MS_BIND"),
    (8192, "MS_MOVE"),
    (16_384, "MS_REC"),
    (1 << 18, "MS_PRIVATE"),
]);
pub(super) const UNMOUNT_FLAGS: Show = Show::Bits(&[(1, "MNT_FORCE"), (2, "MNT_DETACH"), (4, "MNT_EXPIRE")]);

/// Every row there is; what fails is never reported.
#[rustfmt::skip]
pub const CALLS: &[Call] = &[
    call(2, "open", Signal::FileOpen).opens().with(&[detail("flags", 1, OPEN_FLAGS), detail("mode", 2, Show::Octal)]),
    call(85, "creat", Signal::FileOpen).opens().with(&[detail("mode", 1, Show::Octal)]),
    call(257, "openat", Signal::FileOpen).opens().with(&[detail("flags", 2, OPEN_FLAGS), detail("mode", 3, Show::Octal)]),
    call(304, "open_by_handle_at", Signal::FileOpen).opens().with(&[detail("flags", 2, OPEN_FLAGS)]),
    call(437, "openat2", Signal::FileOpen).opens(),

    call(83, "mkdir", Signal::FileCreate).path(1).with(&[detail("mode", 1, Show::Octal)]),
    call(258, "mkdirat", Signal::FileCreate).path_in(1, 2).with(&[detail("mode", 2, Show::Octal)]),
    call(133, "mknod", Signal::FileCreate).path(1).stays_when(1, S_IFMT, S_IFREG).stays_when(1, S_IFMT, 0).with(&[detail("mode", 1, Show::Octal), detail("device", 2, Show::Hex)]),
    call(259, "mknodat", Signal::FileCreate).path_in(1, 2).stays_when(2, S_IFMT, S_IFREG).stays_when(2, S_IFMT, 0).with(&[detail("mode", 2, Show::Octal), detail("device", 3, Show::Hex)]),

    call(82, "rename", Signal::FileRename).path(1).target(2),
    call(264, "renameat", Signal::FileRename).path_in(1, 2).target_in(3, 4),
    call(316, "renameat2", Signal::FileRename).path_in(1, 2).target_in(3, 4)
        .with(&[detail("flags", 4, RENAME_FLAGS)]),

    call(87, "unlink", Signal::FileUnlink).path(1),
    call(84, "rmdir", Signal::FileUnlink).path(1),
    call(263, "unlinkat", Signal::FileUnlink).path_in(1, 2).with(&[detail("flags", 2, Show::Bits(&[(0x200, "AT_REMOVEDIR")]))]),

    call(86, "link", Signal::FileLink).path(1).target(2),
    call(265, "linkat", Signal::FileLink).path_in(1, 2).target_in(3, 4),
    call(88, "symlink", Signal::FileLink).path_in(PLAIN, 1).target(2),
    call(266, "symlinkat", Signal::FileLink).path_in(PLAIN, 1).target_in(2, 3),

    call(76, "truncate", Signal::FileTruncate).path(1).with(&[detail("length", 1, Show::Number)]),
    call(77, "ftruncate", Signal::FileTruncate).on_file(1).with(&[detail("length", 1, Show::Number)]),

    call(90, "chmod", Signal::FileChmod).path(1).with(&[detail("mode", 1, Show::Octal)]),
    call(91, "fchmod", Signal::FileChmod).on_file(1).with(&[detail("mode", 1, Show::Octal)]),
    call(268, "fchmodat", Signal::FileChmod).path_in(1, 2).with(&[detail("mode", 2, Show::Octal)]),
    call(452, "fchmodat2", Signal::FileChmod).path_in(1, 2).with(&[detail("mode", 2, Show::Octal)]),

    call(92, "chown", Signal::FileChown).path(1).with(&[detail("uid", 1, Show::Signed), detail("gid", 2, Show::Signed)]),
    call(94, "lchown", Signal::FileChown).path(1).with(&[detail("uid", 1, Show::Signed), detail("gid", 2, Show::Signed)]),
    call(93, "fchown", Signal::FileChown).on_file(1).with(&[detail("uid", 1, Show::Signed), detail("gid", 2, Show::Signed)]),
    call(260, "fchownat", Signal::FileChown).path_in(1, 2).with(&[detail("uid", 2, Show::Signed), detail("gid", 3, Show::Signed)]),

    call(188, "setxattr", Signal::FileXattr).path(1).target_in(PLAIN, 2),
    call(189, "lsetxattr", Signal::FileXattr).path(1).target_in(PLAIN, 2),
    call(190, "fsetxattr", Signal::FileXattr).on_file(1).target_in(PLAIN, 2),
    call(197, "removexattr", Signal::FileXattr).path(1).target_in(PLAIN, 2),
    call(198, "lremovexattr", Signal::FileXattr).path(1).target_in(PLAIN, 2),
    call(199, "fremovexattr", Signal::FileXattr).on_file(1).target_in(PLAIN, 2),
    call(463, "setxattrat", Signal::FileXattr).path_in(1, 2).target_in(PLAIN, 4),
    call(466, "removexattrat", Signal::FileXattr).path_in(1, 2).target_in(PLAIN, 4),

    call(16, "ioctl", Signal::FileFlags).on_file(1)
        .when(1, 0xffff_ffff, FS_IOC_SETFLAGS).when(1, 0xffff_ffff, FS_IOC_FSSETXATTR).with(&[detail("request", 1, FLAG_REQUESTS)]),

    call(112, "setsid", Signal::Setsid),
    call(101, "ptrace", Signal::Ptrace)
        .when(0, ALL_BITS, PTRACE_POKETEXT).when(0, ALL_BITS, PTRACE_POKEDATA).stays()
        .when(0, ALL_BITS, PTRACE_ATTACH).when(0, ALL_BITS, PTRACE_SEIZE)
        .with(&[detail("request", 0, PTRACE_REQUESTS), detail("pid", 1, Show::Signed)]),
    call(311, "process_vm_writev", Signal::ProcessWrite).with(&[detail("pid", 0, Show::Signed)]),
    call(319, "memfd_create", Signal::Memfd).path_in(PLAIN, 1)
        .with(&[detail("flags", 1, Show::Bits(&[(1, "MFD_CLOEXEC"), (2, "MFD_ALLOW_SEALING"), (4, "MFD_HUGETLB"), (8, "MFD_NOEXEC_SEAL"), (16, "MFD_EXEC")]))]),
    call(447, "memfd_secret", Signal::Memfd),
    call(9, "mmap", Signal::ExecMemory).folds().all().when(2, PROT_EXEC, PROT_EXEC).when(3, MAP_ANONYMOUS, MAP_ANONYMOUS)
        .with(&[detail("length", 1, Show::Number), detail("protection", 2, PROTECTION)]),
    call(10, "mprotect", Signal::ExecMemory).folds().when(2, PROT_EXEC, PROT_EXEC)
        .with(&[detail("address", 0, Show::Hex), detail("length", 1, Show::Number), detail("protection", 2, PROTECTION)]),
    call(329, "pkey_mprotect", Signal::ExecMemory).folds().when(2, PROT_EXEC, PROT_EXEC)
        .with(&[detail("address", 0, Show::Hex), detail("length", 1, Show::Number), detail("protection", 2, PROTECTION)]),
    call(56, "clone", Signal::Namespace).when(0, NAMESPACES, ANY).with(&[detail("flags", 0, CLONE_FLAGS)]),
    call(272, "unshare", Signal::Namespace).changes(Change::Namespace).when(0, NAMESPACES, ANY).stays().with(&[detail("flags", 0, CLONE_FLAGS)]),
    call(308, "setns", Signal::Namespace).changes(Change::Namespace).on_file(1).stays().with(&[detail("flags", 1, CLONE_FLAGS)]),
    call(165, "mount", Signal::Mount).path_in(PLAIN, 1).target(2).with(&[detail("flags", 3, MOUNT_FLAGS)]),
    call(166, "umount2", Signal::Mount).path(1).with(&[detail("flags", 1, UNMOUNT_FLAGS)]),
    call(429, "move_mount", Signal::Mount).path_in(1, 2).target_in(3, 4),
    call(155, "pivot_root", Signal::RootChange).path(1).target(2),
    call(161, "chroot", Signal::RootChange).path(1),
    call(248, "add_key", Signal::Keyctl).path_in(PLAIN, 1).target_in(PLAIN, 2),
    call(250, "keyctl", Signal::Keyctl)
        .when(0, ALL_BITS, KEYCTL_UPDATE).when(0, ALL_BITS, KEYCTL_SETPERM).when(0, ALL_BITS, KEYCTL_LINK).when(0, ALL_BITS, KEYCTL_INSTANTIATE)
        .with(&[detail("operation", 0, KEYCTL_OPERATIONS), detail("key", 1, Show::Signed)]),
    call(323, "userfaultfd", Signal::Userfaultfd).with(&[detail("flags", 0, Show::Hex)]),

    call(175, "init_module", Signal::Module).path_in(PLAIN, 3).with(&[detail("length", 1, Show::Number)]),
    call(313, "finit_module", Signal::Module).on_file(1).target_in(PLAIN, 2).with(&[detail("flags", 2, Show::Hex)]),
    call(176, "delete_module", Signal::Module).path_in(PLAIN, 1).stays(),
    call(321, "bpf", Signal::Bpf)
        .when(0, ALL_BITS, BPF_PROG_LOAD).when(0, ALL_BITS, BPF_PROG_ATTACH).when(0, ALL_BITS, BPF_RAW_TRACEPOINT_OPEN).when(0, ALL_BITS, BPF_LINK_CREATE)
        .with(&[detail("command", 0, BPF_COMMANDS)]),
    call(298, PERF_EVENT_OPEN, Signal::Tracing).peeking(1).when(7, ALL_BITS, NEVER).when(7, ALL_BITS, NEVER).stays()
        .with(&[detail("type", 7, Show::Number), detail("pid", 1, Show::Signed), detail("cpu", 2, Show::Signed)]),
    call(246, "kexec_load", Signal::Kexec).with(&[detail("segments", 1, Show::Number)]),
    call(320, "kexec_file_load", Signal::Kexec).on_file(1),

    sets(105, "setuid", Change::Ids), sets(106, "setgid", Change::Ids),
    sets(113, "setreuid", Change::Ids), sets(114, "setregid", Change::Ids),
    sets(117, "setresuid", Change::Ids), sets(119, "setresgid", Change::Ids),
    sets(122, "setfsuid", Change::Ids), sets(123, "setfsgid", Change::Ids), sets(126, "capset", Change::Ids),
    sets(59, "execve", Change::Exec), sets(322, "execveat", Change::Exec),

    call(41, "socket", Signal::RawSocket).when(1, SOCK_TYPE_MASK, SOCK_RAW).when(0, ALL_BITS, AF_PACKET)
        .with(&[detail("family", 0, FAMILIES), detail("type", 1, Show::Number), detail("protocol", 2, Show::Number)]),
];

/// What stands for calls where a hook of its own reports an operation.
pub const TRACEPOINTS: &[Call] = &[
    call(hook::MODULE_LOAD, "module_load", Signal::Module).with(&[detail("taints", 0, TAINTS)]),
    call(hook::SIGNAL, "signal_generate", Signal::ProcessSignal).with(&[
        detail("signal", 0, SIGNALS),
        detail("pid", 1, Show::Signed),
        detail("result", 2, SIGNAL_RESULTS),
    ]),
    call(hook::SYSCTL, "sysctl", Signal::Sysctl),
];

/// Of an `int`: what lies above is not looked at by the kernel.
const ALL_BITS: u64 = 0xffff_ffff;

#[cfg(test)]
mod tests {
    use sensor_common::call::VALUES;

    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (show, number, text) in [
            (Show::Number, 7, ""),
            (Show::Signed, u64::from(u32::MAX), "-1"),
            (Show::Octal, 0o100_644, "0644"),
            (PROTECTION, 7, "PROT_READ|PROT_WRITE|PROT_EXEC"),
            (OPEN_FLAGS, 0, "0x0"),
            (OPEN_FLAGS, 0o102 | 1 << 40, "O_RDWR|O_CREAT|0x10000000000"),
            (PTRACE_REQUESTS, 16, "PTRACE_ATTACH"),
            (PTRACE_REQUESTS, 99, ""),
        ] {
            assert_eq!(show.text(number), text);
        }
    }

    #[test]
    fn what_a_better_hook_reports_is_left_to_it() {
        let of = |name| CALLS.iter().find(|call| call.name == name).unwrap();
        let all = u64::MAX;
        assert_eq!(of("rename").rule_beside(all), CallRule::default());
        assert_eq!(of("rename").rule_beside(0), of("rename").rule);
        assert_eq!(of("unshare").rule_beside(all), of("unshare").rule);
        assert_eq!(
            of("setsid").rule_beside(all & !(1 << Signal::Setsid as u64)),
            of("setsid").rule
        );
        let ptrace = of("ptrace").rule_beside(all);
        assert_eq!(
            (ptrace.tests, ptrace.test[0].wanted, ptrace.test[1].wanted),
            (2, 4, 5)
        );
        // Values of parameters come from a hook of their own, or else from the opens that change one.
        let open = |taken_over| of("openat").rule_beside(taken_over).kernel;
        assert_eq!(open(all), 0);
        assert_eq!(open(all & !(1 << Signal::Sysctl as u64)), KERNEL_ALONE);
        assert_eq!(of("perf_event_open").rule_beside(all), of("perf_event_open").rule);
        let mknod = of("mknod").rule_beside(all);
        assert_eq!(
            (of("mknod").rule.tests, mknod.tests, mknod.test[0].wanted),
            (0, 2, S_IFREG)
        );
    }

    #[test]
    fn each_number_has_one_row_and_fits_the_table() {
        for call in CALLS.iter().chain(TRACEPOINTS) {
            let is_hook = TRACEPOINTS.iter().any(|hook| hook.number == call.number);
            assert_ne!((call.number as usize) < sensor_common::call::CALLS_MAX, is_hook);
            let same = CALLS
                .iter()
                .chain(TRACEPOINTS)
                .filter(|other| other.number == call.number || other.name == call.name);
            assert_eq!(same.count(), 1, "{}", call.name);
            assert!(
                call.details.iter().all(|detail| detail.value < VALUES),
                "{}",
                call.name
            );
        }
    }
}
