use super::*;
use crate::{
    detect::{
        Entry, Side,
        testing::{operation, process},
    },
    host::{Body, Event, Flow, Limits, ProcessId, Thread},
    time::WallTime,
};

const MINUTE: u64 = 60_000_000_000;

fn suspicion(key: u64, tgid: u32, minute: u64, severity: Severity) -> Suspicion {
    let mut process = Process::clone(&process("unit:a.service", "/bin/a", None));
    process.id = ProcessId {
        tgid,
        start: BootTime(1),
    };
    let event = Event {
        time: BootTime(minute * MINUTE),
        wall: WallTime(minute * MINUTE),
        cpu: 0,
        process: Some(Arc::new(process)),
        parent: None,
        thread: Thread::default(),
        body: Body::Operation(Box::new(operation(sensor_common::Signal::FileOpen, "/x"))),
    };
    let signal = Signal {
        subject: format!("unit:{tgid}.service").into(),
        source: "test",
        p_value: 0.001,
        reasons: vec![format!("{tgid} at {minute}")],
        techniques: Vec::new(),
        cause: key,
        rule: None,
        event: Arc::new(event),
    };
    Suspicion {
        signal: Arc::new(signal),
        evidence: Vec::new(),
        severity,
        key,
    }
}

fn incidents() -> Incidents {
    Incidents::new("host", &config::Detect::default())
}

fn from_nowhere() -> Origin {
    Origin::clone(&Origin::unknown())
}

/// Somebody who logged in from `address`.
fn from(address: &str, side: Side) -> Origin {
    Origin {
        entry: Entry::Login {
            program: "sshd".into(),
            remote: address.into(),
        },
        side,
        reasons: Vec::new(),
    }
}

fn join(incidents: &mut Incidents, suspicion: &Suspicion, origin: Origin) -> Arc<Incident> {
    let processes = Tree::new(Limits::default());
    incidents
        .join(suspicion, &processes, |_| origin)
        .expect("it has a process")
}

#[test]
fn two_that_turn_out_to_be_one_are_one() {
    let mut incidents = incidents();
    let first = join(
        &mut incidents,
        &suspicion(1, 10, 1, Severity::Medium),
        from_nowhere(),
    );
    let second = join(
        &mut incidents,
        &suspicion(2, 20, 2, Severity::High),
        from_nowhere(),
    );
    assert_eq!(incidents.merge([2, 1]), Some(1));
    let told = incidents.untold();
    let [gone, one] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (&gone.id, &gone.ended),
        (&second.id, &Some(Ended::Merged(first.id.clone())))
    );
    assert_eq!(
        (&one.id, one.count, one.signals.len(), one.processes.len()),
        (&first.id, 2, 2, 2)
    );
    // It is called by the worst of it, and began when the first did.
    assert_eq!(
        (one.severity, &*one.summary, &*one.subject),
        (Severity::High, "20 at 2", "unit:20.service")
    );
    assert_eq!(one.opened, first.opened);
    assert_eq!(incidents.merge([2, 1]), None, "there is only one now");
}

#[test]
fn an_intruder_is_known_by_their_address_and_an_insider_is_not() {
    let mut incidents = incidents();
    let mut ids = |key, tgid, origin| {
        join(&mut incidents, &suspicion(key, tgid, 1, Severity::High), origin)
            .id
            .clone()
    };
    let first = ids(1, 10, from("192.0.2.1", Side::External));
    assert_eq!(ids(2, 20, from("192.0.2.1", Side::External)), first);
    assert_ne!(ids(3, 30, from("192.0.2.2", Side::External)), first);
    // Everybody comes from a jump host.
    let own = ids(4, 40, from("192.0.2.9", Side::Insider));
    assert_ne!(ids(5, 50, from("192.0.2.9", Side::Insider)), own);
}

