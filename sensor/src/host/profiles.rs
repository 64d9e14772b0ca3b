//! Whose system calls are profiled, and which workloads have been learned.
//!
//! A workload is learned until it has shown nothing new for as long as is configured; one that never settles, or whose windows are more
//! than are kept, is never enforced. Bounds: as many workloads at once as the kernel programs have numbers, less one; a number is
//! taken back when every cgroup of its workload is gone and another needs it. Beyond, workloads are not profiled, which
//! [`Profiles::report`] says.

use std::{
    collections::HashMap,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;
use sensor_common::sequence::{CGROUPS_MAX, WINDOWS_MAX};
use serde::{Deserialize, Serialize};

use super::{CgroupMount, Workload};
use crate::{
    capture::sequences::{Knowledge, Marker, Sequences, WorkloadNumber},
    detect::SubjectKind,
    time::BootTime,
};

/// Cgroups that are remembered of a workload, to see whether they are gone.
const CGROUPS_OF_ONE: usize = 64;

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
}

impl Profiles {
    /// Nobody yet.
    #[must_use]
    pub fn new(
        profiling: Profiling,
        learning: Duration,
        sequences: Sequences,
        mount: Option<CgroupMount>,
    ) -> Self {
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

    /// Ends the learning of workloads that have shown nothing new for long enough, and reports.
    pub fn refresh(&mut self, now: BootTime) {
        let workloads = self.sequences.workloads();
        let mut profiles = Vec::with_capacity(self.subjects.len());
        for (number, subject) in &self.subjects {
            let mut knowledge = workloads.get(*number);
            let quiet = now.since(knowledge.learned_at.max(subject.since));
            let is_full = knowledge.windows >= WINDOWS_MAX;
            if !knowledge.enforced && !is_full && knowledge.windows > 0 && quiet >= self.learning {
                tracing::info!(
                    "{} has shown no new order of system calls for {quiet:?}: from {} windows on, what is new is reported",
                    subject.workload,
                    knowledge.windows
                );
                self.sequences.enforce(*number, true);
                knowledge.enforced = true;
            }
            profiles.push(Profile {
                workload: subject.workload.clone(),
                knowledge,
            });
        }
        profiles.sort_unstable_by(|left, right| left.workload.cmp(&right.workload));
        *self.report.0.lock().unwrap_or_else(PoisonError::into_inner) = profiles;
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
            .or_else(|| self.take_back())?;
        let subject = Subject {
            workload: workload.into(),
            cgroups: Vec::new(),
            since: now,
        };
        self.subjects.insert(number, subject);
        Some(number)
    }

    fn take_back(&mut self) -> Option<WorkloadNumber> {
        let is_gone = |subject: &Subject| {
            !subject.cgroups.is_empty() && !subject.cgroups.iter().any(|directory| directory.exists())
        };
        let gone = self.subjects.iter().filter(|(_, subject)| is_gone(subject));
        let number = *gone.min_by_key(|(_, subject)| subject.since)?.0;
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
