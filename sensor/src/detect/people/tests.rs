use std::sync::Arc;

use insta::assert_snapshot;

use crate::{
    config::Detect,
    detect::{
        Detector,
        testing::{process, session},
    },
    host::{Body, Event, Exec, Limits, Thread, Tree},
    time::{BootTime, WallTime},
};

const MINUTE: u64 = 60_000_000_000;
const HOUR: u64 = 60 * MINUTE;

/// A Monday, 00:00 UTC.
const MONDAY: u64 = 1_800_230_400_000_000_000;

struct Person {
    detector: Detector,
    processes: Tree,
    now: u64,
}

impl Person {
    /// Who has been at work from nine to five for two weeks, always with the same few programs.
    fn learned() -> Self {
        let mut person = Self {
            detector: Detector::new(&Detect::default(), "host"),
            processes: Tree::new(Limits::default()),
            now: 0,
        };
        for day in (0..12_u64).filter(|day| day % 7 < 5) {
            for minute in 0..8 * 20 {
                person.now = day * 24 * HOUR + 9 * HOUR + minute * 3 * MINUTE;
                person.runs(["/usr/bin/git", "/usr/bin/vim", "/usr/bin/cargo"][minute as usize % 3]);
            }
        }
        person
    }

    fn runs(&mut self, program: &str) -> Vec<(&'static str, f64, String)> {
        self.does(program, Body::Exec(Exec::default()))
    }

    fn does(&mut self, program: &str, body: Body) -> Vec<(&'static str, f64, String)> {
        let event = Event {
            time: BootTime(self.now + HOUR),
            wall: WallTime(MONDAY + self.now),
            cpu: 0,
            process: Some(process("session:1000", program, Some(1000))),
            parent: None,
            thread: Thread::default(),
            body,
        };
        let findings = self.detector.detect(&Arc::new(event), &self.processes);
        let told = findings.signals.iter();
        told.map(|signal| (signal.source, signal.p_value, signal.reasons[0].clone()))
            .collect()
    }
}

#[test]
fn another_hour_is_news_of_a_person_and_an_hour_that_is_usual_is_not() {
    let mut person = Person::learned();
    person.now = 14 * 24 * HOUR + 10 * HOUR;
    assert_eq!(person.runs("/usr/bin/git"), []);
    person.now = 15 * 24 * HOUR + 3 * HOUR;
    let told = person.runs("/usr/bin/git");
    let [(source, p_value, reason)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(*source, "hour");
    assert!(*p_value < 2e-3, "{p_value}");
    assert_snapshot!(reason, @"user 1000 is at work at 03:00 on a weekday, UTC, for the first time; the 1,601 before were 10:00 on a weekday (201), 09:00 on a weekday (200), 11:00 on a weekday (200) and 5 more; nor has the host seen it");
}

#[test]
fn a_program_that_nobody_runs_is_news() {
    let mut person = Person::learned();
    person.now = 14 * 24 * HOUR + 10 * HOUR;
    let told = person.runs("/usr/bin/nmap");
    let [(source, p_value, _)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(*source, "program");
    assert!(*p_value < 2e-3, "{p_value}");
}

#[test]
fn so_is_where_somebody_logs_in_from() {
    let mut person = Person::learned();
    let login = |from: &str| Body::Session(Box::new(session(sensor_common::Signal::Login, "alice", from)));
    for hour in 0..60 {
        person.now = 14 * 24 * HOUR + hour * 2 * HOUR;
        person.does("/usr/sbin/sshd", login("192.0.2.7"));
    }
    person.now += HOUR;
    let told = person.does("/usr/sbin/sshd", login("203.0.113.66"));
    assert!(
        told.iter().any(|(source, ..)| *source == "login source"),
        "{told:?}"
    );
}
