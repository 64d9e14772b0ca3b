//! From the kernel to records in order: loads and attaches the programs, drains their rings, keeps the account.
//!
//! Invariants: a record is handed out once, and in the order of time unless one was held up for longer than the reorder
//! window (counted); bulk records never make critical ones wait in a ring; everything detaches when a [`Capture`] is dropped.

/// A type of the contract as the map library wants it.
macro_rules! pod {
    ($($wrapper:ident($inner:ty);)+) => {
        $(
            #[derive(Clone, Copy)]
            #[repr(transparent)]
            struct $wrapper($inner);
            // SAFETY: the inner type has no padding (it derives `IntoBytes`) and any bytes are valid.
            unsafe impl Pod for $wrapper {}
        )+
    };
}
pub(crate) use pod;

mod account;
mod alarm;
mod births;
pub mod btf;
pub mod calls;
pub(crate) mod cgroup;
mod datagrams;
mod filters;
mod folds;
pub mod hooks;
mod keeping;
pub mod ladder;
pub mod layout;
pub(crate) mod loader;
mod mapping;
mod promise;
mod protected;
pub mod record;
pub mod reorder;
mod reports;
mod rings;
pub mod sequences;
mod syscall;

use std::{io, os::fd::BorrowedFd, sync::Arc, time::Duration};

use aya::{
    Pod,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray},
};
use sensor_common::{CallRule, Header, Identity, Settings, Signal, record::ListenerKey};
use zerocopy::{FromBytes as _, IntoBytes as _};

pub use account::{Accounts, LossReason, Tally};
pub use alarm::Alarm;
pub use births::Births;
pub use datagrams::FlowTimes;
pub use filters::{Filters, MuteCounts};
pub use folds::{Folds, Repeats};
use keeping::Keeping;
pub use keeping::TakenOff;
pub use ladder::Level;
pub use loader::{HookStatus, LoadError};
pub use protected::Protected;
pub use rings::{Groups, RingSizes};

use self::{
    account::KernelAccount,
    datagrams::{Datagrams, FlowRecord},
    ladder::{Cgroup, Hook},
    loader::{Loaded, Wanted},
    promise::Promise,
    reorder::Reorder,
    reports::Reports,
    rings::{Drained, Rings, possible_cpus},
    sequences::Sequences,
};
use crate::time::BootTime;

/// How to capture.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Bytes of ring memory.
    pub rings: RingSizes,
    /// Bytes waiting in a ring at which the agent is woken.
    pub watermark: u64,
    /// Longest time that a record waits which does not wake the agent itself.
    pub interval: Duration,
    /// How long a record that is still being written may hold up later ones.
    pub reorder_window: Duration,
    /// The v1 controller whose hierarchy names cgroups; `None` for the v2 hierarchy.
    pub cgroup_controller: Option<&'a str>,
    /// Whether system calls are looked at: for the signals that have no other hook here.
    pub calls: bool,
    /// When flows of datagrams are reported.
    pub flows: FlowTimes,
    /// Whether their order is looked at.
    pub sequences: bool,
    /// The best kind of hook that is used.
    pub max_rung: Level,
    /// The process whose own doings are muted.
    pub agent_tgid: u32,
}

/// Kernel programs at work, and the way to what they report.
pub struct Capture {
    loaded: Loaded,
    rings: Rings,
    reorder: Reorder,
    window: Duration,
    interval: Duration,
    watermark: u64,
    promise: Promise,
    last: Drained,
    accounts: Arc<Accounts>,
    listeners: HashMap<MapData, KernelListener, KernelIdentity>,
    filters: Filters,
    folds: Folds,
    mute_counts: Arc<MuteCounts>,
    datagrams: Datagrams,
    _reports: Option<Reports>,
    protected: Option<Protected>,
    births: Option<Births>,
    sequences: Option<Sequences>,
    keeping: Keeping,
}

pod! {
    KernelCall(CallRule);
    KernelListener(ListenerKey);
    KernelIdentity(Identity);
}

