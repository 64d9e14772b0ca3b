use std::sync::Arc;

use insta::assert_snapshot;

use super::*;
use crate::{
    detect::testing::{process, session},
    host::{Exec, FlowTotals, Thread},
    time::{BootTime, WallTime},
};

const SECOND: u64 = 1_000_000_000;

struct Host {
    reach: Reach,
    process: Arc<Process>,
    now: u64,
}

impl Host {
    /// On which a service has asked one database for a day, and somebody mistyped a password now and then.
    fn after_a_day() -> Self {
        let mut host = Self {
            reach: Reach::default(),
            process: process("unit:app.service", "/usr/bin/app", None),
            now: WINDOW_NS,
        };
        let event = host.event(Body::Exec(Exec::default()));
        host.reach.introduce(&event, &host.process);
        for window in 0..144 {
            host.now = (window + 2) * WINDOW_NS;
            assert_eq!(
                host.connects("10.0.0.7:5432", false).map(|notice| notice.reason),
                None
            );
            if window % 40 == 7 {
                host.logs_in("192.0.2.4", true);
                host.logs_in("192.0.2.4", false);
            }
        }
        host.now += WINDOW_NS;
        host
    }

    fn does(&mut self, body: Body) -> Option<Notice> {
        let event = self.event(body);
        self.reach.judge(&event, &self.process)
    }

    fn event(&mut self, body: Body) -> Event {
        self.now += SECOND / 100;
        Event {
            time: BootTime(self.now),
            wall: WallTime(self.now),
            cpu: 0,
            process: Some(Arc::clone(&self.process)),
            parent: None,
            thread: Thread::default(),
            body,
        }
    }

    fn connects(&mut self, to: &str, fails: bool) -> Option<Notice> {
        let flow = |established| Flow {
            id: 1,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: to.parse().unwrap(),
            remote_name: None,
            inbound: false,
            established,
            listener: false,
        };
        let begun = self.does(Body::Connect(flow(false)));
        if !fails {
            return begun;
        }
        self.does(Body::FlowClose(flow(false), FlowTotals::default()))
            .or(begun)
    }

    fn logs_in(&mut self, from: &str, fails: bool) -> Option<Notice> {
        let signal = if fails { Signal::AuthFailure } else { Signal::Login };
        self.does(Body::Session(Box::new(session(signal, "alice", from))))
    }
}

#[test]
fn a_scan_of_ports_is_told_as_one() {
    let mut host = Host::after_a_day();
    let notices = (1..200).filter_map(|port| host.connects(&format!("10.0.0.9:{port}"), true));
    let last = notices.last().expect("it is seen");
    assert_eq!((last.source, &last.techniques[..]), ("port scan", &["T1046"][..]));
    assert!(last.p_value < 1e-8, "{}", last.p_value);
    assert_snapshot!(last.reason, @"app.service tried 182 new ports of 1 target, such as 10.0.0.9:1, 10.0.0.9:2, 10.0.0.9:3 and 179 more; usual are 0.0 in 10 minutes");
}

#[test]
fn one_new_end_is_no_burst() {
    let mut host = Host::after_a_day();
    let p_value = host
        .connects("10.0.0.9:443", false)
        .map_or(1.0, |notice| notice.p_value);
    assert!(p_value > 1e-3, "{p_value}");
}

#[test]
fn new_hosts_reached_where_hosts_are_administered() {
    let mut host = Host::after_a_day();
    let notices = (1..7).filter_map(|last| host.connects(&format!("10.0.0.{last}:22"), false));
    let last = notices.last().expect("it is seen");
    assert_eq!(
        (last.source, &last.techniques[..]),
        ("lateral movement", &["T1021"][..])
    );
    assert!(last.p_value < 1e-4, "{}", last.p_value);
}

#[test]
fn guessing_passwords_and_getting_in() {
    let mut host = Host::after_a_day();
    let guesses: Vec<Notice> = (0..40)
        .filter_map(|_| host.logs_in("198.51.100.66", true))
        .collect();
    let last = guesses.last().expect("it is seen");
    assert!(last.p_value < 1e-8 && !last.grave, "{last:?}");
    let in_at_last = host.logs_in("198.51.100.66", false).expect("that is worse");
    assert!(in_at_last.grave);
    assert_snapshot!(in_at_last.reason, @"40 logins from 198.51.100.66 failed, and then one as alice did not; usual are 0.0 failures in 10 minutes");
}

#[test]
fn mistyping_a_password_is_nothing() {
    let mut host = Host::after_a_day();
    let p_values = (0..2)
        .filter_map(|_| host.logs_in("192.0.2.4", true))
        .map(|notice| notice.p_value);
    assert!(p_values.fold(1.0, f64::min) > 1e-3);
}
