//! Which of Sigma's log sources an event is in.

use std::fmt;

use rsigma_parser::LogSource;
use sensor_common::Signal;
use serde::{Deserialize, Serialize};

use crate::host::{Body, Event, Operation};

macro_rules! channels {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal;)+) => {
        /// A log source of Sigma: rules are for one, events may be in several.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Channel {
            $($(#[$doc])+ $variant,)+
        }

        impl Channel {
            /// All of them.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant,)+];

            /// How many there are.
            pub const COUNT: usize = [$($name,)+].len();

            /// What a rule's `logsource` says for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

channels! {
    /// A program was executed.
    ProcessCreation = "process_creation";
    /// A process ended.
    ProcessTermination = "process_termination";
    /// A file came to be at its place, or was opened to be written to.
    FileEvent = "file_event";
    /// A file or directory was made.
    FileCreate = "file_create";
    /// A file's attributes were changed, or it was cut.
    FileChange = "file_change";
    /// A name of a file was removed.
    FileDelete = "file_delete";
    /// A file got another name.
    FileRename = "file_rename";
    /// A watched file was opened to be read.
    FileAccess = "file_access";
    /// A connection, or a flow of datagrams.
    NetworkConnection = "network_connection";
    /// A question to a name server.
    DnsQuery = "dns_query";
    /// An answer of a name server: for rules of `dns_query` that ask for results.
    DnsAnswer = "dns_query (answers)";
    /// As the kernel's audit system would have recorded it.
    Auditd = "auditd";
    /// What Sigma has no category for.
    Sensor = "sensor";
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels(u16);

impl Channels {
    /// Those.
    #[must_use]
    pub const fn of(channels: &[Channel]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < channels.len() {
            bits |= 1 << channels[index] as u16;
            index += 1;
        }
        Self(bits)
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn contains(self, channel: Channel) -> bool {
        self.0 & 1 << channel as u16 != 0
    }

    /// Both sets' members.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn common(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members.
    pub fn iter(self) -> impl Iterator<Item = Channel> {
        Channel::ALL
            .into_iter()
            .filter(move |channel| self.contains(*channel))
    }

    /// The log sources that an event is in.
    #[must_use]
    pub fn of_event(event: &Event) -> Self {
        use Channel::{
            Auditd, DnsAnswer, DnsQuery, NetworkConnection, ProcessCreation, ProcessTermination, Sensor,
        };
        match &event.body {
            Body::Exec(_) => const { Self::of(&[ProcessCreation, Auditd]) },
            Body::Exit(_) => const { Self::of(&[ProcessTermination]) },
            Body::Fork => Self::default(),
            Body::Connect(_) | Body::Accept(_) | Body::UdpFlow(..) => {
                const { Self::of(&[NetworkConnection]) }
            }
            Body::Dns(_, message) if message.answer => const { Self::of(&[DnsAnswer]) },
            Body::Dns(..) => const { Self::of(&[DnsQuery]) },
            Body::Operation(operation) => Self::of_operation(operation),
            _ => const { Self::of(&[Sensor]) },
        }
    }

    fn of_operation(operation: &Operation) -> Self {
        use Channel::{
            Auditd, FileAccess, FileChange, FileCreate, FileDelete, FileEvent, FileRename, Sensor,
        };
        // Repetitions of what was matched when it came.
        if operation.repeats.is_some() {
            return Self::default();
        }
        match operation.signal {
            Signal::FileOpen if operation.only_reads() => const { Self::of(&[FileAccess, Auditd]) },
            Signal::FileOpen => const { Self::of(&[FileEvent, Auditd]) },
            Signal::FileCreate => const { Self::of(&[FileEvent, FileCreate, Auditd]) },
            Signal::FileLink => const { Self::of(&[FileEvent, Auditd]) },
            Signal::FileRename => const { Self::of(&[FileEvent, FileRename, Auditd]) },
            Signal::FileUnlink => const { Self::of(&[FileDelete, Auditd]) },
            Signal::FileTruncate
            | Signal::FileChmod
            | Signal::FileChown
            | Signal::FileXattr
            | Signal::FileFlags => const { Self::of(&[FileChange, Auditd]) },
            _ => const { Self::of(&[Sensor, Auditd]) },
        }
    }

    /// The log sources that a rule is for; or why there is none here.
    ///
    /// # Errors
    /// If this host does not have it.
    pub(super) fn of_rule(source: &LogSource) -> Result<Self, String> {
        if let Some(product) = &source.product
            && !product.eq_ignore_ascii_case("linux")
        {
            return Err(format!("it is for the product {product}, and this is Linux"));
        }
        let name = source.category.as_ref().or(source.service.as_ref());
        let Some(name) = name else {
            return Err("its logsource names neither category nor service".into());
        };
        match Channel::ALL.into_iter().find(|channel| channel.name() == name) {
            Some(channel) => Ok(Self::of(&[channel])),
            None => Err(format!(
                "there is no log source {name} here; there are {}",
                Self::names()
            )),
        }
    }

    /// The names of all that a rule can be for.
    fn names() -> String {
        let names = Channel::ALL
            .iter()
            .filter(|channel| **channel != Channel::DnsAnswer);
        names.map(|channel| channel.name()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, channel) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", channel.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(product: Option<&str>, category: Option<&str>, service: Option<&str>) -> Result<String, String> {
        let source = LogSource {
            product: product.map(str::to_owned),
            category: category.map(str::to_owned),
            service: service.map(str::to_owned),
            ..LogSource::default()
        };
        Channels::of_rule(&source).map(|channels| channels.to_string())
    }

    #[test]
    fn rules_find_their_log_source_or_are_told_why_not() {
        assert_eq!(
            rule(Some("linux"), Some("process_creation"), None),
            Ok("process_creation".into())
        );
        assert_eq!(rule(None, Some("file_delete"), None), Ok("file_delete".into()));
        assert_eq!(rule(Some("linux"), None, Some("auditd")), Ok("auditd".into()));
        let windows = rule(Some("windows"), Some("process_creation"), None).unwrap_err();
        assert_eq!(windows, "it is for the product windows, and this is Linux");
        let registry = rule(None, Some("registry_set"), None).unwrap_err();
        assert!(
            registry.starts_with("there is no log source registry_set here; there are process_creation, "),
            "{registry}"
        );
        assert_eq!(
            rule(Some("linux"), None, None).unwrap_err(),
            "its logsource names neither category nor service"
        );
    }
}
