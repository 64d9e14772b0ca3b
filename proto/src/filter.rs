//! Which entries a reader wants.

use crate::v1::{Entry, Event, Filter, Process, SubscribeRequest, entry, event};

/// Every name that [`Filter::signals`] may hold, as [`signal_name`] gives them.
pub const SIGNAL_NAMES: &[&str] = &[
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
    "credential",
    "process_signal",
    "sysctl",
    "tracing",
    "lockdown",
    "io_uring",
    "bind",
    "udp_flow",
    "dns",
    "tls_hello",
    "flow_report",
    "login",
    "logout",
    "elevation",
    "auth_failure",
    "sequence",
    "signal",
    "incident",
    "outcome",
    "loss",
];

/// Most patterns that one list of a filter may hold.
pub const PATTERNS_MAX: usize = 256;

/// Longest pattern in bytes: the longest path that Linux knows, and a `*`.
pub const PATTERN_BYTES_MAX: usize = 4097;

/// Why a filter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No entry can ever have this signal name.
    #[error("no signal is called \"{name}\"; there are {}", SIGNAL_NAMES.join(", "))]
    UnknownSignal {
        /// What was asked for, escaped and cut.
        name: String,
    },
    /// More patterns than [`PATTERNS_MAX`].
    #[error(
        "the filter's list of {list} has {count} patterns, more than {PATTERNS_MAX}; use prefixes ending in \"*\""
    )]
    TooMany {
        /// Which list.
        list: &'static str,
        /// How many it has.
        count: usize,
    },
    /// A pattern longer than [`PATTERN_BYTES_MAX`].
    #[error("a pattern in the filter's list of {list} has {length} bytes, more than {PATTERN_BYTES_MAX}")]
    TooLong {
        /// Which list.
        list: &'static str,
        /// How long it is.
        length: usize,
    },
    /// An empty pattern matches nothing, which nobody means.
    #[error("a pattern in the filter's list of {list} is empty; leave it out to pass everything")]
    Empty {
        /// Which list.
        list: &'static str,
    },
}

/// Name of what an entry carries, as filters call it; empty for what this version does not know.
#[must_use]
pub fn signal_name(entry: &Entry) -> &'static str {
    match &entry.body {
        Some(entry::Body::Event(event)) => event_name(event),
        Some(entry::Body::Signal(_)) => "signal",
        Some(entry::Body::Incident(_)) => "incident",
        Some(entry::Body::Outcome(_)) => "outcome",
        Some(entry::Body::Loss(_)) => "loss",
        None => "",
    }
}

/// Name of what an event reports, as filters call it; empty for what this version does not know.
#[must_use]
pub fn event_name(event: &Event) -> &'static str {
    match &event.body {
        Some(event::Body::Exec(_)) => "exec",
        Some(event::Body::Fork(_)) => "fork",
        Some(event::Body::Exit(_)) => "exit",
        Some(event::Body::Connect(_)) => "connect",
        Some(event::Body::Accept(_)) => "accept",
        Some(event::Body::Listen(_)) => "listen",
        Some(event::Body::FlowClose(_)) => "flow_close",
        Some(event::Body::FlowReport(_)) => "flow_report",
        Some(event::Body::TlsHello(_)) => "tls_hello",
        Some(event::Body::Bind(_)) => "bind",
        Some(event::Body::UdpFlow(_)) => "udp_flow",
        Some(event::Body::Dns(_)) => "dns",
        Some(event::Body::Credential(_)) => "credential",
        Some(event::Body::Session(session)) => known_name(&session.signal),
        Some(event::Body::Operation(operation)) => known_name(&operation.signal),
        Some(event::Body::Sequence(_)) => "sequence",
        None => "",
    }
}

fn known_name(name: &str) -> &'static str {
    let known = SIGNAL_NAMES.iter().find(|known| **known == name);
    known.copied().unwrap_or_default()
}

impl SubscribeRequest {
    /// The filter of a request for what comes from now on, found valid; an empty one where there is none.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with what is wrong with it, or if it asks for what only a collector has.
    pub fn into_filter(self) -> Result<Filter, tonic::Status> {
        if self.after.is_some() || !self.expression.is_empty() {
            return Err(tonic::Status::invalid_argument(
                "positions and expressions are for collectors; ask one, or leave them out",
            ));
        }
        let filter = self.filter.unwrap_or_default();
        match filter.validate() {
            Ok(()) => Ok(filter),
            Err(error) => Err(tonic::Status::invalid_argument(error.to_string())),
        }
    }
}