/// What a process did, on the way to or from an address.
fn connecting(key: u64, tgid: u32, remote: &str, inbound: bool) -> Suspicion {
    let mut suspicion = suspicion(key, tgid, 1, Severity::High);
    let signal = Arc::make_mut(&mut suspicion.signal);
    let mut event = Event::clone(&signal.event);
    event.body = Body::Connect(Flow {
        id: 1,
        local: "10.0.0.1:4444".parse().unwrap(),
        remote: remote.parse().unwrap(),
        remote_name: None,
        inbound,
        established: true,
        listener: false,
    });
    signal.event = Arc::new(event);
    suspicion
}

#[test]
fn who_has_to_do_with_the_same_address_is_one_incident() {
    let mut incidents = incidents();
    let mut id = |suspicion: &Suspicion, origin| join(&mut incidents, suspicion, origin).id.clone();
    let scanned = id(&connecting(1, 10, "198.51.100.7:40000", true), from_nowhere());
    // It logs in, and somebody else's program calls it back.
    let came = suspicion(2, 20, 1, Severity::High);
    assert_eq!(id(&came, from("198.51.100.7", Side::External)), scanned);
    assert_eq!(
        id(
            &connecting(3, 30, "[::ffff:198.51.100.7]:443", false),
            from_nowhere()
        ),
        scanned
    );
    assert_ne!(
        id(&connecting(4, 40, "198.51.100.8:443", false), from_nowhere()),
        scanned
    );
    // What is on networks of one's own is everybody's.
    let proxy = id(&connecting(5, 50, "10.0.0.9:3128", false), from_nowhere());
    assert_ne!(
        id(&connecting(6, 60, "10.0.0.9:3128", false), from_nowhere()),
        proxy
    );
}

#[test]
fn who_it_is_may_become_clear() {
    let mut incidents = incidents();
    let mut side = |minute, origin| {
        let suspicion = suspicion(1, 10, minute, Severity::High);
        join(&mut incidents, &suspicion, origin).origin.side
    };
    assert_eq!(side(1, from_nowhere()), Side::Unclear);
    assert_eq!(side(2, from("192.0.2.1", Side::Insider)), Side::Insider);
    // What was clear does not change with every event.
    assert_eq!(side(3, from("192.0.2.1", Side::External)), Side::Insider);
}

#[test]
fn what_pauses_too_long_is_over() {
    let mut incidents = incidents();
    let incident = join(
        &mut incidents,
        &suspicion(1, 10, 0, Severity::High),
        from_nowhere(),
    );
    incidents.untold();
    incidents.settle(BootTime(59 * MINUTE));
    assert!(incidents.get(&incident.id).is_some() && incidents.untold().is_empty());
    incidents.settle(BootTime(60 * MINUTE));
    let told = incidents.untold();
    assert_eq!((told.len(), &told[0].ended), (1, &Some(Ended::Quiet)));
    let next = join(
        &mut incidents,
        &suspicion(1, 10, 61, Severity::High),
        from_nowhere(),
    );
    assert_ne!(next.id, incident.id);
}

#[test]
fn what_an_incident_holds_is_bounded() {
    let mut incidents = incidents();
    for tgid in 1..500 {
        join(
            &mut incidents,
            &suspicion(1, tgid, 1, Severity::High),
            from_nowhere(),
        );
    }
    let incident = join(
        &mut incidents,
        &suspicion(1, 500, 1, Severity::High),
        from_nowhere(),
    );
    assert_eq!((incident.signals.len(), incident.processes.len()), (16, 48));
    assert_eq!(incident.processes[0].id.tgid, 1, "how it began stays");
}

#[test]
fn it_can_be_kept_and_goes_on() {
    let mut incidents = incidents();
    let first = join(
        &mut incidents,
        &suspicion(1, 10, 1, Severity::High),
        from("192.0.2.1", Side::External),
    );
    let bytes = postcard::to_allocvec(&*first).unwrap();
    let mut later = Incidents::new("host", &config::Detect::default());
    later.resume(postcard::from_bytes(&bytes).unwrap());
    assert!(later.untold().is_empty(), "nothing is new of it");
    let grown = join(&mut later, &suspicion(1, 11, 2, Severity::Low), from_nowhere());
    assert_eq!((&grown.id, grown.count), (&first.id, 2));
    assert_eq!(grown.signals[0], first.signals[0]);
}
