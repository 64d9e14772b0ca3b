//! The classes that are used, and which of our signals is which.

use sensor_proto::v1::event;

/// A class of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Base,
    FileSystem,
    KernelExtension,
    Kernel,
    Memory,
    Process,
    DetectionFinding,
    Authentication,
    Network,
    Dns,
    Remediation,
}

impl Class {
    pub(super) fn uid(self) -> u64 {
        match self {
            Self::Base => 0,
            Self::FileSystem => 1001,
            Self::KernelExtension => 1002,
            Self::Kernel => 1003,
            Self::Memory => 1004,
            Self::Process => 1007,
            Self::DetectionFinding => 2004,
            Self::Authentication => 3002,
            Self::Network => 4001,
            Self::Dns => 4003,
            Self::Remediation => 7001,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Base => "Base Event",
            Self::FileSystem => "File System Activity",
            Self::KernelExtension => "Kernel Extension Activity",
            Self::Kernel => "Kernel Activity",
            Self::Memory => "Memory Activity",
            Self::Process => "Process Activity",
            Self::DetectionFinding => "Detection Finding",
            Self::Authentication => "Authentication",
            Self::Network => "Network Activity",
            Self::Dns => "DNS Activity",
            Self::Remediation => "Remediation Activity",
        }
    }

    pub(super) fn category(self) -> u64 {
        self.uid() / 1000
    }

    pub(super) fn category_name(self) -> &'static str {
        match self.category() {
            1 => "System Activity",
            2 => "Findings",
            3 => "Identity & Access Management",
            4 => "Network Activity",
            7 => "Remediation",
            _ => "Uncategorized",
        }
    }

    /// Whether the schema asks for who did it.
    pub(super) fn has_actor(self) -> bool {
        self.category() == 1
    }

    /// What the schema calls an activity.
    pub(super) fn activity(self, id: u64) -> &'static str {
        let names: &[(u64, &str)] = match self {
            Self::Base => &[],
            Self::FileSystem => &[
                (1, "Create"),
                (3, "Update"),
                (4, "Delete"),
                (5, "Rename"),
                (6, "Set Attributes"),
                (7, "Set Security"),
                (12, "Mount"),
                (13, "Unmount"),
                (14, "Open"),
            ],
            Self::KernelExtension => &[(1, "Load"), (2, "Unload")],
            Self::Kernel => &[(4, "Invoke")],
            Self::Memory => &[(1, "Allocate Page"), (9, "Map View")],
            Self::Process => &[
                (1, "Launch"),
                (2, "Terminate"),
                (3, "Open"),
                (4, "Inject"),
                (5, "Set User ID"),
            ],
            Self::DetectionFinding => &[(1, "Create"), (2, "Update"), (3, "Close")],
            Self::Authentication => &[(1, "Logon"), (2, "Logoff")],
            Self::Network => &[
                (1, "Open"),
                (2, "Close"),
                (4, "Fail"),
                (6, "Traffic"),
                (7, "Listen"),
            ],
            Self::Dns => &[(1, "Query"), (2, "Response")],
            Self::Remediation => &[
                (1, "Isolate"),
                (2, "Evict"),
                (3, "Restore"),
                (4, "Harden"),
                (5, "Detect"),
            ],
        };
        names
            .iter()
            .find(|(known, _)| *known == id)
            .map_or("Unknown", |(_, name)| name)
    }
}

/// The class and activity of a signal; where the activity is 99, its name.
pub(super) fn of_signal(name: &str, body: Option<&event::Body>) -> (Class, u64, &'static str) {
    use Class::*;
    match name {
        "exec" | "fork" => (Process, 1, ""),
        "exit" => (Process, 2, ""),
        "ptrace" => (Process, 3, ""),
        "process_write" => (Process, 4, ""),
        "credential" => (Process, 5, ""),
        "setsid" => (Process, 99, "Set Session"),
        "namespace" => (Process, 99, "Set Namespace"),
        "process_signal" => (Process, 99, "Signal"),
        "memfd" => (Memory, 1, ""),
        "exec_memory" => (Memory, 9, ""),
        "userfaultfd" => (Memory, 99, "Handle Faults"),
        "file_open" => (FileSystem, 14, ""),
        "file_create" | "file_link" => (FileSystem, 1, ""),
        "file_truncate" => (FileSystem, 3, ""),
        "file_unlink" => (FileSystem, 4, ""),
        "file_rename" => (FileSystem, 5, ""),
        "file_xattr" | "file_flags" => (FileSystem, 6, ""),
        "file_chmod" | "file_chown" => (FileSystem, 7, ""),
        "mount" if is_unmount(body) => (FileSystem, 13, ""),
        "mount" => (FileSystem, 12, ""),
        "root_change" => (FileSystem, 99, "Change Root"),
        "module" => (KernelExtension, 1, ""),
        "connect" | "accept" => (Network, 1, ""),
        "flow_close" if is_failed(body) => (Network, 4, ""),
        "flow_close" => (Network, 2, ""),
        "flow_report" | "udp_flow" | "tls_hello" => (Network, 6, ""),
        "listen" => (Network, 7, ""),
        "bind" => (Network, 99, "Bind"),
        "dns" if is_answer(body) => (Dns, 2, ""),
        "dns" => (Dns, 1, ""),
        "login" | "auth_failure" => (Authentication, 1, ""),
        "logout" => (Authentication, 2, ""),
        "elevation" => (Authentication, 99, "Elevation"),
        // What is asked of the kernel itself: `bpf`, `kexec`, `sysctl`, `keyctl`, `raw_socket`, `sequence` and others.
        _ => (Kernel, 4, ""),
    }
}

fn is_unmount(body: Option<&event::Body>) -> bool {
    matches!(body, Some(event::Body::Operation(operation)) if operation.call.starts_with("umount"))
}

fn is_failed(body: Option<&event::Body>) -> bool {
    matches!(body, Some(event::Body::FlowClose(flow)) if !flow.established)
}

fn is_answer(body: Option<&event::Body>) -> bool {
    matches!(body, Some(event::Body::Dns(dns)) if dns.answer)
}
