//! System calls as a source of events: which call says what, as data.
//!
//! One kernel program sits at the return of every system call. It looks its number up in a table of [`CallRule`]s, which
//! the agent fills, and reports what the rule says; a call without a rule costs a look at one bit. A further signal on this rung is
//! therefore a row, and one that a better hook reports is a row less.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// System calls that a rule can be for: numbers below this.
pub const CALLS_MAX: usize = 512;

/// For each call, whether it has a rule: bit *n* of the whole for number *n*.
pub type Ruled = [u64; CALLS_MAX / 64];

/// Hooks that report an operation, most of them of the security modules: their numbers are beyond those of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's own names")]
#[repr(u32)]
pub enum Hook {
    FileOpen = CALLS_MAX as u32,
    PathMkdir,
    PathMknod,
    PathRename,
    PathUnlink,
    PathRmdir,
    PathLink,
    PathSymlink,
    PathTruncate,
    FileTruncate,
    PathChmod,
    PathChown,
    InodeSetxattr,
    InodeRemovexattr,
    InodeSetAcl,
    InodeRemoveAcl,
    FileIoctl,
    FileIoctlCompat,
    PtraceAccessCheck,
    MmapFile,
    FileMprotect,
    TaskAlloc,
    SbMount,
    SbUmount,
    MoveMount,
    PathChroot,
    SbPivotroot,
    KernelReadFile,
    KernelLoadData,
    Bpf,
    SocketCreate,
    LockedDown,
    IoUringSubmit,
}

/// What a locked down kernel refuses and is reported when it is asked for, locked down or not: a number of ours, and the kernel's name,
/// whose own number differs between versions. Not here is what other signals tell: BPF, tracefs, performance counters.
pub const LOCKDOWN_REASONS: &[(u64, &str)] = &[
    (1, "LOCKDOWN_MODULE_SIGNATURE"),
    (2, "LOCKDOWN_DEV_MEM"),
    (3, "LOCKDOWN_EFI_TEST"),
    (4, "LOCKDOWN_KEXEC"),
    (5, "LOCKDOWN_HIBERNATION"),
    (6, "LOCKDOWN_PCI_ACCESS"),
    (7, "LOCKDOWN_IOPORT"),
    (8, "LOCKDOWN_MSR"),
    (9, "LOCKDOWN_ACPI_TABLES"),
    (10, "LOCKDOWN_DEVICE_TREE"),
    (11, "LOCKDOWN_PCMCIA_CIS"),
    (12, "LOCKDOWN_TIOCSSERIAL"),
    (13, "LOCKDOWN_MODULE_PARAMETERS"),
    (14, "LOCKDOWN_MMIOTRACE"),
    (15, "LOCKDOWN_DEBUGFS"),
    (16, "LOCKDOWN_DBG_WRITE_KERNEL"),
    (17, "LOCKDOWN_KCORE"),
    (18, "LOCKDOWN_KPROBES"),
    (19, "LOCKDOWN_DBG_READ_KERNEL"),
    (20, "LOCKDOWN_XFRM_SECRET"),
];

/// Numbers of `enum lockdown_reason` are below this.
pub const REASONS_MAX: usize = 32;

/// For each number of the kernel's, the one of [`LOCKDOWN_REASONS`]; 0: is not reported.
pub type Reasons = [u8; REASONS_MAX];

/// Processes that can be protected at the same time; signals to further ones are not reported.
pub const PROTECTED_MAX: u32 = 1024;

/// What stands for a system call where a hook of its own reports an operation: numbers from [`CALLS_MAX`] on.
pub mod hook {
    /// A module was loaded.
    pub const MODULE_LOAD: u32 = 1000;
    /// A signal was sent.
    pub const SIGNAL: u32 = 1001;
    /// A parameter of the kernel was written.
    pub const SYSCTL: u32 = 1002;
}

/// Index of the first word of the structure that [`CallRule::peek`] means, among the values.
pub const PEEKED: u32 = 7;

/// Values that a rule can test and report: the six arguments, then the mode of the file and a peeked word.
pub const VALUES: usize = 8;

/// Index of the file's mode (`f_mode`) among the values.
pub const FILE_MODE: u32 = 6;

/// Most tests of a rule.
pub const TESTS: usize = 4;

/// What a value must be: `values[value] & mask == wanted`, or not zero where [`ANY`] is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Test {
    /// Bits that count.
    pub mask: u64,
    /// What they must be.
    pub wanted: u64,
    /// Index of the value, below [`VALUES`].
    pub value: u32,
    /// Fills the test to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

/// As [`Test::wanted`]: any of the bits.
pub const ANY: u64 = u64::MAX;

/// A path among the arguments. Arguments are counted from 1; 0 means that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PathArguments {
    /// The directory's descriptor. Without one a relative path begins at the current directory; with [`PLAIN`] the text
    /// is no path.
    pub directory: u8,
    /// The text.
    pub text: u8,
}

/// What a system call says, if it does not fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallRule {
    /// Number of the signal and one; 0: the call says nothing.
    pub signal: u16,
    /// The same, where the call made the file that it opened; 0: as any other.
    pub created: u16,
    /// Argument that is a descriptor whose file is meant, from 1; [`RESULT`]: the result is; 0: none.
    pub file: u8,
    /// Up to two paths.
    pub paths: [PathArguments; 2],
    /// How many of the tests count. Without any, every call is reported.
    pub tests: u8,
    /// 1: all of the tests must be passed; 0: one of them.
    pub all: u8,
    /// 1: what a process does again to the same file is folded.
    pub folds: u8,
    /// 1: if the tests are not passed, it is reported all the same if the file is watched.
    pub watched: u8,
    /// A [`Change`](crate::credential::Change), by number: what the call may do to the credentials of its thread.
    pub credentials: u8,
    /// Argument that is the address of a structure whose first 32 bits are tested, from 1; 0: none.
    pub peek: u8,
    /// 1: a file that the kernel itself is changed by is another signal, unless a better hook reports that; [`KERNEL_ALONE`]:
    /// what is no such file is not reported.
    pub kernel: u8,
    /// Fills the row to a multiple of eight bytes; always zero.
    pub reserved: [u8; 8],
    /// The tests.
    pub test: [Test; TESTS],
}

/// The descriptor that the call returned, as [`CallRule::file`].
pub const RESULT: u8 = 7;

/// As [`CallRule::kernel`]: a better hook reports all other files.
pub const KERNEL_ALONE: u8 = 2;

/// The text is no path but a name or the like, as [`PathArguments::directory`].
pub const PLAIN: u8 = 255;