impl Filter {
    /// Refuses a filter that cannot mean what its writer wanted, or that is too large to be applied.
    ///
    /// # Errors
    /// If a signal name is unknown, a pattern is empty or too long, or a list has too many.
    pub fn validate(&self) -> Result<(), FilterError> {
        let lists = [
            ("signals", &self.signals),
            ("processes", &self.processes),
            ("cgroups", &self.cgroups),
            ("users", &self.users),
            ("hosts", &self.hosts),
        ];
        for (list, patterns) in lists {
            check_list(list, patterns)?;
        }
        match self
            .signals
            .iter()
            .find(|name| !SIGNAL_NAMES.contains(&name.as_str()))
        {
            Some(name) => Err(FilterError::UnknownSignal {
                name: name.escape_debug().take(64).collect(),
            }),
            None => Ok(()),
        }
    }

    /// Whether an entry called `name` (see [`signal_name`]) can pass: what can be told before it is converted.
    #[must_use]
    pub fn may_pass(&self, name: &str) -> bool {
        self.signals.is_empty() || name == "loss" || self.signals.iter().any(|signal| signal == name)
    }

    /// Whether [`may_pass`](Self::may_pass) is all there is to it.
    #[must_use]
    pub fn is_by_name(&self) -> bool {
        let Self {
            signals: _,
            processes,
            cgroups,
            users,
            hosts,
        } = self;
        [processes, cgroups, users, hosts]
            .iter()
            .all(|patterns| patterns.is_empty())
    }

    /// Whether `entry` is to be passed on.
    ///
    /// What is not known matches no pattern: an event without a process passes no filter for processes,
    /// and an outcome, which names its target by id only, none for cgroups or users. Of losses only
    /// those of other hosts are left out.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        if !self.may_pass(signal_name(entry)) || !listed(&self.hosts, |host| *host == entry.host) {
            return false;
        }
        match &entry.body {
            Some(entry::Body::Loss(_)) => true,
            Some(entry::Body::Event(event)) => self.passes(event.process.as_ref()),
            Some(entry::Body::Signal(signal)) => {
                self.passes(signal.event.as_ref().and_then(|event| event.process.as_ref()))
            }
            Some(entry::Body::Incident(incident)) => self.passes(incident.process.as_ref()),
            Some(entry::Body::Outcome(outcome)) => {
                let target = outcome.action.as_ref().and_then(|action| action.target);
                self.cgroups.is_empty()
                    && self.users.is_empty()
                    && listed(&self.processes, |pattern| {
                        target.is_some_and(|id| is_number(pattern, id.tgid))
                    })
            }
            None => self.passes(None),
        }
    }

    fn passes(&self, process: Option<&Process>) -> bool {
        let known = |test: &dyn Fn(&Process) -> bool| process.is_some_and(test);
        listed(&self.processes, |pattern| {
            known(&|process| is_process(pattern, process))
        }) && listed(&self.cgroups, |pattern| {
            known(&|process| fits(pattern, &process.cgroup))
        }) && listed(&self.users, |pattern| known(&|process| is_user(pattern, process)))
    }
}

fn check_list(list: &'static str, patterns: &[String]) -> Result<(), FilterError> {
    if patterns.len() > PATTERNS_MAX {
        return Err(FilterError::TooMany {
            list,
            count: patterns.len(),
        });
    }
    for pattern in patterns {
        match pattern.len() {
            0 => return Err(FilterError::Empty { list }),
            1..=PATTERN_BYTES_MAX => {}
            length => return Err(FilterError::TooLong { list, length }),
        }
    }
    Ok(())
}

/// An empty list lets everything through.
fn listed(patterns: &[String], test: impl FnMut(&String) -> bool) -> bool {
    patterns.is_empty() || patterns.iter().any(test)
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => pattern == text,
    }
}

fn is_number(pattern: &str, number: u32) -> bool {
    pattern.parse() == Ok(number)
}

fn is_process(pattern: &str, process: &Process) -> bool {
    fits(pattern, &process.executable)
        || pattern == process.comm
        || process.id.is_some_and(|id| is_number(pattern, id.tgid))
}

