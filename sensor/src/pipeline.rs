//! From the ring to the stream: one thread that takes each record through the stages, in order and without locks.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sensor_common::Signal;

use crate::{
    capture::{Accounts, Alarm, Capture, record::Record},
    detect::Detector,
    export::{Entry, Hub, Loss},
    host::{Attributed, Body, Event, Host},
    links::OwnLinks,
    respond::Responder,
    time::{BootTime, WallTime},
};

/// Entries that are handed on at once, at most.
const PUBLISH_MAX: usize = 256;

/// How often the clocks are compared and losses are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Numbers for the status, readable from any thread.
#[derive(Debug, Default)]
pub struct Vitals {
    /// Processes in the tree.
    pub processes: AtomicU64,
    /// Incidents opened.
    pub incidents: AtomicU64,
    /// Records that came too late to be put in order.
    pub late: AtomicU64,
}

/// All stages, composed.
pub struct Pipeline {
    capture: Capture,
    stages: Stages,
    losses: Losses,
    housekept: BootTime,
}

/// What a record goes through once it is out of the ring.
pub struct Stages {
    /// Who and what.
    pub host: Host,
    /// Is it unusual?
    pub detector: Detector,
    /// What to do about it.
    pub responder: Responder,
    /// Where it goes.
    pub hub: Hub,
    /// What became of it.
    pub accounts: Arc<Accounts>,
    /// The agent's own connections, which are left out.
    pub links: Arc<OwnLinks>,
    /// Numbers for the status.
    pub vitals: Arc<Vitals>,
    /// Entries that wait for the end of the turn, or for company.
    pub outbox: Vec<Entry>,
}

impl Pipeline {
    /// Puts the stages behind `capture`.
    #[must_use]
    pub fn new(capture: Capture, stages: Stages) -> Self {
        Self {
            capture,
            stages,
            losses: Losses::new(),
            housekept: BootTime::now(),
        }
    }

    /// What wakes the pipeline: something to read, or `stop` becoming readable.
    ///
    /// # Errors
    /// If the kernel has no room for it.
    pub fn alarm(&self, stop: BorrowedFd<'_>) -> io::Result<Alarm> {
        self.capture.alarm(stop)
    }

    /// Works until it is `stopping`, which is asked whenever `alarm` was set off; then hands on what is left and
    /// detaches everything.
    pub fn run(mut self, alarm: &Alarm, stopping: impl Fn() -> bool) {
        while !stopping() {
            self.turn(alarm);
        }
        let Self {
            capture,
            stages,
            losses,
            ..
        } = &mut self;
        capture.read_rest(|record| stages.take(record));
        losses.report(stages);
        stages.publish();
    }

    fn turn(&mut self, alarm: &Alarm) {
        self.capture.wait(alarm);
        let Self {
            capture,
            stages,
            losses,
            housekept,
        } = self;
        capture.read(|record| stages.take(record));
        let now = BootTime::now();
        if now.since(*housekept) >= HOUSEKEEPING {
            *housekept = now;
            stages.host.clock().refresh(now, WallTime::now());
            losses.report(stages);
            let vitals = &stages.vitals;
            vitals
                .processes
                .store(stages.host.tree().len() as u64, Ordering::Relaxed);
            vitals.late.store(capture.late(), Ordering::Relaxed);
        }
        stages.publish();
    }
}

impl Stages {
    /// Takes one record from its bytes to the stream.
    fn take(&mut self, bytes: &[u8]) {
        let record = match Record::decode(bytes) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!("a record is left out: {error}");
                self.accounts.unreadable(bytes);
                return;
            }
        };
        match self.host.attribute(&record) {
            Attributed::Event(event) => self.pass_on(event),
            Attributed::Duplicate => self.accounts.aggregated(Signal::Exit),
            Attributed::Unknown => self.accounts.unreadable(bytes),
        }
    }

    fn pass_on(&mut self, event: Arc<Event>) {
        let signal = event.body.signal();
        if let Body::Accept(flow) | Body::FlowClose(flow, _) = &event.body
            && self.links.contain(flow)
        {
            self.accounts.muted(signal);
            return;
        }
        self.accounts.delivered(signal);
        self.put(Entry::Event(Arc::clone(&event)));
        let findings = self.detector.detect(&event);
        for signal in findings.signals {
            self.put(Entry::Signal(signal));
        }
        for incident in findings.incidents {
            // The response first: every microsecond of it is the attacker's.
            let outcome = self.responder.respond(&incident);
            if incident.count == 1 {
                self.vitals.incidents.fetch_add(1, Ordering::Relaxed);
            }
            self.put(Entry::Incident(incident));
            if let Some(outcome) = outcome {
                self.put(Entry::Outcome(Arc::new(outcome)));
            }
        }
    }
}

impl Stages {
    fn put(&mut self, entry: Entry) {
        self.outbox.push(entry);
        if self.outbox.len() >= PUBLISH_MAX {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.hub.publish(&self.outbox);
        self.outbox.clear();
    }
}

/// Looks for events that the rings had no room for, and says so in the stream.
struct Losses {
    reported: [u64; Signal::COUNT],
    since: WallTime,
}

impl Losses {
    /// Nothing is lost before now.
    fn new() -> Self {
        Self {
            reported: [0; Signal::COUNT],
            since: WallTime::now(),
        }
    }

    fn report(&mut self, stages: &mut Stages) {
        let now = WallTime::now();
        for signal in Signal::ALL {
            let Ok(tally) = stages.accounts.tally(signal) else {
                continue;
            };
            let reported = &mut self.reported[signal as usize];
            let count = tally.lost.saturating_sub(*reported);
            if count > 0 {
                *reported = tally.lost;
                stages.put(Entry::Loss(Loss {
                    stage: "ring",
                    signal: Some(signal),
                    count,
                    reason: "the ring had no room",
                    from: self.since,
                    to: now,
                }));
            }
        }
        self.since = now;
    }
}
