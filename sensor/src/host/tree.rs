//! The processes of this host, as far as they are known.
//!
//! Invariants:
//! - There are never more than [`Limits::processes`] entries, of which at most [`Limits::exited`] have ended, and
//!   the images of all of them retain at most [`Limits::image_bytes`].
//! - What is given up first: processes that ended, the longest gone first; then the arguments of the oldest
//!   images; then live processes, the longest silent first. A live one that is heard of again is read anew.
//! - A parent is linked by id. A link by reference would let an endless chain of forks retain every ancestor.
//! - Of one process id, one process is live. A later start displaces an earlier one, whose exit was missed.

use std::sync::Arc;

use lru::LruCache;

use super::{Credentials, Image, Namespaces, Process, ProcessId, Workload, images::Images, proc::same_tick};
use crate::time::BootTime;

/// How much a [`Tree`] may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes, ended ones included; at least 1.
    pub processes: usize,
    /// Ended processes that are kept, so that late events and children find them.
    pub exited: usize,
    /// Bytes that all images together retain.
    pub image_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 65_536,
            exited: 8_192,
            image_bytes: 16 << 20,
        }
    }
}

/// What an event says of the process that acted, or `/proc` of one that runs: all but its image.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Which process.
    pub id: ProcessId,
    /// Its parent.
    pub parent: Option<ProcessId>,
    /// Who it runs as and for.
    pub credentials: Credentials,
    /// What it is part of.
    pub workload: Arc<Workload>,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// A kernel thread.
    pub kernel_thread: bool,
}

impl Facts {
    fn with_image(self, image: Arc<Image>) -> Arc<Process> {
        let Self {
            id,
            parent,
            credentials,
            workload,
            namespaces,
            kernel_thread,
        } = self;
        Arc::new(Process {
            id,
            parent,
            image,
            credentials,
            workload,
            namespaces,
            kernel_thread,
        })
    }

    /// The parent of a process that is known as `process`. It stays the child of whoever started it: that the kernel gave it to another when that
    /// one ended says nothing of where it came from.
    fn parent_of(&self, process: &Process) -> Option<ProcessId> {
        match (process.parent, self.parent) {
            // The same, and perhaps more exactly.
            (Some(first), Some(now)) if first.tgid == now.tgid => Some(now),
            (first, now) => first.or(now),
        }
    }

    fn describe(&self, process: &Process) -> bool {
        process.id == self.id
            && process.parent == self.parent_of(process)
            && process.credentials == self.credentials
            && process.namespaces == self.namespaces
            && process.kernel_thread == self.kernel_thread
            && Arc::ptr_eq(&process.workload, &self.workload)
    }
}

/// How well the start time of a live process is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// From a kernel event, and never seen otherwise.
    Exact,
    /// From `/proc`: rounded down to a clock tick. The first event from within the tick makes it exact.
    Approximate,
    /// Exact by now; children may still name it by the rounded one.
    Adopted(BootTime),
}

#[derive(Debug)]
struct Live {
    process: Arc<Process>,
    start: Start,
}

impl Live {
    fn is(&self, start: BootTime) -> bool {
        self.process.id.start == start
            || match self.start {
                Start::Exact => false,
                Start::Approximate => same_tick(self.process.id.start, start),
                Start::Adopted(rounded) => rounded == start,
            }
    }
}

#[derive(Debug)]
struct Exited {
    process: Arc<Process>,
    /// False where only its successor with the same process id told that it had ended.
    reported: bool,
}

/// What an exit was.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The end of this process.
    First(Arc<Process>),
    /// Reported before: on older kernels two threads that die at once can both look like the last.
    Duplicate,
}

/// Ended processes that are looked through for the latest of a process id.
const LATE_MAX: usize = 4_096;

/// The bounded table of processes.
#[derive(Debug)]
pub struct Tree {
    limits: Limits,
    /// By process id; least recently heard of first.
    live: LruCache<u32, Live>,
    /// In the order in which they ended.
    exited: LruCache<ProcessId, Exited>,
    images: Images,
    unknown: Arc<Image>,
}

