//! What was lost and is still to be said: by signal and reason, so that however much it is, it takes little room.

use std::{borrow::Cow, collections::BTreeMap};

use prost::Message as _;
use sensor_proto::v1::{self, Batch, entry::Body};

use super::Names;
use crate::time::WallTime;

/// Kinds of loss that are told apart; what is more is lost "of any signal", for the reason that comes first.
const KINDS: usize = 256;

/// Why something was lost.
pub(in crate::export) mod reason {
    pub(in crate::export) const FULL: &str =
        "the collector was slower than this host, or away, and there was no room to wait";
    pub(in crate::export) const LONG: &str = "it was longer than the collector accepts";
    pub(in crate::export) const DAMAGED: &str = "the disk gave it back damaged";
    pub(in crate::export) const REFUSED: &str = "the collector will not have the batch that it was in";
    pub(in crate::export) const ASIDE: &str =
        "the spool on disk was damaged and was set aside: how much more waited in it is not known";
    pub(in crate::export) const FOREIGN: &str =
        "it was in a spool that came from another machine, which is where it is delivered from";
    pub(in crate::export) const UNFINISHED: &str =
        "the agent before this one ended without notice: how much it had not written down yet is not known";
}

/// Of which signal, `""` for any, and why.
pub(super) type Kind = (Cow<'static, str>, Cow<'static, str>);

/// How many were lost, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// 0 where that is not known.
    pub(super) count: u64,
    pub(super) from: WallTime,
    pub(super) to: WallTime,
}

/// What was lost and is still to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses(BTreeMap<Kind, Tally>);

impl Losses {
    /// `count` entries of `signal` were lost; 0 for a number that nobody knows.
    pub(super) fn add(&mut self, signal: &'static str, why: &'static str, count: u64) {
        let now = WallTime::now();
        let (from, to) = (now, now);
        self.merge((signal.into(), why.into()), Tally { count, from, to });
    }

    pub(super) fn add_all(&mut self, names: &Names, why: &'static str) {
        for (name, count) in names {
            self.add(name, why, *count);
        }
    }

    pub(super) fn merge(&mut self, mut kind: Kind, tally: Tally) {
        if self.0.len() >= KINDS && !self.0.contains_key(&kind) {
            kind = (Cow::Borrowed(""), Cow::Borrowed(reason::FULL));
        }
        let known = self.0.entry(kind).or_insert(Tally { count: 0, ..tally });
        known.count = known.count.saturating_add(tally.count);
        known.from = known.from.min(tally.from);
        known.to = known.to.max(tally.to);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Kind, &Tally)> {
        self.0.iter()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The same as an encoded `Batch` without its sequence, and how many entries that has.
    pub(super) fn to_body(&self) -> (Vec<u8>, u64) {
        let entries: Vec<_> = self.0.iter().map(entry).collect();
        let count = entries.len() as u64;
        let batch = Batch {
            entries,
            ..Batch::default()
        };
        (batch.encode_to_vec(), count)
    }
}

/// Its host is that of the stream.
fn entry(((signal, reason), tally): (&Kind, &Tally)) -> v1::Entry {
    v1::Entry {
        host: String::new(),
        body: Some(Body::Loss(v1::Loss {
            stage: "uplink".to_owned(),
            signal: signal.to_string(),
            count: tally.count,
            reason: reason.to_string(),
            from_ns: tally.from.0,
            to_ns: tally.to.0,
        })),
    }
}
