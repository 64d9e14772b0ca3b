//! Which hooks can report a signal, the best first. Ladders are data: the loader takes the best rung that this
//! kernel accepts, `sensor doctor` and `GetStatus` show which one that was.

use sensor_common::Signal;

use super::btf::Kind;

/// Where in the kernel a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// A tracepoint, with typed arguments (`tp_btf`).
    Tracepoint(&'static str),
    /// The return of a kernel function (`fexit`).
    FunctionExit(&'static str),
}

/// One way to report a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Name of the program in the kernel object.
    pub program: &'static str,
    /// Where it is attached.
    pub hook: Hook,
    /// What an operator does not see while this rung is in use; empty for nothing.
    pub blind_spot: &'static str,
}

const EXEC: Rung = Rung {
    program: "process_exec",
    hook: Hook::Tracepoint("sched_process_exec"),
    blind_spot: "an exec that fails",
};
const FORK: Rung = Rung {
    program: "process_fork",
    hook: Hook::Tracepoint("sched_process_fork"),
    blind_spot: "new threads of a process",
};
const EXIT: Rung = Rung {
    program: "process_exit",
    hook: Hook::Tracepoint("sched_process_exit"),
    blind_spot: "",
};
const ACCEPT: Rung = Rung {
    program: "tcp_accept",
    hook: Hook::FunctionExit("inet_csk_accept"),
    blind_spot: "",
};

const fn tcp_state(blind_spot: &'static str) -> Rung {
    Rung {
        program: "tcp_state",
        hook: Hook::Tracepoint("inet_sock_set_state"),
        blind_spot,
    }
}

/// System calls, at their return.
const CALL: Rung = Rung {
    program: "call_exit",
    hook: Hook::Tracepoint("sys_exit"),
    blind_spot: "calls of 32-bit programs, and what is asked for through io_uring",
};
/// The same, where the path is read from the process after the kernel did.
const CALL_BY_TEXT: Rung = Rung {
    blind_spot: "calls of 32-bit programs, what is asked for through io_uring, and a path that another thread changes during the call",
    ..CALL
};

const CONNECT: Rung = tcp_state("the local port, until the connection ends");
const ACCEPT_OF_LISTENER: Rung = tcp_state(
    "which of the processes that share a listening socket accepted, until it closes the connection",
);
const LISTEN: Rung = tcp_state("");
const FLOW_CLOSE: Rung =
    tcp_state("the owner of a connection that began before the agent, if the other end closes it");

/// The ladder of a signal, the best rung first.
#[must_use]
pub const fn rungs(signal: Signal) -> &'static [Rung] {
    match signal {
        Signal::Exec => &[EXEC],
        Signal::Fork => &[FORK],
        Signal::Exit => &[EXIT],
        Signal::Connect => &[CONNECT],
        Signal::Accept => &[ACCEPT, ACCEPT_OF_LISTENER],
        Signal::Listen => &[LISTEN],
        Signal::FlowClose => &[FLOW_CLOSE],
        Signal::FileCreate
        | Signal::FileRename
        | Signal::FileUnlink
        | Signal::FileLink
        | Signal::FileTruncate
        | Signal::FileChmod
        | Signal::FileChown
        | Signal::FileXattr
        | Signal::Mount
        | Signal::RootChange => &[CALL_BY_TEXT],
        Signal::FileOpen
        | Signal::FileFlags
        | Signal::Setsid
        | Signal::Ptrace
        | Signal::ProcessWrite
        | Signal::Memfd
        | Signal::ExecMemory
        | Signal::Namespace
        | Signal::Keyctl
        | Signal::Userfaultfd
        | Signal::Module
        | Signal::Bpf
        | Signal::Kexec
        | Signal::RawSocket => &[CALL],
        Signal::Credential
        | Signal::ProcessSignal
        | Signal::Sysctl
        | Signal::Tracing
        | Signal::Lockdown
        | Signal::IoUring
        | Signal::Bind
        | Signal::UdpFlow
        | Signal::Dns
        | Signal::TlsHello
        | Signal::FlowReport
        | Signal::Login
        | Signal::Logout
        | Signal::Elevation
        | Signal::AuthFailure
        | Signal::Sequence => &[],
    }
}

/// Whether a signal is reported by system calls alone.
#[must_use]
pub fn is_call(signal: Signal) -> bool {
    rungs(signal).iter().all(|rung| rung.hook == CALL.hook)
}

impl Hook {
    /// What stands for the hook in the kernel's type information.
    #[must_use]
    pub fn btf_name(self) -> (Kind, String) {
        match self {
            Self::Tracepoint(name) => (Kind::Typedef, format!("btf_trace_{name}")),
            Self::FunctionExit(name) => (Kind::Func, name.to_owned()),
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tracepoint(name) => write!(f, "tp_btf/{name}"),
            Self::FunctionExit(name) => write!(f, "fexit/{name}"),
        }
    }
}
