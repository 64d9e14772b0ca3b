//! Recordings through the detection: the same recording and the same configuration give the same incidents, whatever machine it is done on.
//!
//! A recording may be moved in time ([`Shift`]), so that what was recorded in a minute can be a background of days. What began before the recording did is the same
//! process each time it is played; what began in it is another each time.
//!
//! Bounds: those of the process tree and of the detector.

use std::sync::Arc;

use crate::{
    config::Config,
    detect::{Detector, Findings},
    host::{Body, Event, Process, ProcessId, Tree},
    recording::{About, Recorded},
    rules::RuleSet,
    time::{BootTime, WallTime},
};

/// By how many nanoseconds a recording is moved; back, if below 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// Boot time.
    pub boot: i64,
    /// People's time.
    pub wall: i64,
}

/// Events of one or more recordings, in the order of their times.
pub struct Replay {
    detector: Detector,
    processes: Tree,
    shift: Shift,
    /// Time of the first event of the recording that is played.
    began: Option<BootTime>,
    /// Events that were played, and that the recordings say were lost.
    events: u64,
    lost: u64,
}

impl Replay {
    /// Of recordings of `host`.
    #[must_use]
    pub fn new(config: &Config, host: &str) -> Self {
        let mut detector = Detector::new(&config.detect, host);
        detector.set_rules(RuleSet::load(&config.rules));
        Self {
            detector,
            processes: Tree::new(config.host.limits()),
            shift: Shift::default(),
            began: None,
            events: 0,
            lost: 0,
        }
    }

    /// Another recording begins, or the same again.
    pub fn begin(&mut self, shift: Shift) {
        self.shift = shift;
        self.began = None;
    }

    /// Takes the next thing of the recording.
    pub fn take(&mut self, recorded: &Recorded) -> Findings {
        match recorded {
            Recorded::About(About { .. }) => Findings::default(),
            Recorded::Running(process) => {
                self.processes.restore(process, false);
                Findings::default()
            }
            Recorded::Lost(count) => {
                self.lost += count;
                Findings::default()
            }
            Recorded::Event(event) => self.event(event),
        }
    }

    /// Events that were played.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Events that were lost when the recordings were made.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn event(&mut self, event: &Arc<Event>) -> Findings {
        let began = *self.began.get_or_insert(event.time);
        let event = if self.shift == Shift::default() {
            Arc::clone(event)
        } else {
            Arc::new(self.shift.event(event, began))
        };
        if self.events == 0 {
            self.detector.seed(&self.processes, event.time);
        }
        self.events += 1;
        if let Some(parent) = &event.parent {
            self.processes.restore(parent, false);
        }
        if let Some(process) = &event.process {
            self.processes
                .restore(process, matches!(event.body, Body::Exit(_)));
        }
        self.detector.detect(&event, &self.processes)
    }
}

impl Shift {
    fn event(self, event: &Event, began: BootTime) -> Event {
        let process = |process: &Arc<Process>| Arc::new(self.process(process, began));
        Event {
            time: self.boot(event.time),
            wall: WallTime(event.wall.0.saturating_add_signed(self.wall)),
            process: event.process.as_ref().map(process),
            parent: event.parent.as_ref().map(process),
            ..event.clone()
        }
    }

    fn boot(self, time: BootTime) -> BootTime {
        BootTime(time.0.saturating_add_signed(self.boot))
    }

    fn process(self, process: &Process, began: BootTime) -> Process {
        let id = |id: ProcessId| {
            let start = if id.start < began {
                id.start
            } else {
                self.boot(id.start)
            };
            ProcessId { start, ..id }
        };
        Process {
            id: id(process.id),
            parent: process.parent.map(id),
            ..process.clone()
        }
    }
}

#[cfg(test)]
mod tests;
