//! Records as they lie in a ring.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{call::VALUES, sequence};

/// A user, session or namespace number that is not set or could not be read.
pub const UNSET_ID: u32 = u32::MAX;

/// Longest argument area that an exec record carries, in bytes, NUL separators included.
pub const ARGS_MAX: usize = 8192;

/// Longest path that a record carries, in bytes.
pub const PATH_MAX: usize = 4096;

/// Who did it: read from the task at the moment of the event.
///
/// A process is `(tgid, start_time)`, never a bare pid: the pair is not reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Identity {
    /// When the process began: nanoseconds of `CLOCK_BOOTTIME`, of its thread group's leader.
    pub start_time: u64,
    /// The same of its parent; 0 where it has none.
    pub parent_start_time: u64,
    /// Cgroup id: in the v2 hierarchy, or in the v1 hierarchy that the agent chose at start.
    pub cgroup: u64,
    /// Process id in the initial pid namespace; 0 where the process is not known (see `Accept`).
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Parent's process id in the initial pid namespace.
    pub parent_tgid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Login user id (audit), [`UNSET_ID`] where nobody logged in or the kernel keeps none.
    pub login_uid: u32,
    /// Audit session id, [`UNSET_ID`] likewise.
    pub session_id: u32,
    /// Mount namespace, as an inode number.
    pub mount_ns: u32,
    /// Pid namespace, as an inode number.
    pub pid_ns: u32,
    /// Network namespace, as an inode number.
    pub net_ns: u32,
    /// Bits of [`identity_flags`].
    pub flags: u32,
    /// Fills the record to a multiple of eight bytes; always zero.
    pub reserved: u32,
    /// The thread's name, NUL-padded.
    pub comm: [u8; 16],
}

/// Bits of [`Identity::flags`].
pub mod identity_flags {
    /// A kernel thread.
    pub const KERNEL_THREAD: u32 = 1;
}

/// The beginning of every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// When it happened: nanoseconds of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// Position of this event among those that this CPU submitted or lost for this signal in this
    /// [context](crate::context), from 1: a gap is a lost event. The context is in the uppermost byte.
    pub sequence: u64,
    /// Length of the whole record in bytes, header and tail included.
    pub length: u32,
    /// Number of the [`Signal`](crate::Signal).
    pub signal: u16,
    /// CPU that wrote it.
    pub cpu: u16,
    /// Who did it.
    pub identity: Identity,
}

/// A process replaced its program.
///
/// The tail holds, in this order and without separators between the parts: the arguments (NUL after
/// each), the path of the executable, the current directory, the file name as it was asked for, and variables. Paths are
/// written leaf first, a NUL after each component (`ls\0bin\0usr\0`): the kernel program walks from the file
/// to the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exec {
    /// Inode number of the executable.
    pub inode: u64,
    /// Length of the argument area in the new program, which may be more than was copied.
    pub args_total: u64,
    /// Address of the argument area in the new program: where to read it from if it could not be copied.
    pub args_address: u64,
    /// Device of the executable, in the kernel's encoding (major << 20 | minor).
    pub device: u32,
    /// Bits of [`exec_flags`].
    pub flags: u32,
    /// Bytes of arguments in the tail.
    pub args_length: u32,
    /// Bytes of executable path in the tail.
    pub path_length: u32,
    /// Bytes of current directory in the tail.
    pub cwd_length: u32,
    /// Bytes of the file name in the tail, its NUL left out.
    pub filename_length: u32,
    /// Bytes of environment variables in the tail: those that make a loader or an interpreter run other code, a NUL after each.
    pub variables_length: u32,
    /// Fills the record to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

/// Bits of [`Exec::flags`].
pub mod exec_flags {
    /// More arguments were given than [`ARGS_MAX`](super::ARGS_MAX) bytes.
    pub const ARGS_TRUNCATED: u32 = 1;
    /// The arguments were not resident and could not be copied.
    pub const ARGS_UNREADABLE: u32 = 2;
    /// The path of the executable is longer, or deeper, than a record holds; its leaf end is there.
    pub const PATH_TRUNCATED: u32 = 4;
    /// Likewise the current directory.
    pub const CWD_TRUNCATED: u32 = 8;
    /// The executable has no name in any directory any more: deleted, or a memfd.
    pub const UNLINKED: u32 = 16;
    /// The executable is an anonymous memory file.
    pub const MEMFD: u32 = 32;
    /// An interpreter runs a script: the file name is the script, the path the interpreter.
    pub const SCRIPT: u32 = 64;
    /// Not all environment variables were looked at.
    pub const VARIABLES_UNREAD: u32 = 128;
    /// The executable lies in the upper layer of an overlay: it is not as the image or the lower layer has it.
    pub const OVERLAY_UPPER: u32 = 256;
}

