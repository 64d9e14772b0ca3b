//! What happened, to whom it belongs: the type that detection and export read.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sensor_common::{call::VALUES, record::FlowEnd, sequence};
use serde::{Deserialize, Serialize};

use super::{CredentialChange, Session, dns::DnsMessage, tls::ClientHello};
use crate::{
    capture::calls::{BPF_LINK_DETACH, Call},
    recording::numbers,
    time::{BootTime, WallTime},
};

/// A process, named for good: a process id alone is reused, the pair is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// When it began.
    pub start: BootTime,
}

/// What a process is and who it runs for. Never changed once made: an exec or a new credential makes a new one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Which process it is.
    pub id: ProcessId,
    /// Which process it came from; `None` where it has none. It stays so when that one ends and the kernel gives it to another.
    pub parent: Option<ProcessId>,
    /// What it runs, shared by all the processes that were forked from one exec.
    pub image: Arc<Image>,
    /// Who it runs as and for.
    pub credentials: Credentials,
    /// What it is part of, shared by all the processes of a cgroup.
    pub workload: Arc<Workload>,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// A kernel thread.
    pub kernel_thread: bool,
}

/// A program as it was executed. Texts are bytes: Linux does not promise UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Path of the executable in the mount namespace of the process; empty where it could not be read.
    pub executable: Box<[u8]>,
    /// Arguments, each with a NUL after it.
    pub args: Box<[u8]>,
    /// Length of all the arguments in bytes, which may be more than are here.
    pub args_total: u64,
    /// Current directory at the exec.
    pub cwd: Box<[u8]>,
    /// Inode of the executable, 0 where unknown.
    pub inode: u64,
    /// Device of the executable (major << 20 | minor), 0 where unknown.
    pub device: u32,
}

impl Image {
    /// The arguments, one by one.
    pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        let args = self.args.strip_suffix(b"\0").unwrap_or(&self.args);
        let empty = self.args.is_empty();
        args.split(|byte| *byte == 0).filter(move |_| !empty)
    }

    /// Whether arguments are missing.
    #[must_use]
    pub fn args_truncated(&self) -> bool {
        self.args_total > self.args.len() as u64
    }
}

/// Who a process runs as and for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Who logged in to start it.
    pub login_uid: Option<u32>,
    /// Audit session.
    pub session_id: Option<u32>,
}

/// Namespaces, as inode numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Mount namespace.
    pub mount: u32,
    /// Pid namespace.
    pub pid: u32,
    /// Network namespace.
    pub net: u32,
}

/// What a process is part of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// What the model of normal is kept for: `unit:nginx.service`, `container:3f2a…`, `session:user@1000`, `host`.
    pub name: Box<str>,
    /// Cgroup id in the hierarchy that the agent chose.
    pub cgroup_id: u64,
    /// Path of the cgroup below the root of that hierarchy; empty where it could not be read.
    pub cgroup: Box<str>,
    /// Full id of the container, where it is one.
    pub container: Option<Box<str>>,
}

/// Something that happened on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in the order of this host's events.
    pub time: BootTime,
    /// When, for people.
    pub wall: WallTime,
    /// CPU that reported it.
    pub cpu: u16,
    /// Who; `None` where it is not known, as for a connection that began before the agent.
    pub process: Option<Arc<Process>>,
    /// The parent, where it is still known.
    pub parent: Option<Arc<Process>>,
    /// The thread that acted.
    pub thread: Thread,
    /// What.
    pub body: Body,
}

/// A thread of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Name, NUL-padded.
    pub comm: [u8; 16],
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// The process replaced its program; `Event::process` is what it is now.
    Exec(Exec),
    /// The process was created; `Event::process` is the new one.
    Fork,
    /// The last thread of the process ended.
    Exit(Exit),
    /// It attempted a TCP connection.
    Connect(Flow),
    /// It accepted a TCP connection.
    Accept(Flow),
    /// It began to listen.
    Listen {
        /// Where.
        address: SocketAddr,
        /// Longest queue of connections waiting to be accepted.
        backlog: u32,
    },
    /// A TCP connection of it ended.
    FlowClose(Flow, FlowTotals),
    /// A TCP connection of it goes on, and has carried so much.
    FlowReport(Flow, FlowTotals),
    /// It said which TLS server it means.
    TlsHello(Flow, Box<ClientHello>),
    /// A socket of it got a local address.
    Bind {
        /// Which.
        address: SocketAddr,
        /// Protocol number, as in an IP header.
        protocol: u32,
    },
    /// Datagrams went between two ends, until they paused.
    UdpFlow(Flow, DatagramTotals),
    /// It asked a name server, or got its answer.
    Dns(Flow, Box<DnsMessage>),
    /// One of its threads got other credentials.
    Credential(Box<CredentialChange>),
    /// Somebody came, left, became another, or failed to prove who they are; the process is the one that let them.
    Session(Box<Session>),
    /// It asked the kernel for something by a system call.
    Operation(Box<Operation>),
    /// It made system calls in an order that is new to its workload.
    Sequence(Sequence),
}

