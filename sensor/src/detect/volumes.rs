//! How much of something: bytes sent out, and files that are changed or taken away, by workload and by who logged in, and orders of system calls that
//! a workload had never made, in ten minutes, against what is usual at that hour of the week.
//!
//! Hours are UTC's, so that a recording means the same everywhere. Of files, what counts is what was there before: rewritten, renamed to something else,
//! removed. What is new is no loss, and a temporary file that takes its final name is the usual way to write one. What goes to this host itself does not
//! go out. A volume below its unit ([`Measure::unit`]) is small, whoever it is of.
//!
//! Files are counted by tens, for which the subject is looked up once. A period is looked at whenever it has grown by half, so that a burst is news while it lasts.
//!
//! Bounds: [`SERIES`] pairs of measure and subject, the one touched the longest ago goes first; [`FLOWS`] connections of which a part was reported.

use std::{fmt::Write as _, num::NonZeroUsize, sync::Arc};

use lru::LruCache;
use sensor_behaviour::{
    SnapshotError, Tails,
    rates::{Bounds, Judgement, Rates},
    sentences,
};
use sensor_common::Signal;

use super::{dossier::Notice, facts, incident::stable_hash, lineage::subject_in_words};
use crate::host::{Body, Event, Operation, Process};

pub(super) const SERIES: usize = 256;
const FLOWS: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();
const PERIOD: u32 = 600;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Sent,
    Changed,
    Orders,
}

impl Measure {
    const ALL: [Self; 3] = [Self::Sent, Self::Changed, Self::Orders];

    /// Whether it is also measured by who logged in: the kernel programs know the orders of calls of workloads only.
    const fn is_of_people(self) -> bool {
        !matches!(self, Self::Orders)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Changed => "changed",
            Self::Orders => "orders",
        }
    }

    const fn source(self) -> &'static str {
        match self {
            Self::Sent => "bytes sent",
            Self::Changed => "files lost",
            Self::Orders => "call sequences",
        }
    }

    /// As many as are not much: what a rate is reckoned in.
    const fn unit(self) -> f64 {
        match self {
            Self::Sent => 1_048_576.0,
            Self::Changed => 50.0,
            // A rare branch makes a few; another program's work in the place of its own makes dozens.
            Self::Orders => 16.0,
        }
    }

    const fn technique(self) -> &'static str {
        match self {
            Self::Sent => "T1048",
            Self::Changed => "T1486",
            Self::Orders => "T1203",
        }
    }

    fn sentence(self, subject: &str, judgement: &Judgement) -> String {
        let (what, factor) = match self {
            Self::Sent => ("MiB sent to other hosts", 1.0),
            Self::Changed => ("files rewritten, renamed or removed", self.unit()),
            Self::Orders => ("sequences of system calls that it had never made", self.unit()),
        };
        let shown = Judgement {
            value: (judgement.value * factor).round(),
            expected: (judgement.expected * factor).round(),
            high: (judgement.high * factor).round(),
            ..*judgement
        };
        sentences::rate(subject, what, "10 minutes", &shown)
    }
}

const BOUNDS: Bounds = Bounds {
    series: SERIES,
    period: PERIOD,
};

/// Rates that know nothing.
pub(super) fn unlearned() -> Rates {
    Rates::new(BOUNDS, 0)
}

/// Those of a snapshot.
pub(super) fn read(bytes: &[u8], seconds: u64) -> Result<Rates, SnapshotError> {
    Rates::from_snapshot(bytes, BOUNDS, 0, seconds)
}

/// The rates of all subjects.
#[derive(Debug)]
pub(super) struct Volumes {
    rates: Rates,
    tails: Tails,
    /// Bytes of a connection that were counted already.
    flows: LruCache<u64, u64>,
    period: u64,
    name: String,
    /// Files that were lost and are not counted yet.
    pending: [Option<Pending>; PENDING],
}

/// Files of one workload and user that are counted together: one by one it would cost more than all else that is done for them.
#[derive(Debug)]
struct Pending {
    process: Arc<Process>,
    files: f64,
}

/// Pairs of workload and user that are gathered at once, and how many files of each.
const PENDING: usize = 16;
const GATHERED: f64 = 10.0;

impl Default for Volumes {
    fn default() -> Self {
        Self {
            rates: unlearned(),
            tails: Tails::new(SERIES),
            flows: LruCache::new(FLOWS),
            period: 0,
            name: String::new(),
            pending: Default::default(),
        }
    }
}

impl Volumes {
    /// What was learned.
    pub(super) fn models(&self) -> (&Rates, &Tails) {
        (&self.rates, &self.tails)
    }

    pub(super) fn resume(&mut self, rates: Rates, tails: Tails) {
        (self.rates, self.tails) = (rates, tails);
    }

    pub(super) fn merge(&mut self, rates: &Rates, tails: &Tails) {
        self.rates.merge(rates);
        self.tails.merge(tails);
    }

    /// Whether anything was known of `subject`.
    pub(super) fn forget(&mut self, subject: &str) -> bool {
        let names = Measure::ALL.map(|measure| format!("{} {subject}", measure.name()));
        let known = names.map(|name| {
            self.tails.forget(stable_hash(&[name.as_bytes()]));
            self.rates.forget(&name)
        });
        known.contains(&true)
    }

    /// From now on the subjects of `process` are known to be silent, if they are.
    pub(super) fn introduce(&mut self, event: &Event, process: &Process) {
        let seconds = event.wall.0 / 1_000_000_000;
        for measure in Measure::ALL {
            self.add(measure, 0.0, process, seconds, &mut Vec::new());
        }
    }