impl Capture {
    /// Loads and attaches everything that this kernel accepts.
    ///
    /// # Errors
    /// If nothing can be captured; see [`LoadError`].
    pub fn start(options: &Options<'_>) -> Result<Self, LoadError> {
        let groups = Groups::of_host();
        let mut prepared = loader::prepare(groups, options)?;
        let ebpf = &mut prepared.ebpf;
        let rings = Rings::create(ebpf, options.rings, groups)?;
        let accounts: PerCpuArray<_, KernelAccount> = take(ebpf, "ACCOUNTS")?.try_into()?;
        let listeners = take(ebpf, "LISTENERS")?.try_into()?;
        let datagrams = Datagrams::new(take(ebpf, "DATAGRAMS")?, options.flows)?;
        let protected = Protected::new(take(ebpf, "PROTECTED")?.try_into()?);
        let births = take(ebpf, "BIRTHS")?.try_into()?;
        let promise = Promise::new(take(ebpf, "LOOK_AT")?).map_err(rings::not_mapped)?;
        let folds =
            Folds::new(take(ebpf, "FOLDS")?, folds::slots(possible_cpus())).map_err(rings::not_mapped)?;
        let mute_counts = Arc::new(MuteCounts::new(ebpf)?);
        let initial = Settings {
            enabled: (1 << Signal::COUNT) - 1,
            taken_over: 1 << Signal::Accept as u64 | 1 << Signal::Sysctl as u64,
            watermark: options.watermark,
            pressure: rings.sizes().map(|size| u64::from(size) / 2),
            agent_tgid: options.agent_tgid,
            flow_interval: options.flows.active.as_nanos() as u64,
            ..Settings::default()
        };
        let mut filters = Filters::new(ebpf, initial)?;
        let mut calls: Array<_, KernelCall> = take(ebpf, "CALLS")?.try_into()?;
        for call in calls::CALLS {
            calls.set(call.number, KernelCall(call.rule_here(0)), 0)?;
        }
        let sequences = if options.sequences {
            Some(Sequences::new(ebpf)?)
        } else {
            None
        };
        let loaded = prepared.attach(Wanted {
            max_rung: options.max_rung,
            calls: options.calls,
            sequences: options.sequences,
        })?;
        let taken_over = taken_over(&loaded.hooks);
        // Rows first: what happens between the two is reported by nobody rather than twice.
        for call in calls::CALLS {
            calls.set(call.number, KernelCall(call.rule_here(taken_over)), 0)?;
        }
        filters.change(|settings| settings.taken_over = taken_over)?;

        let reports = loaded.program("tcp_report").and_then(|program| {
            Reports::start(&program, options.flows.active)
                .inspect_err(|error| tracing::warn!("connections are reported at their end only: {error}"))
                .ok()
        });

        let keeping = Keeping::of(&loaded.ebpf, &loaded.hooks);
        Ok(Self {
            keeping,
            accounts: Arc::new(Accounts::new(accounts, loaded.skippable())),
            loaded,
            rings,
            reorder: Reorder::default(),
            window: options.reorder_window,
            interval: options.interval,
            watermark: options.watermark,
            promise,
            last: Drained::default(),
            listeners,
            filters,
            folds,
            mute_counts,
            datagrams,
            _reports: reports,
            protected: Some(protected),
            births: Some(Births::new(births, BootTime::now())),
            sequences,
        })
    }

    /// The list of protected processes, for whoever keeps it: once.
    pub fn take_protected(&mut self) -> Option<Protected> {
        self.protected.take()
    }

    /// When processes began, for whoever must not mistake one for another: once.
    pub fn take_births(&mut self) -> Option<Births> {
        self.births.take()
    }

    /// Attaches again what somebody has taken off, and says what that was. To be called about once a second.
    pub fn keep_attached(&mut self) -> Vec<TakenOff> {
        self.keeping.look(&mut self.loaded.ebpf)
    }

    /// Tells the kernel programs of sockets that listened before they did. What they have seen themselves since
    /// is newer and stays.
    pub fn add_listeners(&mut self, listeners: impl IntoIterator<Item = (ListenerKey, Identity)>) {
        const BPF_NOEXIST: u64 = 1;
        for (key, identity) in listeners {
            let result = self
                .listeners
                .insert(KernelListener(key), KernelIdentity(identity), BPF_NOEXIST);
            if let Err(MapError::SyscallError(error)) = result
                && error.io_error.kind() != io::ErrorKind::AlreadyExists
            {
                tracing::warn!(
                    "cannot note who listens on port {}: {}; its connections have no owner until they are closed",
                    key.port,
                    error.io_error
                );
                return;
            }
        }
    }

    /// The hand on whose order of system calls is looked at, once; `None` where none is.
    pub fn take_sequences(&mut self) -> Option<Sequences> {
        self.sequences.take()
    }

    /// What [`wait`](Self::wait) waits for: something to read, or `stop` becoming readable.
    ///
    /// # Errors
    /// If the kernel has no room for it.
    pub fn alarm(&self, stop: BorrowedFd<'_>) -> io::Result<Alarm> {
        Alarm::new(&self.rings, stop)
    }

