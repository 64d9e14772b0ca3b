//! An attacker who creeps up slowly, so that everything is learned: how far that gets them, and how long it takes.

use std::sync::Arc;

use super::{
    Detector, Incident,
    testing::{operation, process},
};
use crate::{
    config::Detect,
    host::{Body, Event, Exec, Flow, FlowTotals, Limits, Process, Thread, Tree},
    time::{BootTime, WallTime},
};

const MINUTE: u64 = 60_000_000_000;
const HOUR: u64 = 60 * MINUTE;

/// A Monday, 00:00 UTC, in nanoseconds.
const MONDAY: u64 = 1_800_230_400_000_000_000;

struct Service {
    detector: Detector,
    processes: Tree,
    process: Arc<Process>,
    now: u64,
}

impl Service {
    /// That has written to its own directory every two minutes for three days.
    fn learned() -> Self {
        let mut service = Self {
            detector: Detector::new(&Detect::default(), "host"),
            processes: Tree::new(Limits::default()),
            process: process("unit:app.service", "/usr/bin/app", None),
            now: HOUR,
        };
        service.does(Body::Exec(Exec::default()));
        service.works(72 * 30);
        service
    }

    fn works(&mut self, times: u32) -> bool {
        (0..times).fold(false, |alarmed, _| {
            self.now += 2 * MINUTE;
            let (_, incidents) = self.does(write("/var/lib/app/x"));
            alarmed | !incidents.is_empty()
        })
    }

    /// The smallest p-value of what was found, and the incidents.
    fn does(&mut self, body: Body) -> (f64, Vec<Arc<Incident>>) {
        let event = Event {
            time: BootTime(self.now),
            wall: WallTime(MONDAY + self.now),
            cpu: 0,
            process: Some(Arc::clone(&self.process)),
            parent: None,
            thread: Thread::default(),
            body,
        };
        let findings = self.detector.detect(&event.into(), &self.processes);
        let smallest = findings
            .signals
            .iter()
            .map(|signal| signal.p_value)
            .fold(1.0, f64::min);
        (smallest, findings.incidents)
    }
}

fn write(path: &str) -> Body {
    Body::Operation(Box::new(operation(sensor_common::Signal::FileOpen, path)))
}

fn send(id: u64, mib: f64) -> Body {
    let flow = Flow {
        id,
        local: "10.0.0.1:40000".parse().expect("an address"),
        remote: "203.0.113.9:443".parse().expect("an address"),
        remote_name: None,
        inbound: false,
        established: true,
        listener: false,
    };
    Body::FlowClose(
        flow,
        FlowTotals {
            bytes_sent: (mib * 1_048_576.0) as u64,
            ..FlowTotals::default()
        },
    )
}

/// One new place each seventy minutes, so that each is learned before the next. What that buys is a subject of which something new is
/// a little more likely: by one in all its observations for each place, which is Good's and Turing's estimate and the bound.
#[test]
fn a_new_place_each_hour_makes_the_next_one_little_less_surprising() {
    let mut service = Service::learned();
    let (before, _) = service.does(write("/opt/x/y/z"));
    const PLACES: u32 = 48;
    for place in 0..PLACES {
        service.works(35);
        service.does(write(&format!("/opt/p{place}/q/r")));
    }
    service.works(35);
    let (after, _) = service.does(write("/srv/loot/x/y"));
    let bound = f64::from(PLACES + 2) / (72.0 * 30.0);
    assert!(before < 1e-3, "{before}");
    assert!(after <= bound, "{after} is more than {bound}");
}

/// And who does so and then goes to work is still found.
#[test]
fn who_has_crept_up_for_two_days_is_found_when_they_strike() {
    let mut service = Service::learned();
    for place in 0..48 {
        service.works(35);
        service.does(write(&format!("/opt/p{place}/q/r")));
    }
    service.works(35);
    let struck = [
        "/etc/cron.d/x",
        "/etc/ld.so.preload",
        "/root/.ssh/authorized_keys",
        "/etc/sudoers.d/x",
        "/dev/shm/.y",
    ];
    let incidents: Vec<_> = struck
        .iter()
        .flat_map(|path| service.does(write(path)).1)
        .collect();
    assert!(!incidents.is_empty());
}

/// A tenth more in each ten minutes, for as long as nobody says anything.
#[test]
fn volumes_cannot_be_crept_up_in_a_day() {
    let mut service = Service::learned();
    let mut mib = 0.5;
    let mut noticed = false;
    for period in 0..144 {
        service.now += 10 * MINUTE;
        let (p_value, _) = service.does(send(period, mib));
        noticed |= p_value < 1e-3;
        if noticed {
            break;
        }
        mib *= 1.1;
    }
    assert!(
        noticed && mib < 30.0,
        "{mib} MiB in ten minutes were sent without a word"
    );
}
