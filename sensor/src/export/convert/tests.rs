//! What is converted, and examples of everything that can be.

use std::time::Duration;

use sensor_common::Signal as Kind;

use v1::event::Body as Wire;

use super::*;
use crate::capture::calls::CALLS;
use crate::{
    detect::Origin,
    host::{Credentials, Namespaces, Repeated, Workload},
    rules::{Channels, Level, Place, Rule},
    time::{BootTime, WallTime},
};

pub(in crate::export) fn process(args: &[u8], executable: &[u8]) -> Arc<Process> {
    let image = Image {
        executable: executable.into(),
        args: args.into(),
        args_total: args.len() as u64,
        cwd: (*b"/").into(),
        ..Image::default()
    };
    Arc::new(Process {
        id: ProcessId {
            tgid: 42,
            start: BootTime(7),
        },
        parent: Some(ProcessId {
            tgid: 1,
            start: BootTime(0),
        }),
        image: Arc::new(image),
        credentials: Credentials::default(),
        workload: Arc::new(Workload::default()),
        namespaces: Namespaces::default(),
        kernel_thread: false,
    })
}

pub(in crate::export) fn event(process: Arc<Process>, body: Body) -> Arc<Event> {
    Arc::new(Event {
        time: BootTime(9),
        wall: WallTime(10),
        cpu: 1,
        process: Some(process),
        parent: None,
        thread: Thread {
            tid: 43,
            comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
        },
        body,
    })
}

pub(in crate::export) fn converter() -> Converter {
    Converter::new("web1", Arc::new(Users::new("/nonexistent")))
}

fn flow() -> Flow {
    Flow {
        id: 5,
        local: "[::ffff:10.0.0.1]:80".parse().expect("an address"),
        remote: "[2001:db8::1]:5000".parse().expect("an address"),
        remote_name: None,
        inbound: true,
        established: true,
        listener: false,
    }
}

fn operation(signal: Kind) -> Body {
    let call = CALLS.iter().find(|call| call.signal == signal);
    let call = call.or_else(|| CALLS.first()).expect("the table has rows");
    Body::Operation(Box::new(Operation {
        signal,
        call,
        result: -1,
        values: [1; 8],
        path: (*b"/tmp/a").into(),
        target: (*b"b\xff").into(),
        previous: Box::default(),
        file: None,
        truncated: false,
        unreadable: true,
        fold: None,
        repeats: Some(Repeated {
            count: 7,
            first: WallTime(1),
            last: WallTime(2),
        }),
        attempt: true,
        unmounted: false,
    }))
}

fn sequence() -> Body {
    Body::Sequence(Sequence {
        calls: [0, 1, 59, 509, OTHER, 257],
        withheld: 3,
    })
}

pub(in crate::export) fn body(kind: Kind) -> Body {
    match kind {
        Kind::Exec => Body::Exec(Exec::default()),
        Kind::Fork => Body::Fork,
        Kind::Exit => Body::Exit(Exit::Code(0)),
        Kind::Connect => Body::Connect(flow()),
        Kind::Accept => Body::Accept(flow()),
        Kind::Listen => Body::Listen {
            address: flow().local,
            backlog: 128,
        },
        Kind::FlowClose => Body::FlowClose(
            flow(),
            FlowTotals {
                duration: Some(Duration::from_secs(1)),
                ..Default::default()
            },
        ),
        Kind::FlowReport => Body::FlowReport(flow(), FlowTotals::default()),
        Kind::TlsHello => Body::TlsHello(flow(), Box::default()),
        Kind::Bind => Body::Bind {
            address: flow().local,
            protocol: 17,
        },
        Kind::UdpFlow => Body::UdpFlow(
            flow(),
            DatagramTotals {
                first: WallTime(1),
                duration: Duration::from_secs(1),
                datagrams_sent: 1,
                bytes_sent: 2,
                datagrams_received: 3,
                bytes_received: 4,
                end: FlowEnd::Idle,
            },
        ),
        Kind::Dns => Body::Dns(flow(), Box::default()),
        Kind::Credential => Body::Credential(Box::new(credential::example())),
        Kind::Login | Kind::Logout | Kind::Elevation | Kind::AuthFailure => {
            Body::Session(Box::new(session::example(kind)))
        }
        Kind::Sequence => sequence(),
        kind => operation(kind),
    }
}

