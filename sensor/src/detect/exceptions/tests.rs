use std::sync::Arc;

use super::*;
use crate::{
    config::Detect,
    detect::{
        Detector,
        testing::{operation, process},
    },
    host::{Body, Event, Limits, Thread, Tree},
    time::BootTime,
};

const MINUTE: u64 = 60_000_000_000;

struct Host {
    detector: Detector,
    processes: Tree,
    now: u64,
}

impl Host {
    /// On which three services have touched their files for long.
    fn learned() -> Self {
        let config = Detect {
            learn_events: 40,
            learn_minutes: 0,
            ..Detect::default()
        };
        let mut host = Self {
            detector: Detector::new(&config, "host"),
            processes: Tree::new(Limits::default()),
            now: MINUTE,
        };
        for _ in 0..1_000 {
            host.writes("unit:a.service", "/srv/a/x");
            host.writes("unit:b.service", "/srv/b/x");
            host.writes("unit:c.service", "/srv/c/x");
        }
        host
    }

    fn writes(&mut self, workload: &str, path: &str) -> Vec<Arc<Incident>> {
        self.now += 2 * MINUTE;
        let event = Event {
            time: BootTime(self.now),
            wall: WallTime(self.now),
            cpu: 0,
            process: Some(process(workload, "/usr/bin/app", None)),
            parent: None,
            thread: Thread::default(),
            body: Body::Operation(Box::new(operation(sensor_common::Signal::FileOpen, path))),
        };
        self.detector.detect(&event.into(), &self.processes).incidents
    }

    /// The same places, which nobody touches.
    fn attack(&mut self, workload: &str) -> Vec<Arc<Incident>> {
        let paths = [
            "/etc/cron.d/x",
            "/etc/ld.so.preload",
            "/etc/pam.d/x",
            "/etc/sudoers",
            "/root/.bashrc",
            "/etc/rc.local",
            "/opt/x/y",
            "/dev/shm/z",
        ];
        paths
            .iter()
            .flat_map(|path| self.writes(workload, path))
            .collect()
    }

    fn except(&mut self, incident: &str, scope: Scope) -> Option<Exception> {
        let verdict = Verdict {
            scope,
            author: "alice".into(),
            why: "a deployment".into(),
            now: WallTime(self.now),
            expires: WallTime(self.now + 100 * 24 * 60 * MINUTE),
        };
        self.detector.except(incident, verdict)
    }
}

#[test]
fn what_was_no_attack_is_none_the_next_time() {
    let mut host = Host::learned();
    let incidents = host.attack("unit:a.service");
    let last = incidents.last().expect("an incident");
    assert!(
        host.except("0", Scope::This).is_none(),
        "there is no such incident"
    );
    let exception = host.except(&last.id, Scope::This).expect("it is open");
    assert_eq!((exception.author.as_str(), exception.held), ("alice", 0));
    host.now += 100 * MINUTE;
    assert_eq!(host.attack("unit:a.service"), []);
    assert_eq!(host.detector.exceptions().len(), 1);
}

#[test]
fn an_exception_goes_as_far_as_its_scope() {
    for (scope, elsewhere) in [
        (Scope::This, true),
        (Scope::Subject, true),
        (Scope::Program, false),
    ] {
        let mut host = Host::learned();
        let incidents = host.attack("unit:a.service");
        host.except(&incidents.last().expect("an incident").id, scope)
            .expect("it is open");
        host.now += 100 * MINUTE;
        assert_eq!(!host.attack("unit:b.service").is_empty(), elsewhere, "{scope:?}");
    }
}

#[test]
fn an_exception_that_was_taken_back_holds_nothing() {
    let mut host = Host::learned();
    let incidents = host.attack("unit:a.service");
    let exception = host.except(&incidents.last().expect("an incident").id, Scope::Program);
    let id = exception.expect("it is open").id;
    host.now += 100 * MINUTE;
    assert_eq!(host.attack("unit:b.service"), []);
    assert!(host.detector.exceptions()[0].held > 0);
    assert!(host.detector.remove_exception(&id));
    assert!(!host.detector.remove_exception(&id));
    host.now += 100 * MINUTE;
    assert!(!host.attack("unit:c.service").is_empty());
}

#[test]
fn exceptions_outlive_the_agent() {
    let mut host = Host::learned();
    let incidents = host.attack("unit:a.service");
    host.except(&incidents.last().expect("an incident").id, Scope::Subject)
        .expect("it is open");
    let mut other = Detector::new(&Detect::default(), "host");
    other
        .restore(&host.detector.state(), BootTime(0), WallTime(0))
        .expect("it is whole");
    assert_eq!(other.exceptions(), host.detector.exceptions());
}

#[test]
fn there_are_only_so_many() {
    let mut host = Host::learned();
    let incidents = host.attack("unit:a.service");
    let incident = incidents.last().expect("an incident");
    let mut exceptions = Exceptions::default();
    let verdict = |now| Verdict {
        scope: Scope::This,
        author: "x".repeat(10_000),
        why: String::new(),
        now: WallTime(now),
        expires: WallTime(1_000_000),
    };
    for now in 0..EXCEPTIONS as u64 {
        let added = exceptions.add(incident, verdict(now)).expect("there is room");
        assert_eq!(added.author.len(), TEXT);
    }
    assert!(exceptions.add(incident, verdict(500)).is_none());
    assert!(
        exceptions.add(incident, verdict(1_000_000)).is_some(),
        "the others are over"
    );
}
