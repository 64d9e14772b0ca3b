//! Which hooks can report a signal, the best first. Ladders are data: the loader takes the best rung that this
//! kernel accepts, `sensor doctor` and `GetStatus` show which one that was.

mod lsm;
mod network;

use sensor_common::Signal;

use super::btf::Kind;

/// Where in the kernel a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// A hook of the security modules (`lsm`).
    Lsm(&'static str),
    /// A tracepoint, with typed arguments (`tp_btf`).
    Tracepoint(&'static str),
    /// The beginning of a kernel function (`fentry`).
    FunctionEntry(&'static str),
    /// None in the kernel: the agent reads what the host records of logins, and watches what other signals show of them.
    HostRecords,
    /// The return of a kernel function (`fexit`).
    FunctionExit(&'static str),
    /// A walk through all that the kernel has of a kind (`iter`).
    Iterator(&'static str),
    /// The root of the cgroup v2 hierarchy.
    Cgroup(Cgroup),
}

/// What is seen at a cgroup, and below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cgroup {
    /// Packets that its sockets send.
    Egress,
    /// Packets that its sockets receive.
    Ingress,
    /// Sockets of IPv4 that got a local address.
    PostBind4,
    /// Likewise of IPv6.
    PostBind6,
    /// Reads and writes of `/proc/sys`.
    Sysctl,
}

/// Kinds of hooks, the least trusted first. What a lower one reports can be changed by the watched process while it is read, or
/// is not all that happens.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The return of system calls.
    Syscall,
    /// Tracepoints of the kernel.
    Tracepoint,
    /// Returns of kernel functions.
    Fexit,
    /// Hooks of the security modules.
    Lsm,
}

/// One way to report a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Name of the program in the kernel object.
    pub program: &'static str,
    /// Where it is attached.
    pub hook: Hook,
    /// What else has to be attached for it.
    pub also: &'static [Part],
    /// What an operator does not see while this rung is in use; empty for nothing.
    pub blind_spot: &'static str,
}

/// A further program of a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the program in the kernel object.
    pub program: &'static str,
    /// Where it is attached.
    pub hook: Hook,
    /// Kernels that do not have the hook report by the others what it would.
    pub optional: bool,
}

impl Rung {
    /// Everything that has to be attached for it.
    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let first = Part {
            program: self.program,
            hook: self.hook,
            optional: false,
        };
        std::iter::once(first).chain(self.also.iter().copied())
    }
}

/// Programs that do what those before them were skipped for, each behind the one that it stands behind. Only needed where
/// programs of tracepoints can be preempted.
pub const TWINS: [(&str, &str); 8] = [
    ("process_exec", "process_exec_second"),
    ("process_exec_second", "process_exec_third"),
    ("process_fork", "process_fork_second"),
    ("process_fork_second", "process_fork_third"),
    ("process_exit", "process_exit_second"),
    ("process_exit_second", "process_exit_third"),
    ("credential_exec", "credential_exec_second"),
    ("credential_exec_second", "credential_exec_third"),
];

/// Without it, runs that the kernel skips are lost, and counted.
const fn twin_at(program: &'static str, tracepoint: &'static str) -> Part {
    Part {
        program,
        hook: Hook::Tracepoint(tracepoint),
        optional: true,
    }
}

const EXEC: Rung = Rung {
    program: "process_exec",
    hook: Hook::Tracepoint("sched_process_exec"),
    also: &[
        twin_at("process_exec_second", "sched_process_exec"),
        twin_at("process_exec_third", "sched_process_exec"),
    ],
    blind_spot: "an exec that fails",
};
const FORK: Rung = Rung {
    program: "process_fork",
    hook: Hook::Tracepoint("sched_process_fork"),
    also: &[
        twin_at("process_fork_second", "sched_process_fork"),
        twin_at("process_fork_third", "sched_process_fork"),
    ],
    blind_spot: "new threads of a process",
};
const EXIT: Rung = Rung {
    program: "process_exit",
    hook: Hook::Tracepoint("sched_process_exit"),
    also: &[
        twin_at("process_exit_second", "sched_process_exit"),
        twin_at("process_exit_third", "sched_process_exit"),
    ],
    blind_spot: "",
};
const ACCEPT: Rung = Rung {
    program: "tcp_accept",
    hook: Hook::FunctionExit("inet_csk_accept"),
    also: &[],
    blind_spot: "",
};

const fn tcp_state(blind_spot: &'static str) -> Rung {
    Rung {
        program: "tcp_state",
        hook: Hook::Tracepoint("inet_sock_set_state"),
        also: &[],
        blind_spot,
    }
}