#[test]
fn an_operation_says_what_its_arguments_mean() {
    let Wire::Operation(converted) = convert_body(&operation(Kind::FileChmod)) else {
        panic!("not an operation");
    };
    assert_eq!(
        (converted.signal.as_str(), converted.call.as_str()),
        ("file_chmod", "chmod")
    );
    assert_eq!(
        (converted.target.as_str(), converted.target_raw),
        ("b\\xff", b"b\xff".to_vec())
    );
    let details: Vec<_> = converted
        .details
        .iter()
        .map(|detail| (detail.name.as_str(), detail.text.as_str()))
        .collect();
    assert_eq!(details, [("mode", "0001")]);
    assert_eq!((converted.result, converted.path_unreadable), (-1, true));
    assert_eq!(converted.repeats.map(|repeats| repeats.count), Some(7));
    assert!(converted.attempt && !converted.path_unmounted);
}

#[test]
fn calls_of_a_sequence_have_names() {
    let Wire::Sequence(converted) = convert_body(&sequence()) else {
        panic!("not a sequence");
    };
    assert_eq!(converted.calls, ["read", "write", "execve", "509", "?", "openat"]);
    assert_eq!(converted.withheld, 3);
}

#[test]
fn names_agree_here_on_the_wire_and_in_the_kernel() {
    let names: Vec<_> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let body = body(kind);
            let entry = Entry::Event(event(process(b"", b""), body));
            assert_eq!(
                sensor_proto::signal_name(&converter().entry(&entry)),
                entry.name()
            );
            entry.name()
        })
        .collect();
    assert_eq!(names, Kind::ALL.map(Kind::name));
    assert!(names.iter().all(|name| sensor_proto::SIGNAL_NAMES.contains(name)));
}

#[test]
fn bytes_that_are_not_text_are_escaped_and_kept() {
    let converted = converter().process(&process(b"a\xffb\0plain\0", b"/bin/\xc3"), None);
    assert_eq!(converted.args, ["a\\xffb", "plain"]);
    assert_eq!(converted.args_raw, [&b"a\xffb"[..], b"plain"]);
    assert_eq!(
        (converted.executable.as_str(), &*converted.executable_raw),
        ("/bin/\\xc3", &b"/bin/\xc3"[..])
    );
    assert!(converted.cwd_raw.is_empty());
}

#[test]
fn texts_have_no_raw_bytes_beside_them() {
    let converted = converter().process(&process("grüß\0\0".as_bytes(), b"/bin/x"), None);
    assert_eq!(converted.args, ["grüß", ""]);
    assert!(converted.args_raw.is_empty() && converted.executable_raw.is_empty());
}

#[test]
fn mapped_addresses_are_ipv4() {
    let tuple = tuple(&flow());
    assert_eq!((tuple.local_address.as_str(), tuple.local_port), ("10.0.0.1", 80));
    assert_eq!(
        (tuple.remote_address.as_str(), tuple.remote_port),
        ("2001:db8::1", 5000)
    );
}

#[test]
fn an_incident_has_the_thread_that_acted() {
    let process = process(b"", b"/bin/sh");
    let signal = Signal {
        cause: 0,
        subject: "host".into(),
        source: "first-seen",
        p_value: 0.25,
        reasons: vec![],
        techniques: vec!["T1059".into()],
        rule: Some(Arc::new(Rule {
            id: "r1".into(),
            title: "A rule".into(),
            level: Level::High,
            description: "It is bad.".into(),
            false_positives: Vec::new(),
            techniques: Vec::new(),
            tactics: vec!["execution".into()],
            place: Place {
                file: "r.yml".into(),
                line: 1,
            },
            channels: Channels::default(),
        })),
        event: event(Arc::clone(&process), Body::Fork),
    };
    let incident = Incident {
        key: 0,
        processes: Vec::new(),
        ended: None,
        id: "i1".into(),
        opened: WallTime(1),
        updated: WallTime(2),
        updated_boot: BootTime(2),
        severity: Severity::High,
        acute: Severity::High,
        at_stake: None,
        summary: "new".into(),
        subject: "host".into(),
        process,
        signals: vec![Arc::new(signal)],
        count: 1,
        origin: Origin::unknown(),
    };
    let converted = converter().incident(&incident);
    let process = converted.process.as_ref().expect("a process");
    assert_eq!((process.comm.as_str(), process.tid), ("worker", 43));
    let rule = converted.signals[0].rule.as_ref().expect("a rule");
    assert_eq!(
        (&*rule.id, &*rule.level, &rule.tactics[..]),
        ("r1", "high", &["execution".to_owned()][..])
    );
    assert_eq!(
        (converted.signals[0].bits, converted.severity()),
        (2.0, v1::Severity::High)
    );
}