/// A process asked the kernel for something, by a system call that a [`CallRule`](crate::CallRule) is for, or in whatever way it was
/// that led to a [`Hook`](crate::call::Hook).
///
/// The tail holds four parts without separators: for each of two paths, the directory that it is relative to, written
/// leaf first with a NUL after each component, and the text that the process gave. The path of a file that was opened is in the
/// first directory, whole, without a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Operation {
    /// What the call returned: negative for an error number. Zero where a hook reports.
    pub result: i64,
    /// Its arguments, as numbers, then the mode of the file (`f_mode`), then nothing. Where a hook reports, what that knows.
    pub values: [u64; VALUES],
    /// Inode number of the file, 0 where none is meant.
    pub inode: u64,
    /// Device of the file, in the kernel's encoding (major << 20 | minor).
    pub device: u32,
    /// Type and permissions of the file (`i_mode`).
    pub mode: u32,
    /// Number of the system call or of the [`Hook`](crate::call::Hook).
    pub call: u32,
    /// Bits of [`operation_flags`].
    pub flags: u32,
    /// Index of the [`Fold`](crate::Fold) in which its repetitions are counted, from 1; 0: they are not.
    pub fold: u32,
    /// Generation of that slot.
    pub fold_generation: u32,
    /// Bytes of the parts in the tail: directory and text of the first path, then of the second.
    pub lengths: [u32; 4],
}

/// Bits of [`Operation::flags`].
pub mod operation_flags {
    /// A path is longer, or deeper, than a record holds.
    pub const TRUNCATED: u32 = 1;
    /// A text of the process could not be read.
    pub const UNREADABLE: u32 = 2;
    /// The texts are no paths: a name, then what it was before, then what it is now.
    pub const HOOK: u32 = 4;
    /// Reported before it was done, by a hook: it may still fail, and the result is not known.
    pub const ATTEMPT: u32 = 8;
    /// The path begins at the root of its file system: the mount by which it was reached is not known.
    pub const UNMOUNTED: u32 = 16;
}

/// A thread made system calls in an order that its workload was not known for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sequence {
    /// New ones of the workload that were withheld on this CPU since its last record of it, because there were too many.
    pub withheld: u64,
    /// Number of the workload among those that are profiled.
    pub workload: u32,
    /// Numbers of the calls, the first first; [`OTHER`](sequence::OTHER) for one that is larger.
    pub calls: [u16; sequence::LENGTH],
}

/// A process was created. The header's identity is the one that asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fork {
    /// The new process. Its parent is not always the one that asked (`CLONE_PARENT`).
    pub child: Identity,
}

/// The last thread of a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exit {
    /// Status as `wait` reports it: exit code in bits 8–15, or signal in bits 0–6 and bit 7 for a core dump.
    pub status: u32,
    /// Fills the record to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

/// The two ends of a connection. IPv4 addresses are written as IPv4-mapped IPv6 (`::ffff:a.b.c.d`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tuple {
    /// Address on this host, in network byte order.
    pub local_address: [u8; 16],
    /// Address at the other end, in network byte order.
    pub remote_address: [u8; 16],
    /// Port on this host; 0 while the kernel has not chosen one.
    pub local_port: u16,
    /// Port at the other end.
    pub remote_port: u16,
    /// Address family of the socket: `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Fills the record to a multiple of four bytes; always zero.
    pub reserved: u16,
    /// Network namespace of the socket, as an inode number.
    pub net_ns: u32,
}

/// A TCP connection was attempted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Connect {
    /// The kernel's address of the socket: joins the events of one connection, means nothing else.
    pub socket: u64,
    /// Both ends. The local port may not be chosen yet.
    pub tuple: Tuple,
    /// Fills the record to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

/// A TCP connection was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Accept {
    /// The kernel's address of the socket: joins the events of one connection, means nothing else.
    pub socket: u64,
    /// Both ends.
    pub tuple: Tuple,
    /// Bits of [`flow_flags`].
    pub flags: u32,
}

/// A TCP socket began to listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Listen {
    /// Local end; the remote end is zero.
    pub tuple: Tuple,
    /// Longest queue of connections that wait to be accepted.
    pub backlog: u32,
}

/// A socket got the local address that its process asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Bind {
    /// Local end; the remote end is zero.
    pub tuple: Tuple,
    /// Protocol number, as in an IP header.
    pub protocol: u32,
}