    /// Waits until a program asks to be read, or it is time to look.
    pub fn wait(&mut self, alarm: &Alarm) {
        let timeout = if self.last.urgent > 0 {
            self.promise.give(self.last.urgent)
        } else {
            // What came while nobody slept woke nobody: because of the promise, or past the watermark already.
            let wakes_at = if self.promise.take_back() {
                1
            } else {
                self.watermark
            };
            if self.last.blocked {
                self.window
            } else if self.rings.waiting() >= wakes_at {
                return;
            } else {
                self.interval
            }
        };
        if let Err(error) = alarm.wait(timeout) {
            tracing::warn!("cannot wait for records: {error}");
            std::thread::sleep(self.interval);
        }
    }

    /// Hands out the records that nothing earlier can follow, in order.
    pub fn read(&mut self, take: impl FnMut(&[u8])) {
        self.last = self.rings.drain(&mut self.reorder);
        // A program that was held up while it wrote must not hold up everything.
        let overdue = BootTime::now().0.saturating_sub(self.window.as_nanos() as u64);
        self.reorder
            .release(self.last.complete.max(BootTime(overdue)), take);
    }

    /// Takes the flows of datagrams that are over out of the kernel's table, to be handed out in their place. To be called
    /// once a second.
    pub fn collect_flows(&mut self, now: BootTime) {
        let (datagrams, mut note) = self.flows(now);
        datagrams.due(now, &mut note);
    }

    /// The table, and what is done with what is taken out of it: counted as what programs report, seen once, and muted if it
    /// is the agent's own or not wanted.
    fn flows(&mut self, now: BootTime) -> (&mut Datagrams, impl FnMut(&FlowRecord)) {
        let Self {
            datagrams,
            reorder,
            accounts,
            filters,
            ..
        } = self;
        let settings = *filters.settings();
        let note = move |record: &FlowRecord| {
            accounts.seen(Signal::UdpFlow);
            let bytes = record.as_bytes();
            let own = Header::ref_from_prefix(bytes)
                .is_ok_and(|(header, _)| header.identity.tgid == settings.agent_tgid);
            if own || settings.enabled & (1 << Signal::UdpFlow as u64) == 0 {
                accounts.muted(Signal::UdpFlow);
            } else {
                reorder.push(now, bytes);
            }
        };
        (datagrams, note)
    }

    /// Hands out everything that is left, due or not: for the end.
    pub fn read_rest(&mut self, take: impl FnMut(&[u8])) {
        self.rings.drain(&mut self.reorder);
        let now = BootTime::now();
        {
            let (datagrams, mut note) = self.flows(now);
            datagrams.rest(now, &mut note);
        }
        self.reorder.release(BootTime(u64::MAX), take);
    }

    /// The account of events.
    #[must_use]
    pub fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.accounts)
    }

    /// What the programs may be told while they run.
    pub fn filters(&mut self) -> &mut Filters {
        &mut self.filters
    }

    /// What the programs counted instead of reporting it.
    #[must_use]
    pub fn folds(&self) -> &Folds {
        &self.folds
    }

    /// How much was muted in the kernel, by rule.
    #[must_use]
    pub fn mute_counts(&self) -> Arc<MuteCounts> {
        Arc::clone(&self.mute_counts)
    }

    /// How each signal is captured.
    #[must_use]
    pub fn hooks(&self) -> &[HookStatus] {
        &self.loaded.hooks
    }

    /// What stays invisible of every event because this kernel lacks a field.
    #[must_use]
    pub fn blind_spots(&self) -> &[&'static str] {
        &self.loaded.blind_spots
    }

    /// Time from the beginning to every hook attached, and the part that reading the kernel's type information took.
    #[must_use]
    pub fn load_times(&self) -> (Duration, Duration) {
        (self.loaded.load_time, self.loaded.btf_time)
    }

    /// Records that came after a later one had been handed out.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.reorder.late()
    }
}

/// Signals that the lower rung's program must leave to a better one.
fn taken_over(hooks: &[HookStatus]) -> u64 {
    hooks
        .iter()
        .filter(|status| {
            let hook = status.rung.map(|rung| rung.hook);
            matches!(
                hook,
                Some(Hook::FunctionExit(_) | Hook::Cgroup(Cgroup::Sysctl) | Hook::Lsm(_))
            )
        })
        .fold(0, |bits, status| bits | 1 << status.signal as u64)
}

fn take(ebpf: &mut aya::Ebpf, name: &str) -> Result<aya::maps::Map, MapError> {
    ebpf.take_map(name).ok_or(MapError::KeyNotFound)
}
