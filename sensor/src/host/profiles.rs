//! Whose system calls are profiled, and which workloads have been learned.
//!
//! A workload is learned until it has shown nothing new for as long as is configured; one that never settles, or whose windows are more
//! than are kept, is never enforced. Bounds: as many workloads at once as the kernel programs have numbers, less one; a number is
//! taken back when every cgroup of its workload is gone and another needs it. Beyond, workloads are not profiled, which
//! the log says once.
//!
//! What was learned is kept over the agent's end, and while a workload is gone: see [`Windows`] for how much of it.

mod store;

use std::{
    collections::HashMap,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;
use sensor_behaviour::windows::{Known, Windows};
use sensor_common::sequence::{CGROUPS_MAX, WINDOWS_MAX};
use serde::{Deserialize, Serialize};

use self::store::Store;
pub use self::store::write as write_windows;
use super::{CgroupMount, Workload};
use crate::{
    capture::sequences::{Knowledge, Marker, Sequences, WorkloadNumber},
    detect::SubjectKind,
    time::{BootTime, WallTime},
};

/// Cgroups that are remembered of a workload, to see whether they are gone.
const CGROUPS_OF_ONE: usize = 64;

/// What was learned is written this often, and when a workload has been learned.
const SAVE: Duration = Duration::from_secs(300);

/// Looks at the processes of a cgroup, each of which may find new ones.
const ROUNDS: usize = 3;

/// Whose system calls are looked at for new orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profiling {
    /// Nobody's.
    Off,
    /// Those of units, containers and other cgroups; not of people's sessions and of what is in no cgroup.
    #[default]
    Auto,
    /// Everybody's.
    On,
}

impl Profiling {
    fn includes(self, workload: &Workload) -> bool {
        match SubjectKind::of(workload) {
            Some(SubjectKind::Unit | SubjectKind::Container | SubjectKind::Cgroup) => self != Self::Off,
            Some(SubjectKind::Session | SubjectKind::Host) => self == Self::On,
            None => false,
        }
    }
}

/// How it is with a profiled workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub workload: Box<str>,
    /// What is known of it.
    pub knowledge: Knowledge,
}

impl Profile {
    /// `learning`, `enforced`, or `full`: more windows than are kept.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.knowledge {
            Knowledge { enforced: true, .. } => "enforced",
            Knowledge {
                windows: WINDOWS_MAX..,
                ..
            } => "full",
            _ => "learning",
        }
    }
}

/// The profiles there are, readable from any thread.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<Mutex<Vec<Profile>>>);

impl Report {
    /// As they were a moment ago.
    #[must_use]
    pub fn profiles(&self) -> Vec<Profile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Subject {
    workload: Box<str>,
    /// Directories of its cgroups.
    cgroups: Vec<PathBuf>,
    since: BootTime,
    /// For how long it had shown nothing new before.
    quiet_before: Duration,
}

impl Subject {
    /// For how long it has shown nothing new.
    fn quiet(&self, knowledge: &Knowledge, now: BootTime) -> Duration {
        if knowledge.learned_at > self.since {
            now.since(knowledge.learned_at)
        } else {
            self.quiet_before + now.since(self.since)
        }
    }
}

/// What is kept of a workload beside its windows.
struct Memory {
    workload: Box<str>,
    settled: bool,
    quiet: Duration,
}

impl Memory {
    fn of(subject: &Subject, knowledge: &Knowledge, now: BootTime) -> Self {
        Self {
            workload: subject.workload.clone(),
            settled: knowledge.enforced,
            quiet: subject.quiet(knowledge, now),
        }
    }

    fn keep(self, windows: Vec<u64>, all: &mut Windows) {
        if windows.is_empty() {
            return;
        }
        let mut known = Known::new(windows);
        known.settled = self.settled;
        known.quiet_seconds = self.quiet.as_secs();
        known.seen_unix_seconds = WallTime::now().0 / 1_000_000_000;
        all.put(&self.workload, known);
    }
}

/// Who is profiled.
pub struct Profiles {
    profiling: Profiling,
    learning: Duration,
    sequences: Sequences,
    mount: Option<CgroupMount>,
    /// Cgroups that were decided about.
    decided: LruCache<u64, ()>,
    subjects: HashMap<WorkloadNumber, Subject>,
    report: Report,
    /// It has been said that there are too many.
    said: bool,
    /// What is known of workloads that are not profiled at the moment.
    kept: Windows,
    /// Where it is kept over the agent's end; `None`: nowhere.
    store: Option<Store>,
    saved: BootTime,
    /// More was learned than should wait.
    is_due: bool,
}

impl Profiles {
    /// Nobody yet. What was learned is kept in the directory `state`, or forgotten if there is none.
    #[must_use]
    pub fn new(
        profiling: Profiling,
        learning: Duration,
        sequences: Sequences,
        mount: Option<CgroupMount>,
        state: Option<&Path>,
    ) -> Self {
        let (store, kept) = state.map(Store::open).unwrap_or_default();
        let remembered = NonZeroUsize::new(CGROUPS_MAX as usize).unwrap_or(NonZeroUsize::MIN);
        Self {
            profiling,
            learning,
            sequences,
            mount,
            decided: LruCache::new(remembered),
            subjects: HashMap::new(),
            report: Report::default(),
            said: false,
            kept,
            store,
            saved: BootTime::now(),
            is_due: false,
        }
    }

