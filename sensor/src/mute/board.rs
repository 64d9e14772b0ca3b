//! What is muted and how many events that ate, for whoever asks.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use sensor_common::{Signal, filter::RULES_MAX};

use super::Subject;
use crate::capture::MuteCounts;

/// A mute, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Muted {
    /// `signal`, `path`, `executable`, `cgroup`, `user` or `network`.
    pub kind: &'static str,
    /// Which.
    pub what: String,
    /// Events that it left out.
    pub events: u64,
}

/// What is muted, readable from any thread.
pub struct Board {
    kernel: Arc<MuteCounts>,
    /// By number of the rule: what the agent left out, less what the kernel had counted for a former rule of this number.
    agent: Vec<AtomicU64>,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    off: u64,
    rules: Vec<(u32, Subject)>,
}

impl Board {
    /// An empty one. What the programs left out is read from `kernel`.
    #[must_use]
    pub fn new(kernel: Arc<MuteCounts>) -> Self {
        Self {
            kernel,
            agent: (0..RULES_MAX).map(|_| AtomicU64::new(0)).collect(),
            shown: Mutex::default(),
        }
    }

    /// What is muted, with what was left out by each, in the order of the configuration. `muted` tells how many events of a signal
    /// were left out.
    #[must_use]
    pub fn muted(&self, muted: impl Fn(Signal) -> u64) -> Vec<Muted> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let signals = Signal::ALL
            .into_iter()
            .filter(|signal| shown.off & 1 << *signal as u64 != 0)
            .map(|signal| Muted {
                kind: "signal",
                what: signal.name().to_owned(),
                events: muted(signal),
            });
        let rules = shown.rules.iter().map(|(number, subject)| Muted {
            kind: subject.kind_name(),
            what: subject.what(),
            events: self.events(*number),
        });
        signals.chain(rules).collect()
    }

    pub(super) fn show(&self, off: u64, rules: impl Iterator<Item = (u32, Subject)>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.off = off;
        shown.rules = rules.collect();
    }

    /// A rule gets this number: it begins at nothing.
    pub(super) fn begin(&self, number: u32) {
        let before = self.kernel.of(number);
        self.agent[number as usize].store(0_u64.wrapping_sub(before), Ordering::Relaxed);
    }

    pub(super) fn count(&self, number: u32, events: u64) {
        self.agent[number as usize].fetch_add(events, Ordering::Relaxed);
    }

    fn events(&self, number: u32) -> u64 {
        let agent = self.agent[number as usize].load(Ordering::Relaxed);
        agent.wrapping_add(self.kernel.of(number))
    }
}
