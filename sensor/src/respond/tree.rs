//! A process and all that descends from it, ended so that nothing of it gets away.
//!
//! A process that is about to be killed can fork meanwhile. So all of them are stopped first: whoever is stopped forks no more, and what
//! it forked before is found as its child and stopped too, until a whole look at the host, begun when all were at rest, finds nothing new.
//! At rest is also who waits for a stopped child of its vfork(2), as shells and `posix_spawn` have them: it cannot be stopped, but kills
//! end that wait.
//! Then all are killed at once. What left the family while it was looked at, because its parent ended, is known from the kernel's events:
//! [`Condemned`] tells of it for [`GRACE`] afterwards.
//!
//! Takes some milliseconds for each hundred processes, and never longer than [`LIMIT`] for each of its halves.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::{
    Births, Refusal,
    kill::{Held, Missed, running},
};
use crate::{
    host::{
        Body, Event, ProcessId,
        proc::{ProcDir, same_tick},
    },
    time::BootTime,
};

/// How long processes are looked for and stopped, and how long they may take to end.
const LIMIT: Duration = Duration::from_secs(5);

/// Most processes that are ended at once; a fork bomb may have more, and then more than once is needed.
const MEMBERS_MAX: usize = 16_384;

/// For how long a killed process's late descendants are ended.
const GRACE: Duration = Duration::from_secs(10);

/// What became of a family.
#[derive(Debug, Default)]
pub(super) struct Felled {
    /// Processes that have ended.
    pub(super) ended: Vec<ProcessId>,
    /// Those that had not within [`LIMIT`]: they will once the kernel lets them.
    pub(super) lingering: usize,
    /// Those that the guard protects, with what it says; what descends from them is theirs.
    pub(super) spared: Vec<(u32, Refusal)>,
    /// Others could not be stopped, or there were too many.
    pub(super) failed: Option<String>,
}

/// A process that descends from another one by what events have told: it may have lost its parents since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descendant {
    pub(super) id: ProcessId,
    /// Those between the two.
    pub(super) between: Vec<ProcessId>,
}

impl Descendant {
    /// Whether it descends from one of those that are spared: then it is theirs.
    fn is_of(&self, spared: &[(u32, Refusal)]) -> bool {
        let is_spared = |id: &ProcessId| spared.iter().any(|(tgid, _)| *tgid == id.tgid);
        self.between.iter().any(is_spared)
    }
}

/// Ends `root` and what descends from it. `known` are descendants that may have lost their parents, those with the fewest between first.
///
/// # Errors
/// If the root itself cannot be acted upon.
pub(super) fn fell(
    root: ProcessId,
    known: &[Descendant],
    births: Option<&dyn Births>,
    allow: impl Fn(u32, &[u8]) -> Result<(), Refusal>,
) -> Result<Felled, Missed> {
    let mut felled = Felled::default();
    let family = freeze(root, known, births, &allow, &mut felled)?;
    for member in &family {
        if let Err(Missed::Failed(error)) = member.signal(Signal::KILL) {
            felled.failed = Some(error);
        }
    }
    let deadline = Instant::now() + LIMIT;
    for member in &family {
        if member.ended_within(deadline.saturating_duration_since(Instant::now())) {
            felled.ended.push(member.id);
        } else {
            felled.lingering += 1;
        }
    }
    Ok(felled)
}

/// Who would be hit, and who would be spared with what the guard says; what descends from them is theirs.
pub(super) fn family(
    root: ProcessId,
    known: &[Descendant],
    allow: impl Fn(u32, &[u8]) -> Result<(), Refusal>,
) -> (Vec<u32>, Vec<(u32, Refusal)>) {
    let mut members = HashSet::from([root.tgid]);
    let mut spared = Vec::new();
    let mut found: Vec<Descendant> = known.to_vec();
    let mut seen = members.clone();
    loop {
        for next in found.drain(..) {
            // Whoever has ended meanwhile is nobody's any more.
            let Some((process, _)) = ProcDir::open_same(next.id) else {
                continue;
            };
            if next.is_of(&spared) || !seen.insert(next.id.tgid) {
                continue;
            }
            match allow(next.id.tgid, &process.executable().0) {
                Ok(()) => _ = members.insert(next.id.tgid),
                Err(refusal) => spared.push((next.id.tgid, refusal)),
            }
        }
        found = children(&members, None, &seen);
        if found.is_empty() {
            break;
        }
    }
    let mut members: Vec<u32> = members.into_iter().collect();
    members.sort_unstable();
    (members, spared)
}

