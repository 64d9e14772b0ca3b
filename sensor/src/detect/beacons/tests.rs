use super::*;
use crate::{
    detect::testing::process,
    host::{Flow, Thread},
    time::{BootTime, WallTime},
};

const SECOND: u64 = 1_000_000_000;

/// The first beacon that contacts at these times make, and after how many.
fn found(times: impl Iterator<Item = u64>) -> Option<(usize, Beacon)> {
    let process = process("unit:app.service", "/usr/bin/app", None);
    let mut beacons = Beacons::default();
    times.enumerate().find_map(|(number, time)| {
        let flow = Flow {
            id: 1,
            local: "10.0.0.1:40000".parse().expect("an address"),
            remote: "203.0.113.9:443".parse().expect("an address"),
            remote_name: None,
            inbound: false,
            established: false,
            listener: false,
        };
        let mut fact = Vec::new();
        facts::far_end(&flow, &mut fact);
        let event = Event {
            time: BootTime(time),
            wall: WallTime(time),
            cpu: 0,
            process: Some(process.clone()),
            parent: None,
            thread: Thread::default(),
            body: Body::Connect(flow),
        };
        let beacon = beacons.judge(&event, &process, &mut fact)?;
        assert_eq!(fact, b"203.0.113.0/24:443");
        Some((number, beacon))
    })
}

#[test]
fn what_comes_back_with_jitter_is_found_soon() {
    let times = (1..100_u64).map(|beat| beat * 60 * SECOND + beat * 7_919 % 13 * SECOND);
    let (contacts, beacon) = found(times).expect("it is regular");
    assert!(contacts < 16, "after {contacts} contacts");
    assert!((beacon.period - 60.0).abs() < 3.0, "{beacon:?}");
}

#[test]
fn what_people_do_is_not() {
    let mut random = 7_u64;
    let mut now = 0;
    let times = (0..2_000).map(|_| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let uniform = (random >> 11) as f64 / (1_u64 << 53) as f64;
        now += (-(1.0 - uniform).ln() * 120.0 * SECOND as f64) as u64;
        now
    });
    assert_eq!(found(times), None);
}
