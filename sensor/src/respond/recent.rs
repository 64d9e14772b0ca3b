//! What happened of late, for whoever makes a bundle: a process that is looked at now did something before.
//!
//! Kept is what a story is made of: programs, processes, credentials, sessions, the kernel, connections, names that were asked for. Files, which are
//! opened by the hundred thousand, are not. Bounds: [`EVENTS`], whose arguments have [`BYTES`] together.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use sensor_common::{Class, Signal};

use crate::host::{Event, ProcessId};

/// Events that are kept: on a quiet host those of hours, on a busy one of seconds.
const EVENTS: usize = 4_096;

/// Bytes of arguments that they hold.
const BYTES: usize = 1 << 20;

/// The latest events, in order.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Recent {
    pub(super) fn note(&mut self, event: &Arc<Event>) {
        let signal = event.body.signal();
        let is_connection = matches!(signal, Signal::Connect | Signal::Accept | Signal::Dns);
        if signal.class() != Class::Critical && !is_connection {
            return;
        }
        self.bytes += cost(event);
        self.events.push_back(Arc::clone(event));
        while self.events.len() > EVENTS || self.bytes > BYTES {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= cost(&oldest);
        }
    }

    /// Those of these processes.
    pub(super) fn of(&self, processes: &HashSet<ProcessId>) -> Vec<Arc<Event>> {
        let its = |event: &&Arc<Event>| {
            event
                .process
                .as_ref()
                .is_some_and(|process| processes.contains(&process.id))
        };
        self.events.iter().filter(its).cloned().collect()
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
        host::{Body, Image, Process, Thread},
        time::{BootTime, WallTime},
    };

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
