//! Values that are checked as they are read.

use std::{
    net::SocketAddr,
    path::{Component, PathBuf},
    time::Duration,
};

use sensor_common::{
    Signal,
    filter::{RULES_MAX, WATCHES_MAX},
};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

use crate::respond::ResponseRule;

/// A whole number between `MIN` and `MAX`, both allowed.
pub(super) fn bounded<'de, D, T, const MIN: u64, const MAX: u64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let refuse = |value: &dyn std::fmt::Display| {
        D::Error::custom(format!("{value} is not allowed; allowed are {MIN} to {MAX}"))
    };
    let value = i64::deserialize(deserializer)?;
    let number = u64::try_from(value).map_err(|_| refuse(&value))?;
    if !(MIN..=MAX).contains(&number) {
        return Err(refuse(&value));
    }
    T::try_from(number).map_err(|_| refuse(&value))
}

/// The kernel takes ring sizes that are powers of two and whole pages.
pub(super) fn ring_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let bytes: u32 = bounded::<D, u32, 4_096, 268_435_456>(deserializer)?;
    if bytes.is_power_of_two() {
        return Ok(bytes);
    }
    let (below, above) = (bytes.next_power_of_two() / 2, bytes.next_power_of_two());
    Err(D::Error::custom(format!(
        "{bytes} is not a power of two; the nearest are {below} and {above}"
    )))
}

/// Between so many seconds.
pub(super) fn duration<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let duration: Duration = humantime_serde::deserialize(deserializer)?;
    let (least, most) = (Duration::from_secs(MIN), Duration::from_secs(MAX));
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    Err(D::Error::custom(format!(
        "{duration:?} is not allowed; allowed are {MIN}s to {MAX}s"
    )))
}

pub(super) fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value > 0.0 && value <= 1.0 {
        return Ok(value);
    }
    Err(D::Error::custom(format!(
        "{value} is not allowed; allowed is what is above 0, up to 1"
    )))
}

pub(super) fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        return Ok(path);
    }
    Err(D::Error::custom(format!(
        "{path:?} is not allowed; allowed is an absolute path"
    )))
}

/// `ADDRESS:PORT`, or nothing.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is not allowed; allowed is an address with a port, as \"127.0.0.1:9465\" or \"[::1]:9465\", or \"\""
        ))
    })
}

pub(super) fn address_text<S: Serializer>(
    address: &Option<SocketAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_str(""),
    }
}

pub(super) fn signals<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Signal>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let signal = |name: &String| {
        let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name);
        signal.ok_or_else(|| {
            let all = Signal::ALL.map(Signal::name).join(", ");
            D::Error::custom(format!("no signal is called {name:?}; there are {all}"))
        })
    };
    names.iter().map(signal).collect()
}

pub(super) fn signal_names<S: Serializer>(signals: &[Signal], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(signals.iter().map(|signal| signal.name()))
}

pub(super) fn watched<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let paths = Vec::<String>::deserialize(deserializer)?;
    if let Some(path) = paths.iter().find(|path| !path.starts_with('/')) {
        return Err(D::Error::custom(format!(
            "{path:?} is not allowed; allowed are absolute paths"
        )));
    }
    at_most::<D, _>(paths, WATCHES_MAX)
}

pub(super) fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    at_most::<D, _>(path_patterns(deserializer, 1)?, RULES_MAX)
}

/// As `sensor models list` shows them, or the beginning of such a name.
fn is_workload(stem: &str) -> bool {
    const KINDS: [&str; 4] = ["unit:", "container:", "session:", "cgroup:"];
    stem == "host" || KINDS.iter().any(|kind| stem.starts_with(kind))
}

/// Whom incidents are about: workloads, with at most a `*` at the end.
pub(crate) fn subjects<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let is_one = |name: &String| {
        let stem = name.strip_suffix('*').unwrap_or(name);
        name == "*" || is_workload(stem) && !stem.contains('*')
    };
    if let Some(name) = names.iter().find(|name| !is_one(name)) {
        return Err(D::Error::custom(format!(
            "no incident is about {name:?}; allowed are \"unit:NAME\", \"container:NAME\", \"session:NAME\", \"cgroup:PATH\" and \"host\", with at most a `*` at the end"
        )));
    }
    at_most::<D, _>(names, 256)
}

/// Ids of ATT&CK: a `T` and four digits; of a sub-technique a dot and three more.
pub(crate) fn techniques<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let ids = Vec::<String>::deserialize(deserializer)?;
    let are_digits =
        |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_id = |id: &str| {
        let (technique, sub) = id.split_once('.').unwrap_or((id, "000"));
        technique
            .strip_prefix('T')
            .is_some_and(|digits| are_digits(digits, 4))
            && are_digits(sub, 3)
    };
    if let Some(id) = ids.iter().find(|id| !is_id(id)) {
        return Err(D::Error::custom(format!(
            "{id:?} is no technique of ATT&CK; their ids are such as \"T1059\", of sub-techniques such as \"T1059.004\""
        )));
    }
    at_most::<D, _>(ids, 256)
}