const URING_BLIND: &str = "what a request is done to, except by the signals that see the operation itself";
/// The name since 6.4.
const URING: Rung = Rung {
    program: "uring_submit_req",
    hook: Hook::Tracepoint("io_uring_submit_req"),
    also: &[],
    blind_spot: URING_BLIND,
};
const URING_BEFORE: Rung = Rung {
    program: "uring_submit_sqe",
    hook: Hook::Tracepoint("io_uring_submit_sqe"),
    also: &[],
    blind_spot: URING_BLIND,
};

/// System calls, at their return.
const CALL: Rung = Rung {
    program: "call_exit",
    hook: Hook::Tracepoint("sys_exit"),
    also: &[],
    blind_spot: "calls of 32-bit programs, and what is asked for through io_uring",
};
/// The same, where the path is read from the process after the kernel did.
const CALL_BY_TEXT: Rung = Rung {
    blind_spot: "calls of 32-bit programs, what is asked for through io_uring, and a path that another thread changes during the call",
    ..CALL
};

/// Credentials as they were, before the kernel replaces them.
const CREDENTIAL_COMMIT: Rung = Rung {
    program: "credential_commit",
    hook: Hook::FunctionEntry("commit_creds"),
    also: CREDENTIAL_PARTS,
    blind_spot: "credentials that are forged and given back between two looks, and those of a task that began before the agent, until the first look",
};
const CREDENTIAL_CALL: Rung = Rung {
    also: CREDENTIAL_PARTS,
    blind_spot: "that credentials were forged before a call set them, if the call was allowed to; those that are forged and given back between two looks; and those of a task that began before the agent, until the first look",
    ..CALL
};

const fn credentials_at(program: &'static str, tracepoint: &'static str) -> Part {
    Part {
        program,
        hook: Hook::Tracepoint(tracepoint),
        optional: false,
    }
}

const MODULE_LOAD: Rung = Rung {
    program: "module_load",
    hook: Hook::Tracepoint("module_load"),
    also: &[],
    blind_spot: "code that gets into the kernel in another way than as a module",
};
const PROCESS_SIGNAL: Rung = Rung {
    program: "process_signal",
    hook: Hook::Tracepoint("signal_generate"),
    also: &[],
    blind_spot: "a signal to a protected process that the agent has not yet heard of",
};
const SYSCTL: Rung = Rung {
    program: "sysctl_write",
    hook: Hook::Cgroup(Cgroup::Sysctl),
    also: &[],
    blind_spot: "whether the write was refused, and what changes a parameter by another way than /proc/sys",
};
const SYSCTL_OPENED: Rung = Rung {
    blind_spot: "what was written, and when: a parameter counts when it is opened for writing",
    ..CALL
};
const TRACING: Rung = Rung {
    blind_spot: "what was written: a file of tracefs counts when it is opened for writing; probes that a kernel module makes",
    ..CALL
};
const LOCKDOWN: Rung = Rung {
    blind_spot: "what a locked down kernel forbids, when it is asked for; what was written: the file counts when it is opened for writing; the kernel's own command line",
    ..CALL
};
const HOST_RECORDS: Rung = Rung {
    program: "",
    hook: Hook::HostRecords,
    also: &[],
    blind_spot: "what no program records: a login without PAM and utmp, a failure that is only in a log of its own",
};
/// Whichever rung it is, credentials are compared here.
const CREDENTIAL_PARTS: &[Part] = &[
    credentials_at("credential_fork", "sched_process_fork"),
    credentials_at("credential_exec", "sched_process_exec"),
    twin_at("credential_exec_second", "sched_process_exec"),
    twin_at("credential_exec_third", "sched_process_exec"),
    credentials_at("credential_exit", "sched_process_exit"),
    credentials_at(CALL.program, "sys_exit"),
];