    /// Profiles a workload of which something was seen, if it is one of those that are. Asked about every new process, it looks at a
    /// cgroup once.
    pub fn consider(&mut self, workload: &Workload, now: BootTime) {
        if self.decided.get(&workload.cgroup_id).is_some() {
            return;
        }
        self.decided.push(workload.cgroup_id, ());
        if !self.profiling.includes(workload) {
            return;
        }
        let Some(number) = self.number(&workload.name, now) else {
            self.say_too_many(workload);
            return;
        };
        if let Err(error) = self.sequences.add_cgroup(workload.cgroup_id, number) {
            tracing::warn!(
                "cannot profile the system calls of {}: {error}; they are not looked at for new orders",
                workload.name
            );
            return;
        }
        let Some(mount) = &self.mount else { return };
        let directory = mount.directory(&workload.cgroup);
        self.mark_all(&directory, number);
        if let Some(subject) = self.subjects.get_mut(&number) {
            if subject.cgroups.len() == CGROUPS_OF_ONE {
                subject.cgroups.remove(0);
            }
            subject.cgroups.push(directory);
        }
    }

    /// Ends the learning of workloads that have shown nothing new for long enough, reports, and lets what was learned be kept.
    pub fn refresh(&mut self, now: BootTime) {
        let workloads = self.sequences.workloads();
        let mut profiles = Vec::with_capacity(self.subjects.len());
        for (number, subject) in &self.subjects {
            let mut knowledge = workloads.get(*number);
            let quiet = subject.quiet(&knowledge, now);
            let is_full = knowledge.windows >= WINDOWS_MAX;
            if !knowledge.enforced && !is_full && knowledge.windows > 0 && quiet >= self.learning {
                tracing::info!(
                    "{} has shown no new order of system calls for {quiet:?}: from {} windows on, what is new is reported",
                    subject.workload,
                    knowledge.windows
                );
                self.sequences.enforce(*number, true);
                knowledge.enforced = true;
                self.is_due = true;
            }
            profiles.push(Profile {
                workload: subject.workload.clone(),
                knowledge,
            });
        }
        profiles.sort_unstable_by(|left, right| left.workload.cmp(&right.workload));
        *self.report.0.lock().unwrap_or_else(PoisonError::into_inner) = profiles;
        if self.is_due || now.since(self.saved) >= SAVE {
            self.save(now);
        }
    }

    /// Keeps what was learned, at the end.
    pub fn finish(&mut self, now: BootTime) {
        if let Some(store) = &mut self.store {
            store.finish();
        }
        self.save(now);
        if let Some(store) = &mut self.store {
            store.finish();
        }
    }

    /// Lets it be written, unless the last is still being written.
    fn save(&mut self, now: BootTime) {
        let Some(store) = self.store.as_mut().filter(|store| !store.is_busy()) else {
            return;
        };
        let mut learned = match self.sequences.learned() {
            Ok(learned) => learned,
            Err(error) => {
                tracing::warn!("cannot read what was learned of workloads: {error}; it is not kept");
                return;
            }
        };
        let workloads = self.sequences.workloads();
        let live: Vec<_> = self
            .subjects
            .iter()
            .map(|(number, subject)| {
                let windows = std::mem::take(&mut learned[number.index()]);
                (Memory::of(subject, &workloads.get(*number), now), windows)
            })
            .collect();
        let mut all = self.kept.clone();
        store.save(move || {
            for (memory, windows) in live {
                memory.keep(windows, &mut all);
            }
            all
        });
        self.saved = now;
        self.is_due = false;
    }

