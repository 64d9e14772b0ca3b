use std::net::SocketAddr;

use insta::assert_snapshot;
use sensor_behaviour::novelty::Prevalence;

use super::*;
use crate::{
    capture::calls::CALLS,
    detect::{Detector, Findings, Severity, incident::stable_hash},
    host::{
        Body, Credentials, Flow, Image, Limits as TreeLimits, Namespaces, Operation, ProcessId, Thread,
        Workload,
    },
    time::WallTime,
};

const MINUTE: u64 = 60_000_000_000;

fn config() -> config::Detect {
    config::Detect {
        learn_events: 40,
        learn_minutes: 0,
        ..config::Detect::default()
    }
}

/// A web server, and what it does.
struct Web {
    detector: Detector,
    processes: Tree,
    process: Arc<Process>,
    now: u64,
    steps: u64,
    incidents: Vec<Arc<crate::detect::Incident>>,
    signals: usize,
}

impl Web {
    /// One that has been at work for a while.
    fn learned() -> Self {
        let image = Image {
            executable: (*b"/usr/sbin/nginx").into(),
            ..Image::default()
        };
        let process = Arc::new(Process {
            id: ProcessId {
                tgid: 100,
                start: BootTime(1),
            },
            parent: None,
            image: Arc::new(image),
            credentials: Credentials::default(),
            workload: Arc::new(Workload {
                name: "unit:nginx.service".into(),
                ..Workload::default()
            }),
            namespaces: Namespaces::default(),
            kernel_thread: false,
        });
        let mut web = Self {
            detector: Detector::new(&config(), "host"),
            processes: Tree::new(TreeLimits::default()),
            process,
            now: MINUTE,
            steps: 0,
            incidents: Vec::new(),
            signals: 0,
        };
        for round in 0..1_000 {
            web.connects("10.0.0.7:5432");
            if round % 5 == 0 {
                web.connects("10.0.1.7:6379");
            }
            web.writes("/var/log/nginx/access.log");
            web.writes(&format!("/var/lib/nginx/body/{round}"));
        }
        web
    }

    fn does(&mut self, body: Body) -> Findings {
        // Nothing here is a clock: one pause in eight is thirty times as long as the others.
        self.steps += 1;
        let chance = stable_hash(&[&self.steps.to_le_bytes()]);
        self.now += MINUTE + chance % MINUTE * if chance >> 61 == 0 { 60 } else { 1 };
        let event = Arc::new(Event {
            time: BootTime(self.now),
            wall: WallTime(self.now),
            cpu: 0,
            process: Some(Arc::clone(&self.process)),
            parent: None,
            thread: Thread::default(),
            body,
        });
        let findings = self.detector.detect(&event, &self.processes);
        self.signals += findings.signals.len();
        self.incidents.extend(findings.incidents.iter().cloned());
        findings
    }

    fn connects(&mut self, to: &str) -> Findings {
        let remote: SocketAddr = to.parse().expect("an address");
        self.does(Body::Connect(Flow {
            id: 1,
            local: "10.0.0.1:40000".parse().expect("an address"),
            remote,
            remote_name: None,
            inbound: false,
            established: false,
            listener: false,
        }))
    }

    fn writes(&mut self, path: &str) -> Findings {
        self.operates(sensor_common::Signal::FileOpen, path)
    }

    fn operates(&mut self, signal: sensor_common::Signal, path: &str) -> Findings {
        let call = CALLS.iter().find(|call| call.signal == signal);
        self.does(Body::Operation(Box::new(Operation {
            signal,
            call: call.expect("a call"),
            result: 0,
            values: [1; 8],
            path: path.as_bytes().into(),
            target: Box::default(),
            previous: Box::default(),
            file: None,
            truncated: false,
            unreadable: false,
            fold: None,
            repeats: None,
            attempt: false,
            unmounted: false,
        })))
    }
}

#[test]
fn what_it_always_does_is_nothing_to_speak_of() {
    let mut web = Web::learned();
    let while_learning = web.signals;
    for _ in 0..50 {
        web.connects("10.0.0.9:5432");
        web.writes("/var/log/nginx/error.log");
    }
    assert_eq!((web.signals, web.incidents.len()), (while_learning, 0));
}