fn is_user(pattern: &str, process: &Process) -> bool {
    (!process.user.is_empty() && pattern == process.user)
        || is_number(pattern, process.uid)
        || is_number(pattern, process.euid)
        || process.login_uid.is_some_and(|uid| is_number(pattern, uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Action, Exec, Exit, Incident, Loss, Outcome, ProcessId, Signal};

    fn process() -> Process {
        Process {
            id: Some(ProcessId {
                tgid: 42,
                start_time_ns: 7,
            }),
            executable: "/usr/sbin/nginx".into(),
            comm: "worker".into(),
            uid: 33,
            euid: 0,
            user: "www-data".into(),
            login_uid: Some(1000),
            cgroup: "/system.slice/nginx.service".into(),
            ..Process::default()
        }
    }

    fn exec() -> Event {
        Event {
            process: Some(process()),
            body: Some(event::Body::Exec(Exec::default())),
            ..Event::default()
        }
    }

    fn entry(body: entry::Body) -> Entry {
        Entry {
            host: "web1".into(),
            body: Some(body),
        }
    }

    fn entries() -> Vec<Entry> {
        let ownerless = Event {
            body: Some(event::Body::Exit(Exit::default())),
            ..Event::default()
        };
        let target = Some(ProcessId {
            tgid: 42,
            start_time_ns: 7,
        });
        vec![
            entry(entry::Body::Event(exec())),
            entry(entry::Body::Event(ownerless)),
            entry(entry::Body::Signal(Signal {
                event: Some(exec()),
                ..Signal::default()
            })),
            entry(entry::Body::Incident(Incident {
                process: Some(process()),
                ..Incident::default()
            })),
            entry(entry::Body::Outcome(Outcome {
                action: Some(Action {
                    target,
                    ..Action::default()
                }),
                ..Outcome::default()
            })),
            entry(entry::Body::Loss(Loss::default())),
        ]
    }

    /// Which of [`entries`] pass a filter of one list with one pattern.
    fn passing(list: &str, pattern: &str) -> Vec<&'static str> {
        let mut filter = Filter::default();
        match list {
            "signals" => filter.signals.push(pattern.into()),
            "processes" => filter.processes.push(pattern.into()),
            "cgroups" => filter.cgroups.push(pattern.into()),
            "users" => filter.users.push(pattern.into()),
            "hosts" => filter.hosts.push(pattern.into()),
            _ => unreachable!("no list {list}"),
        }
        entries()
            .iter()
            .filter(|entry| filter.matches(entry))
            .map(signal_name)
            .collect()
    }

    const ALL: &[&str] = &["exec", "exit", "signal", "incident", "outcome", "loss"];
    const OWNED: &[&str] = &["exec", "signal", "incident", "loss"];
    const TARGETED: &[&str] = &["exec", "signal", "incident", "outcome", "loss"];
    const NONE: &[&str] = &["loss"];

    #[test]
    fn each_list_selects() {
        for (list, pattern, expected) in [
            ("signals", "exec", &["exec", "loss"][..]),
            ("signals", "signal", &["signal", "loss"]),
            ("signals", "incident", &["incident", "loss"]),
            ("signals", "outcome", &["outcome", "loss"]),
            ("signals", "loss", NONE),
            ("processes", "42", TARGETED),
            ("processes", "4", NONE),
            ("processes", "4*", NONE),
            ("processes", "/usr/sbin/nginx", OWNED),
            ("processes", "/usr/sbin/*", OWNED),
            ("processes", "/usr/sbin/", NONE),
            ("processes", "*", OWNED),
            ("processes", "worker", OWNED),
            ("processes", "work*", NONE),
            ("cgroups", "/system.slice/*", OWNED),
            ("cgroups", "/system.slice/nginx.service", OWNED),
            ("cgroups", "/system.slice", NONE),
            ("users", "www-data", OWNED),
            ("users", "33", OWNED),
            ("users", "0", OWNED),
            ("users", "1000", OWNED),
            ("users", "1001", NONE),
            ("users", "www*", NONE),
            ("hosts", "web1", ALL),
            ("hosts", "web2", &[]),
        ] {
            assert_eq!(passing(list, pattern), expected, "{list} {pattern}");
        }
    }

    #[test]
    fn an_empty_filter_passes_everything() {
        assert!(entries().iter().all(|entry| Filter::default().matches(entry)));
        assert!(Filter::default().matches(&Entry::default()));
    }

    #[test]
    fn every_list_must_match_and_one_pattern_of_it_is_enough() {
        let filter = Filter {
            signals: vec!["fork".into(), "exec".into()],
            users: vec!["root".into(), "www-data".into()],
            ..Filter::default()
        };
        let exec = entry(entry::Body::Event(exec()));
        assert!(filter.matches(&exec));
        let other = Filter {
            users: vec!["root".into()],
            ..filter
        };
        assert!(!other.matches(&exec));
    }

    #[test]
    fn an_unnamed_user_is_not_the_empty_name() {
        let nameless = Process {
            user: String::new(),
            ..process()
        };
        assert!(!is_user("", &nameless));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let signals = |name: &str| Filter {
            signals: vec![name.into()],
            ..Filter::default()
        };
        for name in SIGNAL_NAMES {
            assert_eq!(signals(name).validate(), Ok(()));
        }
        assert_eq!(
            signals("exce\n").validate().expect_err("unknown").to_string(),
            format!(
                "no signal is called \"exce\\n\"; there are {}",
                SIGNAL_NAMES.join(", ")
            )
        );
        let users = |users: Vec<String>| {
            Filter {
                users,
                ..Filter::default()
            }
            .validate()
        };
        assert_eq!(
            users(vec![String::new()]),
            Err(FilterError::Empty { list: "users" })
        );
        assert_eq!(
            users(vec!["a".into(); 257]),
            Err(FilterError::TooMany {
                list: "users",
                count: 257
            })
        );
        assert_eq!(
            users(vec!["a".repeat(4098)]),
            Err(FilterError::TooLong {
                list: "users",
                length: 4098
            })
        );
    }
}