/// A TCP connection ended. The counters are the kernel's own (`struct tcp_sock`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowClose {
    /// The kernel's address of the socket: joins the events of one connection, means nothing else.
    pub socket: u64,
    /// When it was attempted or accepted: nanoseconds of `CLOCK_BOOTTIME`; 0 where it began before the agent.
    pub start_time: u64,
    /// Payload bytes sent, each counted once however often it was sent.
    pub bytes_sent: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Segments sent.
    pub segments_sent: u32,
    /// Segments received.
    pub segments_received: u32,
    /// Segments sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time in microseconds; 0 where none was measured.
    pub rtt_us: u32,
    /// Both ends.
    pub tuple: Tuple,
    /// Bits of [`flow_flags`].
    pub flags: u32,
}

/// Bits of [`Accept::flags`], [`FlowClose::flags`] and [`DatagramCounts::flags`].
pub mod flow_flags {
    /// This host accepted the connection, or got the first datagram; clear: it began.
    pub const INBOUND: u32 = 1;
    /// The handshake was completed.
    pub const ESTABLISHED: u32 = 2;
    /// The process is the one that listens: which one accepted is not visible on this rung.
    pub const LISTENER: u32 = 4;
    /// No owner is known: the connection began before the agent, or its entry was pushed out.
    pub const NO_OWNER: u32 = 8;
    /// It has sent something: what comes after is no longer the first. Kernel programs keep it, nobody else reads it.
    pub const HAS_SENT: u32 = 16;
}

/// Key of the `DATAGRAMS` map: a UDP socket and the two ends that it is used between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DatagramKey {
    /// Names the socket while it is there, means nothing else: its cookie or its address, by rung.
    pub socket: u64,
    /// Both ends. The network namespace is 0 where the rung does not see it.
    pub tuple: Tuple,
    /// Fills the key to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

/// Datagrams between two ends so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DatagramCounts {
    /// When the first was seen: nanoseconds of `CLOCK_BOOTTIME`.
    pub first_time: u64,
    /// When the last was seen.
    pub last_time: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Bits of [`flow_flags`].
    pub flags: u32,
    /// Why they are reported: a [`FlowEnd`], as a number.
    pub end: u32,
}

/// Value of the `DATAGRAMS` map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DatagramFlow {
    /// Who owns them, as far as it is known.
    pub owner: Identity,
    /// What was seen of them.
    pub counts: DatagramCounts,
}

/// Datagrams between two ends, counted until they paused, or for as long as they are counted at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UdpFlow {
    /// Socket and ends.
    pub key: DatagramKey,
    /// What they carried.
    pub counts: DatagramCounts,
}

/// Why a flow of datagrams is reported. Names after IPFIX (RFC 5102, flowEndReason).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FlowEnd {
    /// Nothing came for the time that a pause takes.
    Idle = 1,
    /// It goes on, and has been counted for as long as a flow is counted at most.
    Active = 2,
    /// The agent stops.
    Forced = 4,
    /// There was no room to count it: this is one datagram of it.
    NoRoom = 5,
}

impl FlowEnd {
    /// The reason of this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Idle),
            2 => Some(Self::Active),
            4 => Some(Self::Forced),
            5 => Some(Self::NoRoom),
            _ => None,
        }
    }
}

/// Flows of datagrams that are counted at once.
pub const DATAGRAM_FLOWS: u32 = 32_768;

/// Longest message of the domain name system that is copied whole, in bytes. Resolvers advertise 1,232 over UDP.
pub const DNS_MAX: usize = 2048;

/// A message between a client on this host and a server of the domain name system. The tail holds the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Dns {
    /// Socket and ends.
    pub key: DatagramKey,
    /// Bits of [`flow_flags`].
    pub flags: u32,
    /// 1: this end sent it; 0: the server did.
    pub sent: u32,
    /// Length of the message, which may be more than was copied.
    pub total: u32,
    /// Bytes of it in the tail.
    pub length: u32,
}

/// Longest message of a TLS client that is copied whole, in bytes: those with a post-quantum key share take some 1,800.
pub const HELLO_MAX: usize = 4096;

/// What a TLS client said first. The tail holds its record, from its header on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TlsHello {
    /// The kernel's address of the socket: joins the events of one connection, means nothing else.
    pub socket: u64,
    /// Both ends.
    pub tuple: Tuple,
    /// Bits of [`flow_flags`].
    pub flags: u32,
    /// Length of the record as far as the call gave it, which may be more than was copied.
    pub total: u32,
    /// Bytes of it in the tail.
    pub length: u32,
}

/// Key of the `LISTENERS` map: where a socket listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ListenerKey {
    /// Address in network byte order, IPv4 as IPv4-mapped IPv6; zeroes for any address of either family.
    pub address: [u8; 16],
    /// Network namespace, as an inode number.
    pub net_ns: u32,
    /// Port.
    pub port: u32,
}