    /// The profiles there are.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// The number of a workload: its own, a free one, or that of one that is gone.
    fn number(&mut self, workload: &str, now: BootTime) -> Option<WorkloadNumber> {
        let known = self
            .subjects
            .iter()
            .find(|(_, subject)| &*subject.workload == workload);
        if let Some((number, _)) = known {
            return Some(*number);
        }
        let number = WorkloadNumber::all()
            .find(|number| !self.subjects.contains_key(number))
            .or_else(|| self.take_back(now))?;
        let quiet_before = self.remember(workload, number);
        let subject = Subject {
            workload: workload.into(),
            cgroups: Vec::new(),
            since: now,
            quiet_before,
        };
        self.subjects.insert(number, subject);
        Some(number)
    }

    /// Lets a workload go on where it was when it was seen last. For how long it had shown nothing new then.
    fn remember(&mut self, workload: &str, number: WorkloadNumber) -> Duration {
        let Some(known) = self.kept.take(workload) else {
            return Duration::ZERO;
        };
        match self.sequences.restore(number, known.windows()) {
            Ok(true) => self.sequences.enforce(number, known.settled),
            Ok(false) => {
                tracing::warn!(
                    "there is no room for all orders of system calls that {workload} is known for: it is learned on"
                );
                return Duration::ZERO;
            }
            Err(error) => {
                tracing::warn!("cannot restore what is known of {workload}: {error}; it is learned anew");
                return Duration::ZERO;
            }
        }
        Duration::from_secs(known.quiet_seconds)
    }

    fn take_back(&mut self, now: BootTime) -> Option<WorkloadNumber> {
        let is_gone = |subject: &Subject| {
            !subject.cgroups.is_empty() && !subject.cgroups.iter().any(|directory| directory.exists())
        };
        let gone = self.subjects.iter().filter(|(_, subject)| is_gone(subject));
        let (number, subject) = gone.min_by_key(|(_, subject)| subject.since)?;
        let number = *number;
        let memory = Memory::of(subject, &self.sequences.workloads().get(number), now);
        if let Ok(mut learned) = self.sequences.learned() {
            memory.keep(std::mem::take(&mut learned[number.index()]), &mut self.kept);
        }
        self.sequences
            .forget(number)
            .inspect_err(|error| {
                tracing::warn!("cannot forget the system calls of a workload that is gone: {error}")
            })
            .ok()?;
        self.subjects.remove(&number);
        Some(number)
    }

    /// Until no process is new: one may have forked before it was marked.
    fn mark_all(&self, directory: &Path, number: WorkloadNumber) {
        let marker = match self.sequences.marker() {
            Ok(marker) => marker,
            Err(error) => {
                tracing::warn!(
                    "cannot profile what runs in {} already: {error}; only new programs are profiled",
                    directory.display()
                );
                return;
            }
        };
        for _ in 0..ROUNDS {
            let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            let threads = list
                .lines()
                .filter_map(|line| line.parse().ok())
                .flat_map(threads);
            let marked = threads.filter(|tid| mark(&marker, *tid, number)).count();
            if marked == 0 {
                return;
            }
        }
    }

    fn say_too_many(&mut self, workload: &Workload) {
        if !self.said {
            self.said = true;
            tracing::warn!(
                "{} workloads are profiled, which is all there is room for: the system calls of {} and of others are not looked at for new orders",
                self.subjects.len(),
                workload.name
            );
        }
    }
}

fn mark(marker: &Marker<'_>, tid: u32, number: WorkloadNumber) -> bool {
    let is_marked = marker.mark(tid, number);
    // It may have ended just before, and nobody else would take the mark back.
    if is_marked && !Path::new(&format!("/proc/{tid}")).exists() {
        marker.unmark(tid);
    }
    is_marked
}

/// Threads of a process other than the agent, whose calls are its own doing.
fn threads(tgid: u32) -> impl Iterator<Item = u32> {
    let tasks = (tgid != std::process::id()).then(|| fs::read_dir(format!("/proc/{tgid}/task")).ok());
    let entries = tasks.flatten().into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_left_alone_unless_all_are_wanted() {
        for (name, auto, on) in [
            ("unit:nginx.service", true, true),
            ("container:3f2a", true, true),
            ("cgroup:/batch", true, true),
            ("session:1000", false, true),
            ("host", false, true),
            ("unknown", false, false),
        ] {
            let workload = Workload {
                name: name.into(),
                ..Workload::default()
            };
            assert!(!Profiling::Off.includes(&workload), "{name}");
            assert_eq!(Profiling::Auto.includes(&workload), auto, "{name}");
            assert_eq!(Profiling::On.includes(&workload), on, "{name}");
        }
    }
}