    /// What is too much in `event`, which is of `process`; for the workload, and for who logged in.
    pub(super) fn judge(&mut self, event: &Event, process: &Arc<Process>, notices: &mut Vec<Notice>) {
        let seconds = event.wall.0 / 1_000_000_000;
        self.end_periods(seconds, notices);
        let (measure, amount) = match &event.body {
            Body::Operation(operation) if takes_away(operation) => {
                let times = operation.repeats.map_or(1, |repeated| repeated.count);
                return self.gather(process, times as f64, seconds, notices);
            }
            Body::Sequence(sequence) => (Measure::Orders, sequence.withheld.saturating_add(1) as f64),
            _ => match self.sent(&event.body) {
                Some(bytes) => (Measure::Sent, bytes),
                None => return,
            },
        };
        self.add(measure, amount / measure.unit(), process, seconds, notices);
    }

    fn add(
        &mut self,
        measure: Measure,
        amount: f64,
        process: &Process,
        seconds: u64,
        notices: &mut Vec<Notice>,
    ) {
        for user in [None, process.credentials.login_uid] {
            let mut name = std::mem::take(&mut self.name);
            name.clear();
            let _ = match user {
                None => write!(name, "{} {}", measure.name(), process.workload.name),
                Some(user) => write!(name, "{} user:{user}", measure.name()),
            };
            if let Some(judgement) = self.rates.add(&name, seconds, amount)
                && judgement.value > 0.0
            {
                let p_value = self
                    .tails
                    .p_value(stable_hash(&[name.as_bytes()]), judgement.score);
                if p_value < super::dossier::NOTABLE && judgement.value >= 1.0 {
                    notices.push(notice(measure, user, process, &judgement, p_value, &name));
                }
            }
            self.name = name;
            if process.credentials.login_uid.is_none() || !measure.is_of_people() {
                return;
            }
        }
    }

    /// More files of somebody were lost.
    fn gather(&mut self, process: &Arc<Process>, files: f64, seconds: u64, notices: &mut Vec<Notice>) {
        let user = process.credentials.login_uid.unwrap_or(u32::MAX);
        let place = (process.workload.cgroup_id ^ u64::from(user)) as usize % PENDING;
        let is_same = |pending: &Pending| {
            pending.process.workload.name == process.workload.name
                && pending.process.credentials.login_uid == process.credentials.login_uid
        };
        match &mut self.pending[place] {
            Some(pending) if is_same(pending) => pending.files += files,
            other => {
                let before = other.replace(Pending {
                    process: Arc::clone(process),
                    files,
                });
                self.count(before, seconds, notices);
            }
        }
        if self.pending[place]
            .as_ref()
            .is_some_and(|pending| pending.files >= GATHERED)
        {
            let gathered = self.pending[place].take();
            self.count(gathered, seconds, notices);
        }
    }

    fn count(&mut self, gathered: Option<Pending>, seconds: u64, notices: &mut Vec<Notice>) {
        if let Some(Pending { process, files }) = gathered {
            let measure = Measure::Changed;
            self.add(measure, files / measure.unit(), &process, seconds, notices);
        }
    }

    /// Learns what the periods brought that are over.
    fn end_periods(&mut self, seconds: u64, notices: &mut Vec<Notice>) {
        let period = seconds / u64::from(PERIOD);
        if period <= self.period {
            return;
        }
        let before = self.period * u64::from(PERIOD);
        for place in 0..PENDING {
            let gathered = self.pending[place].take();
            self.count(gathered, before, notices);
        }
        self.period = period;
        for (name, judgement) in self.rates.advance(seconds) {
            self.tails.learn(stable_hash(&[name.as_bytes()]), judgement.score);
        }
    }

    /// Bytes that went out since they were last counted.
    fn sent(&mut self, body: &Body) -> Option<f64> {
        let (flow, sent) = match body {
            Body::FlowClose(flow, totals) => {
                let counted = self.flows.pop(&flow.id).unwrap_or(0);
                (flow, totals.bytes_sent.saturating_sub(counted))
            }
            Body::FlowReport(flow, totals) => {
                let counted = self.flows.put(flow.id, totals.bytes_sent).unwrap_or(0);
                (flow, totals.bytes_sent.saturating_sub(counted))
            }
            Body::UdpFlow(flow, totals) => (flow, totals.bytes_sent),
            _ => return None,
        };
        let leaves = !flow.remote.ip().is_loopback() && flow.remote.ip() != flow.local.ip();
        (leaves && sent > 0).then_some(sent as f64)
    }
}

fn notice(
    measure: Measure,
    user: Option<u32>,
    process: &Process,
    judgement: &Judgement,
    p_value: f64,
    name: &str,
) -> Notice {
    let subject = match user {
        Some(user) => format!("user {user}"),
        None => subject_in_words(&process.workload),
    };
    Notice {
        source: measure.source(),
        subject: process.workload.name.clone(),
        cause: stable_hash(&[b"volume", name.as_bytes()]),
        p_value,
        reason: measure.sentence(&subject, judgement),
        techniques: vec![measure.technique()],
        grave: measure == Measure::Changed,
    }
}

/// Whether a file that was there is not there any more as it was.
fn takes_away(operation: &Operation) -> bool {
    match operation.signal {
        Signal::FileUnlink | Signal::FileTruncate => true,
        Signal::FileRename => !finishes(&operation.path, &operation.target),
        Signal::FileOpen => facts::rewrites(operation),
        _ => false,
    }
}

/// Whether a rename gives a temporary file its final name, as editors and package managers do: `x.new` becomes `x`, `.tmpA1` becomes `x`.
fn finishes(from: &[u8], to: &[u8]) -> bool {
    let (from, to) = (name_of(from), name_of(to));
    let contains = |part: &[u8]| from.windows(part.len().max(1)).any(|window| window == part);
    contains(to) && from != to || from.starts_with(b".") || from.ends_with(b"~") || contains(b"tmp")
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests;