#[test]
fn one_new_thing_is_evidence_and_no_incident() {
    let mut web = Web::learned();
    let findings = web.connects("198.51.100.4:8443");
    assert_eq!((findings.signals.len(), findings.incidents.len()), (1, 0));
    assert_snapshot!(findings.signals[0].reasons[0], @"nginx.service connected to 198.51.100.4:8443 by /usr/sbin/nginx for the first time; the 1,200 before were 10.0.0.0/24:5432 (1,000), 10.0.1.0/24:6379 (200); nor has the host seen it");
}

#[test]
fn many_new_things_at_once_are_one_incident() {
    let mut web = Web::learned();
    web.connects("198.51.100.4:8443");
    web.writes("/dev/shm/.x");
    web.operates(sensor_common::Signal::Ptrace, "");
    web.operates(sensor_common::Signal::Memfd, "x");
    web.writes("/etc/cron.d/job");
    web.connects("203.0.113.9:4444");
    let first = web.incidents.first().expect("an incident");
    let last = web.incidents.last().expect("an incident");
    assert!(web.incidents.iter().all(|incident| incident.id == first.id));
    assert!(last.signals.len() >= 5, "{} signals", last.signals.len());
    assert_snapshot!(first.summary, @"nginx.service called ptrace by /usr/sbin/nginx for the first time; none of 3,205 observations so far was like that; nor has the host seen it; and 3 things more");
    assert_eq!(last.severity, Severity::High);
}

#[test]
fn what_was_part_of_an_incident_is_not_learned() {
    let mut web = Web::learned();
    for path in ["/etc/cron.d/job", "/dev/shm/.x", "/opt/x/y", "/srv/z/a"] {
        web.writes(path);
    }
    for port in 4440..4444 {
        web.connects(&format!("203.0.113.9:{port}"));
    }
    assert!(!web.incidents.is_empty());
    web.now += 100 * MINUTE;
    web.writes("/var/log/nginx/access.log");
    assert_eq!(web.connects("203.0.113.9:4443").signals.len(), 1, "still new");
}

#[test]
fn a_change_of_habits_is_learned_after_its_probation() {
    let mut web = Web::learned();
    assert_eq!(web.connects("198.51.100.4:8443").signals.len(), 1);
    web.now += 100 * MINUTE;
    web.writes("/var/log/nginx/access.log");
    web.connects("198.51.100.4:8443");
    let signals = web.signals;
    for _ in 0..30 {
        web.connects("198.51.100.4:8443");
    }
    assert_eq!((web.signals, web.incidents.len()), (signals, 0));
}

#[test]
fn the_same_events_give_the_same_incidents() {
    let run = || {
        let mut web = Web::learned();
        for port in 4440..4450 {
            web.connects(&format!("203.0.{port}.9:{port}").replace(".444", ".11"));
            web.writes("/etc/cron.d/job");
        }
        web.incidents
    };
    assert_eq!(run(), run());
}

/// What so many web servers share that connect to `to` as well.
fn others(hosts: u32, to: &str) -> Novelty {
    let mut prevalence = Prevalence::default();
    let mut other = Web::learned();
    other.connects(to);
    other.now += 100 * MINUTE;
    other.connects("10.0.0.7:5432");
    let shared = Novelty::shared_from_snapshot(&other.detector.shared(None)).expect("facts");
    for _ in 0..hosts {
        prevalence.add(&shared);
    }
    prevalence.without(&Novelty::new(Limits::default(), Learning::default()))
}

#[test]
fn what_is_new_here_and_usual_on_other_hosts_is_nothing_to_speak_of() {
    let mut web = Web::learned();
    web.detector
        .hear_of_others(others(20, "198.51.100.4:8443"), 20, None);
    assert_eq!(web.connects("198.51.100.4:8443").signals.len(), 0);
    let findings = web.connects("203.0.113.9:4444");
    assert_snapshot!(findings.signals[0].reasons[0], @"nginx.service connected to 203.0.113.9:4444 by /usr/sbin/nginx for the first time; the 1,200 before were 10.0.0.0/24:5432 (1,000), 10.0.1.0/24:6379 (200); nor has any other host seen it");
    // One host alone makes nothing usual.
    let mut web = Web::learned();
    web.detector
        .hear_of_others(others(1, "198.51.100.4:8443"), 20, None);
    let findings = web.connects("198.51.100.4:8443");
    assert_snapshot!(findings.signals[0].reasons[0], @"nginx.service connected to 198.51.100.4:8443 by /usr/sbin/nginx for the first time; the 1,200 before were 10.0.0.0/24:5432 (1,000), 10.0.1.0/24:6379 (200); seen on 1 other host");
}
