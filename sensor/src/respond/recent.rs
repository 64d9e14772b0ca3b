//! What happened of late, for whoever makes a bundle: a process that is looked at now did something before.
//!
//! Kept is what a story is made of: programs, processes, credentials, sessions, the kernel, connections, names that were asked for. Files, which are
//! opened by the hundred thousand, are not. Each process has its own: how it began and what it did last, [`OF_EACH`] events at most. Bounds of all together: [`EVENTS`], whose
//! arguments have [`BYTES`]. Those who have ended make room first, the longest ago before the others: whoever starts thousands of programs pushes those out, and
//! not the story of somebody who still runs.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use sensor_common::{Class, Signal};

use crate::host::{Body, Event, ProcessId};

/// Events that are kept: on a quiet host those of hours, on a busy one of minutes.
const EVENTS: usize = 4_096;

/// Bytes of arguments that they hold.
const BYTES: usize = 1 << 20;

/// Events that are kept of one process.
const OF_EACH: usize = 64;

/// The latest events, by process.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// By number, which counts them.
    events: BTreeMap<u64, Arc<Event>>,
    /// Which of them are of a process, in order.
    numbers: HashMap<ProcessId, VecDeque<u64>>,
    /// Processes that have ended, the longest ago first.
    ended: VecDeque<ProcessId>,
    next: u64,
    bytes: usize,
}

impl Recent {
    pub(super) fn note(&mut self, event: &Arc<Event>) {
        let signal = event.body.signal();
        let is_connection = matches!(signal, Signal::Connect | Signal::Accept | Signal::Dns);
        let Some(process) = &event.process else { return };
        if signal.class() != Class::Critical && !is_connection {
            return;
        }
        self.next += 1;
        self.bytes += cost(event);
        self.events.insert(self.next, Arc::clone(event));
        let own = self.numbers.entry(process.id).or_default();
        own.push_back(self.next);
        if own.len() > OF_EACH
            && let Some(number) = own.remove(1)
        {
            self.forget(number);
        }
        if matches!(event.body, Body::Exit(_)) {
            self.ended.push_back(process.id);
        }
        while self.events.len() > EVENTS || self.bytes > BYTES {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        if let Some(ended) = self.ended.pop_front() {
            for number in self.numbers.remove(&ended).into_iter().flatten() {
                self.forget(number);
            }
            return;
        }
        let Some((number, oldest)) = self.events.pop_first() else {
            return;
        };
        self.bytes -= cost(&oldest);
        let Some(process) = &oldest.process else { return };
        if let Some(own) = self.numbers.get_mut(&process.id) {
            own.retain(|other| *other != number);
            if own.is_empty() {
                self.numbers.remove(&process.id);
            }
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some(event) = self.events.remove(&number) {
            self.bytes -= cost(&event);
        }
    }

    /// Those of these processes, in order.
    pub(super) fn of(&self, processes: &HashSet<ProcessId>) -> Vec<Arc<Event>> {
        let numbers = processes.iter().filter_map(|id| self.numbers.get(id)).flatten();
        let mut numbers: Vec<u64> = numbers.copied().collect();
        numbers.sort_unstable();
        let events = numbers.iter().filter_map(|number| self.events.get(number));
        events.cloned().collect()
    }
}

/// Images are shared by those who were forked from one exec, so this is more than is held, never less.
fn cost(event: &Event) -> usize {
    let image = event.process.as_ref().map(|process| &process.image);
    image.map_or(0, |image| {
        image.args.len() + image.executable.len() + image.cwd.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        detect::testing::process,
        host::{Body, Exit, Image, Process, Thread},
        time::{BootTime, WallTime},
    };

    fn ended(tgid: u32) -> Arc<Event> {
        let mut event = Event::clone(&fork(tgid, 0));
        event.body = Body::Exit(Exit::Code(0));
        Arc::new(event)
    }

    fn fork(tgid: u32, args: usize) -> Arc<Event> {
        let mut process = Process::clone(&process("host", "/bin/a", None));
        process.id.tgid = tgid;
        process.image = Arc::new(Image {
            args: vec![b'a'; args].into(),
            ..Image::default()
        });
        Arc::new(Event {
            time: BootTime(1),
            wall: WallTime(1),
            cpu: 0,
            process: Some(Arc::new(process)),
            parent: None,
            thread: Thread::default(),
            body: Body::Fork,
        })
    }

    #[test]
    fn events_and_what_they_hold_are_bounded() {
        let mut recent = Recent::default();
        for tgid in 0..10_000 {
            recent.note(&fork(tgid, 10));
        }
        assert_eq!((recent.events.len(), recent.bytes), (EVENTS, EVENTS * 10));
        for tgid in 0..100 {
            recent.note(&fork(tgid, BYTES / 8));
        }
        assert_eq!((recent.events.len(), recent.bytes), (8, BYTES));
        recent.note(&fork(1, 2 * BYTES));
        assert_eq!((recent.events.len(), recent.bytes), (0, 0));
    }

    #[test]
    fn who_runs_is_remembered_whoever_comes_and_goes() {
        let mut recent = Recent::default();
        for _ in 0..100 {
            recent.note(&fork(1, 10));
        }
        for tgid in 2..20_000 {
            recent.note(&fork(tgid, 10));
            recent.note(&ended(tgid));
        }
        let id = |tgid| ProcessId {
            tgid,
            start: BootTime(1),
        };
        let of = |tgid| recent.of(&HashSet::from([id(tgid)])).len();
        assert_eq!((of(1), of(2), of(19_999)), (OF_EACH, 0, 2));
        assert!(recent.events.len() <= EVENTS && recent.numbers.len() <= EVENTS);
        assert!(recent.ended.len() <= EVENTS);
    }

    #[test]
    fn those_of_a_family_are_found_in_order() {
        let mut recent = Recent::default();
        for tgid in [1, 2, 3, 2] {
            recent.note(&fork(tgid, 1));
        }
        let family = HashSet::from([1, 2].map(|tgid| ProcessId {
            tgid,
            start: BootTime(1),
        }));
        let found = recent.of(&family);
        let found: Vec<u32> = found
            .iter()
            .filter_map(|event| Some(event.process.as_ref()?.id.tgid))
            .collect();
        assert_eq!(found, [1, 2, 2]);
    }
}
