//! The account of events, read from the kernel and completed with what became of them in the agent.

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{
    Pod,
    maps::{MapData, MapError, PerCpuArray},
};
use sensor_common::{Account, Header, Signal, context::ACCOUNT_BLOCKS};
use zerocopy::FromBytes as _;

/// [`Account`] as the map library wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct KernelAccount(Account);

// SAFETY: integers without padding; any bytes are valid.
unsafe impl Pod for KernelAccount {}

/// What became of the events of one signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Occurrences that the kernel offered.
    pub seen: u64,
    /// Passed on to detection and export.
    pub delivered: u64,
    /// Left out on purpose, in the kernel or in the agent.
    pub muted: u64,
    /// Folded into another event, in the kernel or in the agent.
    pub aggregated: u64,
    /// Lost, for whatever reason.
    pub lost: u64,
    /// The same, by reason.
    pub losses: [(LossReason, u64); 3],
}

/// Why events are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LossReason {
    /// The ring had no room.
    #[default]
    Full,
    /// The ring was filling up, and the process had used up its share.
    Share,
    /// The record could not be read.
    Unreadable,
}

impl LossReason {
    /// The reason in words, as it is told to readers of the stream.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Full => "the ring had no room",
            Self::Share => "its process had used up its share of the ring",
            Self::Unreadable => "the record could not be read",
        }
    }
}

/// Counters of every signal, readable from any thread.
pub struct Accounts {
    kernel: PerCpuArray<MapData, KernelAccount>,
    programs: Vec<OwnedFd>,
    agent: [AgentTally; Signal::COUNT],
}

#[derive(Default)]
struct AgentTally {
    seen: AtomicU64,
    delivered: AtomicU64,
    muted: AtomicU64,
    aggregated: AtomicU64,
    /// Of what the kernel counted as aggregated: delivered as one, or muted after all.
    unfolded: AtomicU64,
    unreadable: AtomicU64,
}

impl Accounts {
    pub(super) fn new(kernel: PerCpuArray<MapData, KernelAccount>, programs: Vec<OwnedFd>) -> Self {
        Self {
            kernel,
            programs,
            agent: std::array::from_fn(|_| AgentTally::default()),
        }
    }

    /// Runs of the kernel programs that the kernel skipped because the same program was running on the CPU. It counts
    /// them since 5.12; what was skipped was not seen, hence is in no other count.
    #[must_use]
    pub fn recursion_misses(&self) -> u64 {
        self.programs
            .iter()
            .filter_map(|program| {
                let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
                let misses = info
                    .lines()
                    .find_map(|line| line.strip_prefix("recursion_misses:"))?;
                misses.trim().parse::<u64>().ok()
            })
            .sum()
    }

    /// Counts an event that the agent itself has found, not a kernel program.
    pub fn seen(&self, signal: Signal) {
        self.agent[signal as usize].seen.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an event that was passed on.
    pub fn delivered(&self, signal: Signal) {
        self.agent[signal as usize]
            .delivered
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an event that the agent left out on purpose.
    pub fn muted(&self, signal: Signal) {
        self.agent[signal as usize].muted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an event that said again what another had said.
    pub fn aggregated(&self, signal: Signal) {
        self.agent[signal as usize]
            .aggregated
            .fetch_add(1, Ordering::Relaxed);
    }

    /// One of what the kernel has aggregated stands for the others, and was passed on.
    pub fn delivered_folded(&self, signal: Signal) {
        self.agent[signal as usize]
            .unfolded
            .fetch_add(1, Ordering::Relaxed);
        self.delivered(signal);
    }

    /// What the kernel has aggregated would have been left out by the agent.
    pub fn muted_folded(&self, signal: Signal, count: u64) {
        let agent = &self.agent[signal as usize];
        agent.unfolded.fetch_add(count, Ordering::Relaxed);
        agent.muted.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a record that could not be read as lost, if its signal can be told.
    pub fn unreadable(&self, record: &[u8]) {
        let header = Header::ref_from_prefix(record).ok();
        if let Some(signal) = header.and_then(|(header, _)| Signal::from_number(header.signal)) {
            self.agent[signal as usize]
                .unreadable
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where the events of `signal` are. The parts add up whenever none is in flight.
    ///
    /// # Errors
    /// If the kernel does not give its counters.
    pub fn tally(&self, signal: Signal) -> Result<Tally, MapError> {
        let mut kernel = Account::default();
        for block in 0..ACCOUNT_BLOCKS {
            let index = block * Signal::COUNT as u32 + signal as u32;
            let per_cpu = self.kernel.get(&index, 0)?;
            kernel = per_cpu.iter().fold(kernel, |sum, cpu| sum.plus(cpu.0));
        }
        let agent = &self.agent[signal as usize];
        let losses = [
            (LossReason::Full, kernel.lost),
            (LossReason::Share, kernel.throttled),
            (LossReason::Unreadable, agent.unreadable.load(Ordering::Relaxed)),
        ];
        Ok(Tally {
            seen: kernel.seen + agent.seen.load(Ordering::Relaxed),
            delivered: agent.delivered.load(Ordering::Relaxed),
            muted: kernel.muted + agent.muted.load(Ordering::Relaxed),
            aggregated: (kernel.aggregated + agent.aggregated.load(Ordering::Relaxed))
                .saturating_sub(agent.unfolded.load(Ordering::Relaxed)),
            lost: losses.iter().map(|(_, count)| count).sum(),
            losses,
        })
    }
}