impl Tree {
    /// An empty tree.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            live: LruCache::unbounded(),
            exited: LruCache::unbounded(),
            images: Images::default(),
            unknown: Arc::default(),
        }
    }

    /// Number of processes known, ended ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len() + self.exited.len()
    }

    /// Whether no process is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of processes that are believed to live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Bytes that images retain.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        self.images.bytes()
    }

    /// The process of this id, ended or not, and whatever its start was known as.
    #[must_use]
    pub fn get(&self, id: ProcessId) -> Option<&Arc<Process>> {
        self.live
            .peek(&id.tgid)
            .filter(|live| live.is(id.start))
            .map(|live| &live.process)
            .or_else(|| self.exited.peek(&id).map(|exited| &exited.process))
    }

    /// Which process has this process id now.
    #[must_use]
    pub fn live_id(&self, tgid: u32) -> Option<ProcessId> {
        self.live.peek(&tgid).map(|live| live.process.id)
    }

    /// Which process has this process id now, or had it last, among those that ended of late.
    #[must_use]
    pub fn latest_id(&self, tgid: u32) -> Option<ProcessId> {
        let ended = || {
            let mut ended = self.exited.iter().take(LATE_MAX).map(|(id, _)| *id);
            ended.find(|id| id.tgid == tgid)
        };
        self.live_id(tgid).or_else(ended)
    }

    /// Every live process, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Process>> {
        self.live.iter().map(|(_, live)| &live.process)
    }

    /// Enters a process that was found in `/proc`, its start rounded down to a tick.
    ///
    /// What events have said of it already is better and stays.
    pub fn enter_snapshot(&mut self, facts: Facts, image: Image) {
        if let Some(live) = self.live.peek(&facts.id.tgid)
            && (same_tick(facts.id.start, live.process.id.start) || live.process.id.start > facts.id.start)
        {
            return;
        }
        self.insert_live(facts.with_image(Arc::new(image)), Start::Approximate);
    }

    /// The process as `facts` now describe it, if it is known; what changed is remembered.
    ///
    /// An ended process stays as it ended.
    pub fn touch(&mut self, facts: &Facts) -> Option<Arc<Process>> {
        if let Some(live) = self.live.get_mut(&facts.id.tgid)
            && live.is(facts.id.start)
        {
            live.adopt(facts.id.start);
            if live.process.id == facts.id && !facts.describe(&live.process) {
                let mut facts = facts.clone();
                facts.parent = facts.parent_of(&live.process);
                live.process = facts.with_image(Arc::clone(&live.process.image));
            }
            return Some(Arc::clone(&live.process));
        }
        self.exited
            .peek(&facts.id)
            .map(|exited| Arc::clone(&exited.process))
    }

    /// Enters a process that no event has told of. Without an `image`, what it runs stays unknown.
    pub fn enter(&mut self, facts: Facts, image: Option<Image>) -> Arc<Process> {
        let image = image.map_or_else(|| Arc::clone(&self.unknown), Arc::new);
        let process = facts.with_image(image);
        self.insert_live(Arc::clone(&process), Start::Exact);
        process
    }

    /// `child` was forked from a process that runs `image`.
    ///
    /// A child that is known already (its own event, or the snapshot, came first) keeps its newer image.
    pub fn fork(&mut self, child: Facts, image: &Arc<Image>) -> Arc<Process> {
        if let Some(known) = self.touch(&child) {
            return known;
        }
        let process = child.with_image(Arc::clone(image));
        self.insert_live(Arc::clone(&process), Start::Exact);
        process
    }

    /// The process replaced its program by `image`. Gives what it is now, and what it ran before.
    pub fn exec(&mut self, mut facts: Facts, image: Image) -> (Arc<Process>, Option<Arc<Image>>) {
        let known = self.touch(&facts);
        if let Some(known) = &known {
            facts.parent = facts.parent_of(known);
        }
        let previous = known.map(|process| Arc::clone(&process.image));
        let process = facts.with_image(Arc::new(image));
        let id = process.id;
        if let Some(ended) = self.exited.peek_mut(&id) {
            // Its exit overtook its exec: what it ran last is worth knowing, but it stays ended.
            self.images.add(&process.image);
            self.images.remove(&ended.process.image);
            ended.process = Arc::clone(&process);
        } else if let Some(live) = self.live.peek_mut(&id.tgid).filter(|live| live.process.id == id) {
            self.images.add(&process.image);
            self.images.remove(&live.process.image);
            live.process = Arc::clone(&process);
        } else {
            self.insert_live(Arc::clone(&process), Start::Exact);
            return (process, previous);
        }
        self.keep_bounds();
        (process, previous)
    }

    /// The process ended.
    pub fn exit(&mut self, facts: Facts) -> Ended {
        if let Some(exited) = self.exited.peek_mut(&facts.id) {
            if exited.reported {
                return Ended::Duplicate;
            }
            exited.reported = true;
            return Ended::First(Arc::clone(&exited.process));
        }
        let process = match self.touch(&facts) {
            Some(process) => {
                self.live.pop(&process.id.tgid);
                process
            }
            None => {
                let process = facts.with_image(Arc::clone(&self.unknown));
                self.images.add(&process.image);
                process
            }
        };
        self.insert_exited(Arc::clone(&process), true);
        self.keep_bounds();
        Ended::First(process)
    }

    /// Takes over a process as another tree had it, as from a recording; `ended` if it is no more.
    pub fn restore(&mut self, process: &Arc<Process>, ended: bool) {
        let known = self.live.get_mut(&process.id.tgid);
        match known.filter(|live| live.process.id == process.id) {
            Some(live) if Arc::ptr_eq(&live.process, process) => {}
            Some(live) => {
                self.images.add(&process.image);
                self.images.remove(&live.process.image);
                live.process = Arc::clone(process);
            }
            None if self.exited.contains(&process.id) => return,
            None => self.insert_live(Arc::clone(process), Start::Exact),
        }
        if ended && let Some(live) = self.live.pop(&process.id.tgid) {
            self.insert_exited(live.process, true);
        }
        self.keep_bounds();
    }

    fn insert_live(&mut self, process: Arc<Process>, start: Start) {
        let tgid = process.id.tgid;
        self.images.add(&process.image);
        match self.live.pop(&tgid) {
            Some(live) if live.process.id.start > process.id.start => {
                // A late word of a process whose id has been reused since.
                self.live.push(tgid, live);
                self.insert_exited(process, false);
            }
            Some(live) => {
                self.insert_exited(live.process, false);
                self.live.push(tgid, Live { process, start });
            }
            None => {
                self.live.push(tgid, Live { process, start });
            }
        }
        self.keep_bounds();
    }

    /// Takes over the count of the process's image.
    fn insert_exited(&mut self, process: Arc<Process>, reported: bool) {
        if let Some((_, replaced)) = self.exited.push(process.id, Exited { process, reported }) {
            self.images.remove(&replaced.process.image);
        }
        while self.exited.len() > self.limits.exited {
            self.forget_exited();
        }
    }

    /// Makes room. The process that is being spoken of was heard of last, so it is the last to go.
    fn keep_bounds(&mut self) {
        while self.len() > self.limits.processes {
            if !self.forget_exited() && !self.forget_live() {
                break;
            }
        }
        if self.images.bytes() <= self.limits.image_bytes {
            return;
        }
        while self.images.bytes() > self.limits.image_bytes && self.forget_exited() {}
        self.drop_args();
        while self.images.bytes() > self.limits.image_bytes && self.forget_live() {}
    }

    fn forget_exited(&mut self) -> bool {
        let Some((_, exited)) = self.exited.pop_lru() else {
            return false;
        };
        self.images.remove(&exited.process.image);
        true
    }

    fn forget_live(&mut self) -> bool {
        let Some((_, live)) = self.live.pop_lru() else {
            return false;
        };
        self.images.remove(&live.process.image);
        true
    }

    /// Drops the arguments of the oldest images. Every process that shares one is looked for in one pass, so
    /// an eighth more than needed is dropped, and a pass is paid for by hundreds of execs.
    fn drop_args(&mut self) {
        if self.images.bytes() <= self.limits.image_bytes {
            return;
        }
        let stripped = self.images.strip_oldest(self.limits.image_bytes / 8 * 7);
        if stripped.is_empty() {
            return;
        }
        for (_, live) in self.live.iter_mut() {
            if let Some(image) = stripped.get(&Arc::as_ptr(&live.process.image).addr()) {
                self.images.add(image);
                self.images.remove(&live.process.image);
                live.process = Arc::new(Process {
                    image: Arc::clone(image),
                    ..(*live.process).clone()
                });
            }
        }
    }
}

impl Live {
    fn adopt(&mut self, exact: BootTime) {
        if self.start == Start::Approximate {
            self.start = Start::Adopted(self.process.id.start);
            if self.process.id.start != exact {
                let id = ProcessId {
                    start: exact,
                    ..self.process.id
                };
                self.process = Arc::new(Process {
                    id,
                    ..(*self.process).clone()
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