/// The last calls of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Their numbers, the first first; [`OTHER`](sequence::OTHER) for one that is larger.
    pub calls: [u16; sequence::LENGTH],
    /// Further new orders of the workload that were not reported, because there were too many, since the last one that was.
    pub withheld: u64,
}

/// A system call, or what led to a hook, that is worth a word. Which signal it is stands in a table, with what its values mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// What it says: not always the call's usual signal.
    #[serde(with = "numbers::signal")]
    pub signal: sensor_common::Signal,
    /// The call, and what its values mean.
    #[serde(with = "numbers::call")]
    pub call: &'static Call,
    /// What it returned: negative for an error number.
    pub result: i64,
    /// Arguments, as numbers.
    pub values: [u64; VALUES],
    /// What it was done to: the path as the kernel opened it, or as the process gave it, in its mount namespace; a
    /// name, where the call has no path.
    pub path: Box<[u8]>,
    /// The other path or name: what a file is called now, where something was mounted, which attribute was set.
    pub target: Box<[u8]>,
    /// What the thing was before, where that is said: the value of a parameter.
    pub previous: Box<[u8]>,
    /// The file, where the call has a descriptor of it.
    pub file: Option<FileId>,
    /// A path is cut.
    pub truncated: bool,
    /// A text of the process could not be read.
    pub unreadable: bool,
    /// Reported before it was done: it may have failed, and there is no result.
    pub attempt: bool,
    /// The path begins at the root of its file system, as far as is known.
    pub unmounted: bool,
    /// Where its repetitions are counted, if they are.
    pub fold: Option<FoldSlot>,
    /// It stands for repetitions of an event that came before.
    pub repeats: Option<Repeated>,
}

impl Event {
    /// What no hook reports and was found out just now: `process` did it, or it was done to it.
    #[must_use]
    pub fn found_out(process: &Arc<Process>, operation: Operation) -> Self {
        Self {
            time: BootTime::now(),
            wall: WallTime::now(),
            cpu: 0,
            process: Some(Arc::clone(process)),
            parent: None,
            thread: Thread::default(),
            body: Body::Operation(Box::new(operation)),
        }
    }
}

impl Operation {
    /// That the kernel refused to run `path`, of which nothing but its verdict tells.
    #[must_use]
    pub fn refused(path: &[u8]) -> Option<Self> {
        const EPERM: i64 = -1;
        let call = Call::of(sensor_common::call::Hook::FileOpen as u32)?;
        Some(Self {
            path: path.into(),
            result: EPERM,
            ..Self::of(sensor_common::Signal::FileOpen, call)
        })
    }

    /// That a kernel program was taken off its hook, by whomever: no hook reports that, it is found out.
    #[must_use]
    pub fn detached(program: &str) -> Option<Self> {
        let call = Call::of(sensor_common::call::Hook::Bpf as u32)?;
        let mut detached = Self {
            path: program.as_bytes().into(),
            ..Self::of(sensor_common::Signal::Bpf, call)
        };
        detached.values[0] = BPF_LINK_DETACH;
        Some(detached)
    }

    /// One that says `signal`, of which nothing else is known.
    #[must_use]
    pub fn of(signal: sensor_common::Signal, call: &'static Call) -> Self {
        Self {
            signal,
            call,
            result: 0,
            values: [0; VALUES],
            path: Box::default(),
            target: Box::default(),
            previous: Box::default(),
            file: None,
            truncated: false,
            unreadable: false,
            attempt: false,
            unmounted: false,
            fold: None,
            repeats: None,
        }
    }

