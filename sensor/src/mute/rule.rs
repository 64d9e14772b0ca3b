//! A rule: whom or what it mutes.

use std::fmt;

use ipnet::IpNet;
use sensor_common::MuteKind;

use crate::{
    config,
    host::{Body, Event, Operation},
};

/// A path, or with a `*` at its end the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    open: bool,
}

impl Pattern {
    /// As the operator writes it. A slash at the end means nothing.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(beginning) => Self {
                text: beginning.into(),
                open: true,
            },
            None => Self {
                text: text.strip_suffix('/').unwrap_or(text).into(),
                open: false,
            },
        }
    }

    /// The path, where it is a whole one.
    #[must_use]
    pub fn whole(&self) -> Option<&[u8]> {
        (!self.open).then_some(if self.text.is_empty() {
            b"/"
        } else {
            self.text.as_bytes()
        })
    }

    /// Whether `path` is meant itself.
    #[must_use]
    pub fn is(&self, path: &[u8]) -> bool {
        if self.open {
            path.starts_with(self.text.as_bytes())
        } else {
            path == self.text.as_bytes()
        }
    }

    /// Whether `path` is meant, or lies below what is. A path that leads up again lies nowhere.
    #[must_use]
    pub fn covers(&self, path: &[u8]) -> bool {
        if path
            .split(|byte| *byte == b'/')
            .any(|component| component == b"..")
        {
            return false;
        }
        let rest = path.strip_prefix(self.text.as_bytes());
        rest.is_some_and(|rest| self.open || rest.is_empty() || rest.starts_with(b"/"))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.open, &*self.text) {
            (true, text) => write!(f, "{text}*"),
            (false, "") => f.write_str("/"),
            (false, text) => f.write_str(text),
        }
    }
}

/// Whom or what a rule mutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What is done to files below a path: all of the files of an operation must be.
    Path(Pattern),
    /// What an executable does.
    Executable(Pattern),
    /// What is done in a cgroup, or below it.
    Cgroup(Pattern),
    /// What is done as a user.
    User(u32),
    /// Connections and datagrams whose other end is there.
    Network(IpNet),
}

impl Subject {
    /// How the kernel programs call it.
    #[must_use]
    pub fn kind(&self) -> MuteKind {
        match self {
            Self::Path(_) => MuteKind::Path,
            Self::Executable(_) => MuteKind::Executable,
            Self::Cgroup(_) => MuteKind::Cgroup,
            Self::User(_) => MuteKind::User,
            Self::Network(_) => MuteKind::Network,
        }
    }

    /// How the configuration calls it.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Executable(_) => "executable",
            Self::Cgroup(_) => "cgroup",
            Self::User(_) => "user",
            Self::Network(_) => "network",
        }
    }

    /// What it is for, without its kind.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Path(pattern) | Self::Executable(pattern) | Self::Cgroup(pattern) => pattern.to_string(),
            Self::User(uid) => uid.to_string(),
            Self::Network(network) => network.to_string(),
        }
    }

    /// Whether it mutes this event.
    #[must_use]
    pub fn is_of(&self, event: &Event) -> bool {
        let process = event.process.as_ref();
        match self {
            Self::Path(pattern) => {
                matches!(&event.body, Body::Operation(operation) if all_below(pattern, operation))
            }
            Self::Executable(pattern) => process.is_some_and(|process| pattern.is(&process.image.executable)),
            Self::Cgroup(pattern) => {
                process.is_some_and(|process| pattern.covers(process.workload.cgroup.as_bytes()))
            }
            Self::User(uid) => process.is_some_and(|process| process.credentials.uid == *uid),
            Self::Network(network) => {
                let flow = event.body.flow();
                flow.is_some_and(|flow| network.contains(&flow.remote.ip()))
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind_name(), self.what())
    }
}

fn all_below(pattern: &Pattern, operation: &Operation) -> bool {
    let [path, target] = operation.call.has_paths();
    let below = |path: &[u8], is_path: bool| !is_path || pattern.covers(path);
    (path || target) && below(&operation.path, path) && below(&operation.target, target)
}

/// The rules of a configuration, which was checked.
pub(crate) fn subjects(mute: &config::Mute) -> Vec<Subject> {
    let patterns = |texts: &[String], subject: fn(Pattern) -> Subject| -> Vec<Subject> {
        texts.iter().map(|text| subject(Pattern::new(text))).collect()
    };
    [
        patterns(&mute.paths, Subject::Path),
        patterns(&mute.executables, Subject::Executable),
        patterns(&mute.cgroups, Subject::Cgroup),
        mute.users.iter().map(|uid| Subject::User(*uid)).collect(),
        mute.networks
            .iter()
            .map(|network| Subject::Network(network.trunc()))
            .collect(),
    ]
    .concat()
}
