//! What of the stream goes somewhere: by the names of signals, by groups of them, and by severity.

use std::{fmt, str::FromStr};

use sensor_common::Signal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::Entry;
use crate::detect::Severity;

/// What can be chosen that is no event.
const CONCLUSIONS: [&str; 3] = ["signal", "incident", "outcome"];

/// Names for several signals at once.
pub const GROUPS: [&str; 8] = [
    "processes",
    "credentials",
    "sessions",
    "intrusion",
    "kernel",
    "files",
    "network",
    "calls",
];

/// The group that a signal is in.
#[must_use]
pub fn group(signal: Signal) -> &'static str {
    match signal {
        Signal::Exec | Signal::Fork | Signal::Exit | Signal::Setsid => "processes",
        Signal::Credential => "credentials",
        Signal::Login | Signal::Logout | Signal::Elevation | Signal::AuthFailure => "sessions",
        Signal::Ptrace
        | Signal::ProcessWrite
        | Signal::Memfd
        | Signal::ExecMemory
        | Signal::Namespace
        | Signal::Mount
        | Signal::RootChange
        | Signal::Keyctl
        | Signal::Userfaultfd
        | Signal::ProcessSignal => "intrusion",
        Signal::Module
        | Signal::Bpf
        | Signal::Kexec
        | Signal::Sysctl
        | Signal::Tracing
        | Signal::Lockdown => "kernel",
        Signal::FileOpen
        | Signal::FileCreate
        | Signal::FileRename
        | Signal::FileUnlink
        | Signal::FileLink
        | Signal::FileTruncate
        | Signal::FileChmod
        | Signal::FileChown
        | Signal::FileXattr
        | Signal::FileFlags => "files",
        Signal::Connect
        | Signal::Accept
        | Signal::Listen
        | Signal::FlowClose
        | Signal::FlowReport
        | Signal::Bind
        | Signal::UdpFlow
        | Signal::Dns
        | Signal::TlsHello
        | Signal::RawSocket => "network",
        Signal::Sequence | Signal::IoUring => "calls",
    }
}

/// Which entries, by name. Written as a list of signals, groups, `signal`, `incident` and `outcome`; a `-` before one takes it away, from all if
/// the list begins so. An empty list is everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    written: Vec<String>,
    /// A bit for each signal by its number, then one for each of [`CONCLUSIONS`].
    chosen: u128,
}

/// What goes somewhere. What was lost always does: whoever reads must know what they did not get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// By name.
    pub names: Names,
    /// The least severity of incidents, and of the signals of rules. What a model finds has none of its own, and goes with `low`.
    pub severity: Least,
}

/// The least severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Least(pub Severity);

impl Default for Least {
    fn default() -> Self {
        Self(Severity::Low)
    }
}

impl Choice {
    /// Whether `entry` goes there. Quick: it is asked for every event on the thread that reads the kernel's rings.
    #[must_use]
    pub fn takes(&self, entry: &Entry) -> bool {
        let Self { names, severity } = self;
        match entry {
            Entry::Event(event) => names.has(event.body.signal() as u32),
            Entry::Signal(signal) => {
                let level = signal.rule.as_ref().and_then(|rule| rule.level.severity());
                names.has(conclusion(0)) && level.unwrap_or(Severity::Low) >= severity.0
            }
            Entry::Incident(incident) => names.has(conclusion(1)) && incident.severity >= severity.0,
            Entry::Outcome(_) => names.has(conclusion(2)),
            Entry::Loss(_) => true,
        }
    }
}

impl Names {
    fn has(&self, bit: u32) -> bool {
        self.chosen >> bit & 1 != 0
    }

    /// What `texts` name.
    ///
    /// # Errors
    /// The name that there is not, with those that there are.
    pub fn parse(texts: Vec<String>) -> Result<Self, UnknownName> {
        let begins_with_less = texts.first().is_none_or(|text| text.starts_with('-'));
        let mut chosen = if begins_with_less { u128::MAX } else { 0 };
        for text in &texts {
            match text.strip_prefix('-') {
                Some(name) => chosen &= !bits(name)?,
                None => chosen |= bits(text)?,
            }
        }
        Ok(Self {
            written: texts,
            chosen,
        })
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            written: Vec::new(),
            chosen: u128::MAX,
        }
    }
}

impl FromStr for Names {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::parse(text.split_whitespace().map(str::to_owned).collect())
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// There is no such name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName(String);

impl std::error::Error for UnknownName {}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = GROUPS
            .into_iter()
            .chain(CONCLUSIONS)
            .chain(Signal::ALL.map(Signal::name));
        let names: Vec<_> = names.collect();
        write!(
            f,
            "nothing is called {:?}; there are {}",
            self.0,
            names.join(", ")
        )
    }
}

fn conclusion(at: usize) -> u32 {
    (Signal::COUNT + at) as u32
}

fn bits(name: &str) -> Result<u128, UnknownName> {
    if let Some(at) = CONCLUSIONS.iter().position(|known| *known == name) {
        return Ok(1 << conclusion(at));
    }
    let is_meant = |signal: &Signal| signal.name() == name || group(*signal) == name;
    let bits = Signal::ALL
        .into_iter()
        .filter(is_meant)
        .fold(0, |bits, signal| bits | 1 << signal as u32);
    if bits == 0 {
        return Err(UnknownName(name.to_owned()));
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::convert::tests::{body, event, process};

    fn taken(names: &str) -> Vec<&'static str> {
        let choice = Choice {
            names: names.parse().expect("names"),
            ..Choice::default()
        };
        let entry = |signal: &Signal| Entry::Event(event(process(b"", b""), body(*signal)));
        let taken = Signal::ALL
            .into_iter()
            .filter(|signal| choice.takes(&entry(signal)));
        taken.map(Signal::name).collect()
    }

    #[test]
    fn lists_choose_and_take_away() {
        assert_eq!(taken("").len(), Signal::COUNT);
        assert_eq!(taken("exec credentials"), ["exec", "credential"]);
        assert_eq!(taken("processes -fork"), ["exec", "exit", "setsid"]);
        assert_eq!(taken("-files -network -dns -calls").len(), Signal::COUNT - 22);
        assert_eq!(taken("incident"), [""; 0]);
        let error = Names::from_str("exce").expect_err("is refused").to_string();
        assert!(
            error.starts_with("nothing is called \"exce\"; there are processes, credentials, "),
            "{error}"
        );
    }

    #[test]
    fn every_signal_is_in_a_group_that_has_a_name() {
        assert!(
            Signal::ALL
                .into_iter()
                .all(|signal| GROUPS.contains(&group(signal)))
        );
        assert!(
            GROUPS
                .iter()
                .all(|name| Signal::ALL.into_iter().any(|signal| group(signal) == *name))
        );
        assert!(
            GROUPS
                .iter()
                .all(|name| Signal::ALL.into_iter().all(|signal| signal.name() != *name))
        );
    }
}
