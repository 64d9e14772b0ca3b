//! Entries on their way to the collector.

use std::collections::BTreeMap;

use prost::{Message as _, bytes::Bytes};
use sensor_proto::{decompress, signal_name, v1::Batch};

use super::Class;

/// Entries on their way to the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// What it is worth when there is no room for all.
    pub class: Class,
    /// What is in it: how many entries of each [name](signal_name).
    pub names: Names,
    /// The entries and their processes as an encoded `Batch` without its sequence, which is given later, compressed.
    pub body: Bytes,
}

/// How many entries there are of each name.
pub type Names = BTreeMap<&'static str, u64>;

impl Package {
    /// How many entries are in it.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.names.values().sum()
    }
}

/// What is in a body that comes from the disk; `None` where that makes no sense.
pub(super) fn names(body: &[u8]) -> Option<Names> {
    let batch = Batch::decode(&*decompress(body).ok()?).ok()?;
    let mut names = Names::new();
    for entry in &batch.entries {
        *names.entry(signal_name(entry)).or_default() += 1;
    }
    Some(names)
}

/// A package that has its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// From 1, without gaps within an epoch.
    pub sequence: u64,
    /// See [`Package::body`].
    pub body: Bytes,
}