/// Orders of system calls, by the same program.
const SEQUENCE: Rung = Rung {
    blind_spot: "calls of 32-bit programs and what is asked for through io_uring; a process that was moved to another cgroup counts to the former one until it executes a program",
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
        Signal::FileOpen => &[lsm::FILE_OPEN, CALL],
        Signal::FileCreate => &[lsm::FILE_CREATE, CALL_BY_TEXT],
        Signal::FileRename => &[lsm::FILE_RENAME, CALL_BY_TEXT],
        Signal::FileUnlink => &[lsm::FILE_UNLINK, CALL_BY_TEXT],
        Signal::FileLink => &[lsm::FILE_LINK, CALL_BY_TEXT],
        Signal::FileTruncate => &[lsm::FILE_TRUNCATE, CALL_BY_TEXT],
        Signal::FileChmod => &[lsm::FILE_CHMOD, CALL_BY_TEXT],
        Signal::FileChown => &[lsm::FILE_CHOWN, CALL_BY_TEXT],
        Signal::FileXattr => &[lsm::FILE_XATTR, CALL_BY_TEXT],
        Signal::FileFlags => &[lsm::FILE_FLAGS, CALL],
        Signal::Ptrace => &[lsm::PTRACE, CALL],
        Signal::ExecMemory => &[lsm::EXEC_MEMORY, CALL],
        Signal::Namespace => &[lsm::NAMESPACE, CALL],
        Signal::Mount => &[lsm::MOUNT, CALL_BY_TEXT],
        Signal::RootChange => &[lsm::ROOT_CHANGE, CALL_BY_TEXT],
        Signal::Module => &[lsm::MODULE, MODULE_LOAD, CALL],
        Signal::Bpf => &[lsm::BPF, CALL],
        Signal::Kexec => &[lsm::KEXEC, CALL],
        Signal::RawSocket => &[lsm::RAW_SOCKET, CALL],
        Signal::Setsid | Signal::ProcessWrite | Signal::Memfd | Signal::Keyctl | Signal::Userfaultfd => {
            &[CALL]
        }
        Signal::IoUring => &[URING, URING_BEFORE],
        Signal::FlowReport => network::FLOW_REPORT,
        Signal::TlsHello => network::TLS_HELLO,
        Signal::Bind => network::BIND,
        Signal::UdpFlow => network::UDP_FLOW,
        Signal::Dns => network::DNS,
        Signal::Credential => &[CREDENTIAL_COMMIT, CREDENTIAL_CALL],
        Signal::ProcessSignal => &[PROCESS_SIGNAL],
        Signal::Sysctl => &[SYSCTL, SYSCTL_OPENED],
        Signal::Tracing => &[lsm::TRACING, TRACING],
        Signal::Lockdown => &[lsm::LOCKDOWN, LOCKDOWN],
        Signal::Login | Signal::Logout | Signal::Elevation | Signal::AuthFailure => &[HOST_RECORDS],
        Signal::Sequence => &[SEQUENCE],
    }
}

impl Hook {
    /// What stands for the hook in the kernel's type information, where it is found by that.
    #[must_use]
    pub fn btf_name(self) -> Option<(Kind, String)> {
        match self {
            Self::Lsm(name) => Some((Kind::Func, format!("bpf_lsm_{name}"))),
            Self::Tracepoint(name) => Some((Kind::Typedef, format!("btf_trace_{name}"))),
            Self::FunctionEntry(name) | Self::FunctionExit(name) => Some((Kind::Func, name.to_owned())),
            Self::Iterator(name) => Some((Kind::Func, format!("bpf_iter_{name}"))),
            Self::Cgroup(_) | Self::HostRecords => None,
        }
    }

    /// What kind of hook it is.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::Lsm(_) => Level::Lsm,
            Self::FunctionEntry(_) | Self::FunctionExit(_) => Level::Fexit,
            hook if hook == CALL.hook => Level::Syscall,
            Self::Tracepoint(_) | Self::Iterator(_) | Self::Cgroup(_) | Self::HostRecords => {
                Level::Tracepoint
            }
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lsm(name) => write!(f, "lsm/{name}"),
            Self::Tracepoint(name) => write!(f, "tp_btf/{name}"),
            Self::HostRecords => f.write_str("audit, wtmp, btmp, exec"),
            Self::Cgroup(Cgroup::Sysctl) => f.write_str("cgroup/sysctl"),
            Self::FunctionEntry(name) => write!(f, "fentry/{name}"),
            Self::FunctionExit(name) => write!(f, "fexit/{name}"),
            Self::Iterator(name) => write!(f, "iter/{name}"),
            Self::Cgroup(Cgroup::PostBind4) => f.write_str("cgroup/post_bind4"),
            Self::Cgroup(Cgroup::PostBind6) => f.write_str("cgroup/post_bind6"),
            Self::Cgroup(Cgroup::Egress) => f.write_str("cgroup_skb/egress"),
            Self::Cgroup(Cgroup::Ingress) => f.write_str("cgroup_skb/ingress"),
        }
    }
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.hook)?;
        for part in self.also {
            let hook = part.hook.to_string();
            write!(f, "+{}", hook.split_once('/').map_or("", |(_, name)| name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_rung_comes_first() {
        for signal in Signal::ALL {
            let levels: Vec<Level> = rungs(signal).iter().map(|rung| rung.hook.level()).collect();
            assert!(
                levels.is_sorted_by(|a, b| a >= b),
                "{}: {levels:?}",
                signal.name()
            );
        }
    }

    #[test]
    fn a_program_has_one_hook() {
        let parts: Vec<Part> = Signal::ALL
            .into_iter()
            .flat_map(rungs)
            .flat_map(Rung::parts)
            .collect();
        for part in &parts {
            let others = parts.iter().filter(|other| other.program == part.program);
            assert!(
                others.clone().all(|other| other.hook == part.hook),
                "{}",
                part.program
            );
        }
    }
}
