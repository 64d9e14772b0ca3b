//! Everything that came about one process.

use anyhow::{Context as _, Result, ensure};
use sensor_proto::v1::{Entry, Event, Exec, Exit, Operation, Process, ProcessId, entry, event};

/// The events of one process, in the order in which they came.
#[derive(Clone, Debug)]
pub struct History {
    /// All of them.
    pub events: Vec<Event>,
}

impl History {
    /// Picks the events of process `pid` out of `entries`.
    #[must_use]
    pub fn of(entries: &[Entry], pid: u32) -> Self {
        let is_its = |event: &&Event| {
            event
                .process
                .as_ref()
                .and_then(|process| process.id)
                .is_some_and(|id| id.tgid == pid)
        };
        Self {
            events: events(entries).filter(is_its).cloned().collect(),
        }
    }

    /// The one process that all of them belong to.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn id(&self) -> Result<ProcessId> {
        let mut ids: Vec<ProcessId> = self.processes().filter_map(|process| process.id).collect();
        ids.dedup();
        ensure!(
            ids.len() == 1,
            "expected the events of one process, got those of {ids:?}"
        );
        ensure!(
            ids[0].start_time_ns != 0,
            "the process has no start time: {ids:?}"
        );
        Ok(ids[0])
    }

    /// Its programs, with the process as it was afterwards.
    #[must_use]
    pub fn execs(&self) -> Vec<(&Process, &Exec)> {
        self.bodies(|body| {
            if let event::Body::Exec(exec) = body {
                Some(exec)
            } else {
                None
            }
        })
    }

    /// Its only program.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn exec(&self) -> Result<(&Process, &Exec)> {
        let execs = self.execs();
        ensure!(execs.len() == 1, "expected one exec, got {execs:#?}");
        Ok(execs[0])
    }

    /// Its end.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn exit(&self) -> Result<&Exit> {
        let exits = self.bodies(|body| {
            if let event::Body::Exit(exit) = body {
                Some(exit)
            } else {
                None
            }
        });
        ensure!(exits.len() == 1, "expected one exit, got {exits:?}");
        Ok(exits[0].1)
    }

    /// Whom it was forked from.
    ///
    /// # Errors
    /// If its fork is not there, or names no parent.
    pub fn parent(&self) -> Result<ProcessId> {
        let forks = self.bodies(|body| matches!(body, event::Body::Fork(_)).then_some(()));
        ensure!(forks.len() == 1, "expected one fork, got {}", forks.len());
        forks[0].0.parent_id.context("the fork names no parent")
    }

    /// What each of its events is called, process events only: those of connections may come after the end.
    #[must_use]
    pub fn order(&self) -> Vec<&'static str> {
        self.events.iter().filter_map(step).collect()
    }

    /// A whole life: one process, a fork, `execs` programs, an end, in this order and in the order of time.
    ///
    /// # Errors
    /// What is missing or out of order.
    pub fn complete(&self, execs: usize) -> Result<ProcessId> {
        let id = self.id()?;
        let expected: Vec<&str> = ["fork"]
            .into_iter()
            .chain(std::iter::repeat_n("exec", execs))
            .chain(["exit"])
            .collect();
        ensure!(
            self.order() == expected,
            "expected {expected:?}, got {:?}",
            self.order()
        );
        // What matters more reaches the collector later than what matters less: only events of one class keep their order.
        let steps = self.events.iter().filter(|event| step(event).is_some());
        ensure!(
            steps.is_sorted_by_key(|event| event.boot_time_ns),
            "the events of a process are out of order: {:#?}",
            self.events
        );
        Ok(id)
    }

    /// Events of one kind, with their processes.
    pub fn bodies<'a, T>(&'a self, pick: impl Fn(&'a event::Body) -> Option<T>) -> Vec<(&'a Process, T)> {
        let pick = |event: &'a Event| Some((event.process.as_ref()?, pick(event.body.as_ref()?)?));
        self.events.iter().filter_map(pick).collect()
    }

    /// What it asked the kernel for.
    #[must_use]
    pub fn operations(&self) -> Vec<&Operation> {
        let operations = self.bodies(|body| match body {
            event::Body::Operation(operation) => Some(operation),
            _ => None,
        });
        operations.into_iter().map(|(_, operation)| operation).collect()
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.events.iter().filter_map(|event| event.process.as_ref())
    }
}

/// The events among `entries`.
pub fn events(entries: &[Entry]) -> impl Iterator<Item = &Event> {
    entries.iter().filter_map(|entry| match &entry.body {
        Some(entry::Body::Event(event)) => Some(event),
        _ => None,
    })
}

/// A step of the life of a process.
fn step(event: &Event) -> Option<&'static str> {
    match event.body {
        Some(event::Body::Fork(_)) => Some("fork"),
        Some(event::Body::Exec(_)) => Some("exec"),
        Some(event::Body::Exit(_)) => Some("exit"),
        _ => None,
    }
}
