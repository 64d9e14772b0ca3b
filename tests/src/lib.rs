//! End-to-end tests of Sensor on a real kernel: what they have in common.
//!
//! The programs under test run as real processes. The tests watch them from outside, through the same gRPC services
//! that users have; nothing here links the agent or the collector. Only the cases of `enforce` call
//! the agent's library themselves.

pub mod agent;
pub mod bpf;
pub mod cgroup;
pub mod client;
pub mod collector;
pub mod command;
pub mod daemon;
pub mod helper;
pub mod history;
pub mod numbers;
pub mod patience;
pub mod scenario;
pub mod stack;
pub mod status;
pub mod stream;
pub mod tiny;
pub mod wire;

/// What the kernel programs report, by the names that users are promised.
pub const SIGNALS: &[&str] = &[
    "exec",
    "fork",
    "exit",
    "connect",
    "accept",
    "listen",
    "flow_close",
    "file_open",
    "file_create",
    "file_rename",
    "file_unlink",
    "file_link",
    "file_truncate",
    "file_chmod",
    "file_chown",
    "file_xattr",
    "file_flags",
    "setsid",
    "ptrace",
    "process_write",
    "memfd",
    "exec_memory",
    "namespace",
    "mount",
    "root_change",
    "keyctl",
    "userfaultfd",
    "module",
    "bpf",
    "kexec",
    "raw_socket",
    "bind",
    "udp_flow",
    "dns",
    "tls_hello",
    "flow_report",
    "credential",
    "process_signal",
    "sysctl",
    "tracing",
    "lockdown",
    "login",
    "logout",
    "elevation",
    "auth_failure",
    "sequence",
    "io_uring",
];
