//! What an entry is about. The lake has a folder for each class, so that a question about processes does not read files.

use sensor_proto::SIGNAL_NAMES;

/// A class of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Programs that start and end.
    Process,
    /// Changes of who a process is.
    Credential,
    /// What attackers do to processes, memory and namespaces.
    Intrusion,
    /// Changes of the kernel itself.
    Kernel,
    /// Files.
    File,
    /// Connections, datagrams, names.
    Network,
    /// People who come and go.
    Session,
    /// Orders of system calls.
    Syscall,
    /// What a model or a rule says of an event.
    Finding,
    /// Findings that belong together.
    Incident,
    /// What was done about it.
    Response,
    /// What was lost.
    Loss,
    /// What this version does not know.
    Other,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Process,
        Self::Credential,
        Self::Intrusion,
        Self::Kernel,
        Self::File,
        Self::Network,
        Self::Session,
        Self::Syscall,
        Self::Finding,
        Self::Incident,
        Self::Response,
        Self::Loss,
        Self::Other,
    ];

    /// Its name in paths, queries and expressions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Credential => "credential",
            Self::Intrusion => "intrusion",
            Self::Kernel => "kernel",
            Self::File => "file",
            Self::Network => "network",
            Self::Session => "session",
            Self::Syscall => "syscall",
            Self::Finding => "finding",
            Self::Incident => "incident",
            Self::Response => "response",
            Self::Loss => "loss",
            Self::Other => "other",
        }
    }

    /// The class with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// The class of entries whose signal has this name, as [`sensor_proto::signal_name`] gives it.
    #[must_use]
    pub fn of(signal: &str) -> Self {
        match signal {
            "exec" | "fork" | "exit" | "setsid" => Self::Process,
            "credential" => Self::Credential,
            "ptrace" | "process_write" | "memfd" | "exec_memory" | "namespace" | "mount" | "root_change"
            | "keyctl" | "userfaultfd" | "io_uring" | "process_signal" => Self::Intrusion,
            "module" | "bpf" | "kexec" | "sysctl" | "tracing" | "lockdown" => Self::Kernel,
            "file_open" | "file_create" | "file_rename" | "file_unlink" | "file_link" | "file_truncate"
            | "file_chmod" | "file_chown" | "file_xattr" | "file_flags" => Self::File,
            "connect" | "accept" | "listen" | "bind" | "flow_close" | "flow_report" | "udp_flow" | "dns"
            | "tls_hello" | "raw_socket" => Self::Network,
            "login" | "logout" | "elevation" | "auth_failure" => Self::Session,
            "sequence" => Self::Syscall,
            "signal" => Self::Finding,
            "incident" => Self::Incident,
            "outcome" => Self::Response,
            "loss" => Self::Loss,
            _ => Self::Other,
        }
    }

    /// The signals of this class.
    pub fn signals(self) -> impl Iterator<Item = &'static str> {
        SIGNAL_NAMES
            .iter()
            .copied()
            .filter(move |name| Self::of(name) == self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_a_class_and_every_class_its_name() {
        for name in SIGNAL_NAMES {
            assert_ne!(Class::of(name), Class::Other, "{name}");
        }
        for class in Class::ALL {
            assert_eq!(Class::named(class.name()), Some(class));
        }
    }
}