/// Rules each of which may come to decide.
pub(crate) fn response_rules<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ResponseRule>, D::Error> {
    let rules = Vec::<ResponseRule>::deserialize(deserializer)?;
    let last = rules.len().saturating_sub(1);
    if let Some(number) = rules[..last].iter().position(ResponseRule::is_for_all) {
        return Err(D::Error::custom(format!(
            "response rule {} is for every incident, so that none of those after it would ever be asked; put it last",
            number + 1
        )));
    }
    at_most::<D, _>(rules, 256)
}

/// Absolute paths, and names of users and workloads, with at most a `*` at the end.
pub(super) fn assets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let is_one = |name: &str| {
        let stem = name.strip_suffix('*').unwrap_or(name);
        let is_user = name
            .strip_prefix("user:")
            .is_some_and(|uid| uid.parse::<u32>().is_ok());
        let is_named = stem.starts_with('/') || is_workload(stem);
        is_user || is_named && !stem.contains('*')
    };
    if let Some(name) = names.iter().find(|name| !is_one(name)) {
        return Err(D::Error::custom(format!(
            "{name:?} is not allowed; allowed are absolute paths, \"user:\" with a number, and workloads as `sensor models list` shows them, with at most a `*` at the end"
        )));
    }
    at_most::<D, _>(names, 256)
}

/// Absolute paths of executables, without `.` and `..`.
pub(super) fn executables<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let paths = Vec::<PathBuf>::deserialize(deserializer)?;
    let is_plain = |path: &PathBuf| {
        let is_named = |part| !matches!(part, Component::ParentDir | Component::CurDir);
        path.is_absolute() && path.components().all(is_named)
    };
    if let Some(path) = paths.iter().find(|path| !is_plain(path)) {
        return Err(D::Error::custom(format!(
            "{path:?} is not allowed; allowed are absolute paths without `.` and `..`"
        )));
    }
    at_most::<D, _>(paths, 256)
}

/// Ends of connections: `192.0.2.7`, `192.0.2.0/24`, `192.0.2.7:53`, `[2001:db8::/32]:443`.
pub(super) mod destinations {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::enforce::Destination;

    pub(crate) fn serialize<S: Serializer>(ends: &[Destination], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ends.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Destination>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let read = |text: &String| {
            read(text).ok_or_else(|| {
                D::Error::custom(format!(
                    "{text:?} is not allowed; allowed are addresses and networks, with a port or without, such as \"192.0.2.0/24\", \"192.0.2.7:53\", \"[2001:db8::/32]:443\""
                ))
            })
        };
        super::at_most::<D, _>(texts.iter().map(read).collect::<Result<_, _>>()?, 512)
    }

    fn read(text: &str) -> Option<Destination> {
        let network = |text: &str| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            text.parse::<IpNet>().or(address).ok()
        };
        if let Some(network) = network(text) {
            return Some(Destination::all(network));
        }
        let (at, port) = text.rsplit_once(':')?;
        let at = at
            .strip_prefix('[')
            .and_then(|at| at.strip_suffix(']'))
            .unwrap_or(at);
        Some(Destination::port(
            network(at)?,
            port.parse().ok().filter(|port| *port != 0)?,
        ))
    }
}

/// Absolute paths of at least so many bytes, with at most a `*` at the end.
fn path_patterns<'de, D: Deserializer<'de>>(deserializer: D, least: usize) -> Result<Vec<String>, D::Error> {
    let paths = Vec::<String>::deserialize(deserializer)?;
    for path in &paths {
        let stem = path.strip_suffix('*').unwrap_or(path);
        if !stem.starts_with('/') || stem.contains('*') || stem.len() < least {
            return Err(D::Error::custom(format!(
                "{path:?} is not allowed; allowed are absolute paths, with at most a `*` at the end"
            )));
        }
    }
    Ok(paths)
}

fn at_most<'de, D: Deserializer<'de>, T>(values: Vec<T>, limit: usize) -> Result<Vec<T>, D::Error> {
    if values.len() <= limit {
        return Ok(values);
    }
    Err(D::Error::custom(format!(
        "{} are too many; allowed are {limit}",
        values.len()
    )))
}

/// A bare name would protect whatever an attacker calls so, wherever it lies, and `/*` everything.
pub(super) fn protected<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    path_patterns(deserializer, 2)
}

/// A number of something a day, written with its period.
pub(super) mod budget {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const PERIODS: [(&str, f64); 4] = [("hour", 1.0 / 24.0), ("day", 1.0), ("week", 7.0), ("month", 30.0)];

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let per_day = || {
            let (number, period) = text.split_once('/')?;
            let number: f64 = number.trim().parse().ok()?;
            let (_, days) = PERIODS.iter().find(|(name, _)| *name == period.trim())?;
            Some(number / days).filter(|per_day| (0.01..=1_000.0).contains(per_day))
        };
        per_day().ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is not allowed; allowed is a number a period, such as \"1/day\", \"3/week\", \"1/month\", from one in a hundred days to 1000 a day"
            ))
        })
    }

    pub(crate) fn serialize<S: Serializer>(per_day: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{per_day}/day"))
    }
}
