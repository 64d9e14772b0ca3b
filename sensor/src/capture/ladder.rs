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

/// The ways to report a signal, the best first.
#[derive(Clone, Copy, Debug)]
pub struct Ladder {
    /// What is reported.
    pub signal: Signal,
    /// How.
    pub rungs: &'static [Rung],
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

/// Every signal's ladder.
pub const LADDERS: [Ladder; Signal::COUNT] = [
    Ladder {
        signal: Signal::Exec,
        rungs: &[EXEC],
    },
    Ladder {
        signal: Signal::Fork,
        rungs: &[FORK],
    },
    Ladder {
        signal: Signal::Exit,
        rungs: &[EXIT],
    },
    Ladder {
        signal: Signal::Connect,
        rungs: &[tcp_state("the local port, until the connection ends")],
    },
    Ladder {
        signal: Signal::Accept,
        rungs: &[
            ACCEPT,
            tcp_state(
                "which of the processes that share a listening socket accepted, until it closes the connection",
            ),
        ],
    },
    Ladder {
        signal: Signal::Listen,
        rungs: &[tcp_state("")],
    },
    Ladder {
        signal: Signal::FlowClose,
        rungs: &[tcp_state(
            "the owner of a connection that began before the agent, if the other end closes it",
        )],
    },
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_its_ladder() {
        for (ladder, signal) in LADDERS.iter().zip(Signal::ALL) {
            assert_eq!(ladder.signal, signal);
            assert!(!ladder.rungs.is_empty());
        }
    }
}