    /// Whether it opens a file for reading alone.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        const ACCESS: u64 = 3;
        let mut details = self.call.details.iter();
        let flags = details.find(|detail| detail.name == "flags");
        self.signal == sensor_common::Signal::FileOpen
            && flags.is_some_and(|detail| self.values[detail.value] & ACCESS == 0)
    }
}

/// Where repetitions of an event are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldSlot {
    /// Index of the slot, from 1.
    pub index: u32,
    /// Its generation.
    pub generation: u32,
}

/// How often something was done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// How often.
    pub count: u64,
    /// When first.
    pub first: WallTime,
    /// When last.
    pub last: WallTime,
}

/// A file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// Inode number.
    pub inode: u64,
    /// Device (major << 20 | minor).
    pub device: u32,
    /// Type and permissions.
    pub mode: u32,
}

/// More about an exec than the [`Image`] that came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// What ran before.
    pub previous: Option<Arc<Image>>,
    /// File name as it was asked for; the script, where an interpreter runs one.
    pub filename: Box<[u8]>,
    /// An interpreter runs a script.
    pub script: bool,
    /// The executable is an anonymous memory file.
    pub memfd: bool,
    /// The executable has no name in any directory any more.
    pub unlinked: bool,
    /// The executable was made or changed in the upper layer of an overlay.
    pub overlay_upper: bool,
    /// The executable's path or the current directory is cut at its root end.
    pub path_truncated: bool,
    /// The arguments could not be copied in the kernel, and could not be read afterwards.
    pub args_unreadable: bool,
    /// Environment variables that make a loader or an interpreter run other code, a NUL after each.
    pub variables: Box<[u8]>,
    /// Not all environment variables were looked at.
    pub variables_unread: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(u8),
    /// By a signal.
    Signal {
        /// Its number.
        number: u8,
        /// Whether a core was dumped.
        core: bool,
    },
}

/// A TCP connection or a flow of datagrams, seen from this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Joins the events of one connection; means nothing else.
    pub id: u64,
    /// This host's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The name by which somebody on this host last asked for the other end's address.
    pub remote_name: Option<Arc<str>>,
    /// This host accepted it, or got the first datagram.
    pub inbound: bool,
    /// The handshake was completed.
    pub established: bool,
    /// The process is the one that listens, or that made the socket: which one accepted or received was not visible.
    pub listener: bool,
}

/// What a connection carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTotals {
    /// From attempt or acceptance to the end, where the beginning was seen.
    pub duration: Option<Duration>,
    /// Payload bytes, each counted once.
    pub bytes_sent: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Segments sent.
    pub segments_sent: u32,
    /// Segments received.
    pub segments_received: u32,
    /// Segments sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time, zero where none was measured.
    pub rtt: Duration,
}

/// What a flow of datagrams carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramTotals {
    /// When the first was seen.
    pub first: WallTime,
    /// From the first to the last.
    pub duration: Duration,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Why it is reported.
    #[serde(with = "numbers::flow_end")]
    pub end: FlowEnd,
}

impl Body {
    /// The connection, or what is like one, that it is about.
    #[must_use]
    pub fn flow(&self) -> Option<&Flow> {
        match self {
            Self::Connect(flow)
            | Self::Accept(flow)
            | Self::FlowClose(flow, _)
            | Self::FlowReport(flow, _)
            | Self::TlsHello(flow, _)
            | Self::UdpFlow(flow, _)
            | Self::Dns(flow, _) => Some(flow),
            _ => None,
        }
    }

    /// The signal that reported it.
    #[must_use]
    pub fn signal(&self) -> sensor_common::Signal {
        use sensor_common::Signal;
        match self {
            Self::Exec(_) => Signal::Exec,
            Self::Fork => Signal::Fork,
            Self::Exit(_) => Signal::Exit,
            Self::Connect(_) => Signal::Connect,
            Self::Accept(_) => Signal::Accept,
            Self::Listen { .. } => Signal::Listen,
            Self::FlowClose(..) => Signal::FlowClose,
            Self::FlowReport(..) => Signal::FlowReport,
            Self::TlsHello(..) => Signal::TlsHello,
            Self::Bind { .. } => Signal::Bind,
            Self::UdpFlow(..) => Signal::UdpFlow,
            Self::Dns(..) => Signal::Dns,
            Self::Credential(_) => Signal::Credential,
            Self::Session(session) => session.signal,
            Self::Operation(operation) => operation.signal,
            Self::Sequence(_) => Signal::Sequence,
        }
    }
}