/// Stops them all; the root is the first.
fn freeze(
    root: ProcessId,
    known: &[Descendant],
    births: Option<&dyn Births>,
    allow: &impl Fn(u32, &[u8]) -> Result<(), Refusal>,
    felled: &mut Felled,
) -> Result<Vec<Held>, Missed> {
    allow_descriptors();
    let stop = |id: ProcessId| {
        let held = Held::new(id, births, |executable| allow(id.tgid, executable))?;
        held.signal(Signal::STOP)?;
        Ok(held)
    };
    let mut family = vec![stop(root)?];
    // Whoever was found, stopped or not: nobody is looked at twice.
    let mut seen = HashSet::from([root.tgid]);
    let mut found: Vec<Descendant> = known.to_vec();
    let deadline = Instant::now() + LIMIT;
    loop {
        for next in found.drain(..) {
            let id = next.id;
            if next.is_of(&felled.spared) || !seen.insert(id.tgid) {
                continue;
            }
            match stop(id) {
                Ok(held) => family.push(held),
                // Another may have its id by now, and be one of them.
                Err(Missed::Gone(_)) => _ = seen.remove(&id.tgid),
                Err(Missed::Refused(refusal)) => felled.spared.push((id.tgid, refusal)),
                Err(Missed::Failed(error)) => felled.failed = Some(error),
            }
        }
        // Asked before the look: who is at rest now can have no child that the look does not find.
        let at_rest = family.iter().all(Held::is_at_rest);
        let members: HashSet<u32> = family.iter().map(|held| held.id.tgid).collect();
        found = children(&members, births, &seen);
        if found.is_empty() && at_rest {
            return Ok(family);
        }
        if Instant::now() > deadline || family.len() >= MEMBERS_MAX {
            felled.failed = Some(format!(
                "{} processes were stopped, and there were still more",
                family.len()
            ));
            return Ok(family);
        }
    }
}

/// Processes whose parents are among `members`, but for those that were `seen`.
fn children(members: &HashSet<u32>, births: Option<&dyn Births>, seen: &HashSet<u32>) -> Vec<Descendant> {
    running(births)
        .filter(|(id, _, stat)| {
            members.contains(&stat.parent) && !seen.contains(&id.tgid) && !stat.kernel_thread
        })
        .map(|(id, ..)| Descendant {
            id,
            between: Vec::new(),
        })
        .collect()
}

/// Two descriptors for each process are held until it has ended.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Families that were ended, for as long as the kernel may still tell of their forks.
#[derive(Debug, Default)]
pub(super) struct Condemned {
    /// By process id, the process, and the proposal that it was ended for.
    members: HashMap<u32, (ProcessId, u64)>,
    until: VecDeque<(BootTime, ProcessId)>,
}

impl Condemned {
    /// These were ended at `now`, for the proposal `number`.
    pub(super) fn add(&mut self, ids: impl IntoIterator<Item = ProcessId>, number: u64, now: BootTime) {
        for id in ids {
            self.members.insert(id.tgid, (id, number));
            self.until.push_back((now, id));
        }
    }

    /// For which proposal a process must go that was just forked, if for one. Its own children must, too.
    pub(super) fn of(&mut self, event: &Event) -> Option<u64> {
        if self.members.is_empty() || !matches!(event.body, Body::Fork) {
            return None;
        }
        let process = event.process.as_ref()?;
        let parent = process.parent?;
        let (known, number) = *self.members.get(&parent.tgid)?;
        if !same_tick(known.start, parent.start) {
            return None;
        }
        self.add([process.id], number, event.time);
        Some(number)
    }

    /// Who could not be ended, or is protected, and what they fork from now on.
    pub(super) fn spare(&mut self, id: ProcessId) {
        if self.members.get(&id.tgid).is_some_and(|(known, _)| *known == id) {
            self.members.remove(&id.tgid);
        }
    }

    /// Forgets what is too old.
    pub(super) fn keep(&mut self, now: BootTime) {
        while let Some((time, id)) = self.until.front()
            && now.since(*time) > GRACE
        {
            // Another process may have the number by now, and be condemned itself.
            if self.members.get(&id.tgid).is_some_and(|(known, _)| known == id) {
                self.members.remove(&id.tgid);
            }
            self.until.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
