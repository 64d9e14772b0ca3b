//! What can be reported, and how urgent it is.

/// Which ring a signal travels on. A flood on one class cannot delay or lose the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Class {
    /// Process, credential, kernel and response events.
    Critical = 0,
    /// File, flow and syscall events.
    Bulk = 1,
}

impl Class {
    /// How many classes there are.
    pub const COUNT: usize = 2;
}

macro_rules! signals {
    ($($(#[$doc:meta])+ $variant:ident = $number:literal, $name:literal, $class:ident $($wakes:ident)?;)+) => {
        /// One kind of thing that the kernel programs report. The number is the wire's and the maps' index.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Signal {
            $($(#[$doc])+ $variant = $number,)+
        }

        impl Signal {
            /// Every signal, in the order of its number.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant,)+];

            /// How many signals there are: the length of every per-signal table.
            pub const COUNT: usize = [$($number,)+].len();

            /// The name that people, filters, metrics and the wire use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The ring class it travels on.
            #[must_use]
            #[inline(always)]
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$variant => Class::$class,)+
                }
            }

            /// Whether the agent is woken at once, because a response may hang on it. What does not wake it waits for a
            /// record that does, for the watermark, or for the agent's own look, some milliseconds later.
            #[must_use]
            #[inline(always)]
            pub const fn wakes(self) -> bool {
                match self {
                    $(Self::$variant => signals!(@wakes $($wakes)?),)+
                }
            }
        }
    };
    (@wakes wakes) => { true };
    (@wakes) => { false };
}

signals! {
    /// A process replaced its program.
    Exec = 0, "exec", Critical wakes;
    /// A process was created (threads are not reported).
    Fork = 1, "fork", Critical;
    /// The last thread of a process ended.
    Exit = 2, "exit", Critical;
    /// A TCP connection was attempted.
    Connect = 3, "connect", Bulk;
    /// A TCP connection was accepted.
    Accept = 4, "accept", Bulk;
    /// A TCP socket began to listen.
    Listen = 5, "listen", Bulk;
    /// A TCP connection ended, with what it carried.
    FlowClose = 6, "flow_close", Bulk;
    /// A file was opened for writing, or a watched one for reading.
    FileOpen = 7, "file_open", Bulk;
    /// A file, directory, link target or device node came into being.
    FileCreate = 8, "file_create", Bulk;
    /// A file or directory got another name.
    FileRename = 9, "file_rename", Bulk;
    /// A name of a file, or a directory, was removed.
    FileUnlink = 10, "file_unlink", Bulk;
    /// A file got a further name, or a symbolic link was made to one.
    FileLink = 11, "file_link", Bulk;
    /// A file was cut to a length.
    FileTruncate = 12, "file_truncate", Bulk;
    /// Permissions of a file were changed.
    FileChmod = 13, "file_chmod", Bulk;
    /// Owner or group of a file was changed.
    FileChown = 14, "file_chown", Bulk;
    /// An extended attribute of a file was set or removed: capabilities, access lists, labels.
    FileXattr = 15, "file_xattr", Bulk;
    /// Flags of a file were changed, as the immutable one.
    FileFlags = 16, "file_flags", Bulk;
    /// A process began a session of its own, away from its terminal.
    Setsid = 17, "setsid", Critical;
    /// A process attached to another, or wrote to it, as a debugger does.
    Ptrace = 18, "ptrace", Critical wakes;
    /// A process wrote into the memory of another.
    ProcessWrite = 19, "process_write", Critical wakes;
    /// An anonymous memory file was made.
    Memfd = 20, "memfd", Critical;
    /// Memory that may be executed was mapped without a file, or made executable.
    ExecMemory = 21, "exec_memory", Bulk;
    /// A process left its namespaces for new or other ones.
    Namespace = 22, "namespace", Critical wakes;
    /// A file system was mounted, moved or unmounted.
    Mount = 23, "mount", Critical wakes;
    /// The root directory was changed: `chroot`, `pivot_root`.
    RootChange = 24, "root_change", Critical wakes;
    /// A key of the kernel's key service was used in another way than to read it.
    Keyctl = 25, "keyctl", Critical;
    /// Page faults of a process are handled by itself, as exploits of the kernel like it.
    Userfaultfd = 26, "userfaultfd", Critical;
    /// Code was loaded into the kernel.
    Module = 27, "module", Critical wakes;
    /// A BPF program was loaded or attached.
    Bpf = 28, "bpf", Critical wakes;
    /// Another kernel was loaded, to be started without a reboot.
    Kexec = 29, "kexec", Critical wakes;
    /// A socket was made that sees or makes whole packets.
    RawSocket = 30, "raw_socket", Critical;
    /// A process got other credentials, and how.
    Credential = 31, "credential", Critical wakes;
    /// A signal was sent to a process that is protected.
    ProcessSignal = 32, "process_signal", Critical wakes;
    /// A parameter of the kernel was changed.
    Sysctl = 33, "sysctl", Critical wakes;
    /// The kernel's own tracing was changed: kprobes, function tracing.
    Tracing = 34, "tracing", Critical wakes;
    /// The kernel was locked down against its own administrator, or asked for what that forbids.
    Lockdown = 35, "lockdown", Critical wakes;
    /// Something was asked for through io_uring.
    IoUring = 36, "io_uring", Bulk;
    /// A socket got a local address.
    Bind = 37, "bind", Bulk;
    /// Datagrams between two ends, counted until they pause.
    UdpFlow = 38, "udp_flow", Bulk;
    /// A question to the domain name system, or its answer.
    Dns = 39, "dns", Bulk;
    /// A TLS client said which server it means.
    TlsHello = 40, "tls_hello", Bulk;
    /// What a long-lived TCP connection has carried so far.
    FlowReport = 41, "flow_report", Bulk;
    /// Somebody logged in.
    Login = 42, "login", Critical wakes;
    /// A login session ended.
    Logout = 43, "logout", Critical;
    /// Somebody became another user, by `sudo` or `su`.
    Elevation = 44, "elevation", Critical wakes;
    /// Somebody failed to prove who they are.
    AuthFailure = 45, "auth_failure", Critical wakes;
    /// A workload made system calls in an order that is new to it.
    Sequence = 46, "sequence", Bulk;
}

/// Bit *n* set: signal number *n* travels on the bulk ring. For programs that take the number from a table.
pub const BULK: u64 = {
    let (mut bits, mut index) = (0, 0);
    while index < Signal::COUNT {
        if matches!(Signal::ALL[index].class(), Class::Bulk) {
            bits |= 1 << index;
        }
        index += 1;
    }
    bits
};

/// Bit *n* set: signal number *n* wakes the agent at once.
pub const WAKING: u64 = {
    let (mut bits, mut index) = (0, 0);
    while index < Signal::COUNT {
        if Signal::ALL[index].wakes() {
            bits |= 1 << index;
        }
        index += 1;
    }
    bits
};

impl Signal {
    /// The signal of this number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_table_agree() {
        for (index, signal) in Signal::ALL.into_iter().enumerate() {
            assert_eq!(signal as usize, index);
            assert_eq!(Signal::from_number(signal as u16), Some(signal));
        }
        assert_eq!(Signal::from_number(Signal::COUNT as u16), None);
    }

    #[test]
    fn names_are_unique() {
        for signal in Signal::ALL {
            assert_eq!(
                Signal::ALL
                    .iter()
                    .filter(|other| other.name() == signal.name())
                    .count(),
                1
            );
        }
    }
}
