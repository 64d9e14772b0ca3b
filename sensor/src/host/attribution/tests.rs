use sensor_common::{Accept, Connect, Exit as ExitRecord, Fork, Listen, Signal};

use super::*;

fn identity(tgid: u32, start_time: u64) -> Identity {
    Identity {
        tgid,
        tid: tgid,
        start_time,
        parent_tgid: 1,
        uid: 1000,
        euid: 0,
        login_uid: 1000,
        session_id: UNSET_ID,
        net_ns: 5,
        ..Identity::default()
    }
}

/// A process id that no process of this machine has.
const NOBODY: u32 = 0x7fff_0000;

fn host() -> Host {
    Host::new(
        Limits::default(),
        None,
        WallClock::new(BootTime(0), crate::time::WallTime(1_000)),
    )
}

fn event(host: &mut Host, identity: Identity, body: RecordBody<'_>) -> Arc<Event> {
    let signal = Signal::Exec as u16; // Not looked at: the body tells.
    let header = Header {
        time: 500,
        cpu: 3,
        signal,
        identity,
        ..Header::default()
    };
    match host.attribute(&Record {
        header: &header,
        body,
    }) {
        Attributed::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

fn exec<'a>(exec: &'a sensor_common::Exec, args: &'a [u8], path: &'a [u8]) -> RecordBody<'a> {
    RecordBody::Exec(ExecRecord {
        exec,
        args,
        path,
        cwd: b"tmp\0",
        filename: b"asked",
        variables: b"",
    })
}

#[test]
fn a_life() {
    let mut host = host();
    let parent = identity(NOBODY, 10);
    let child = Identity {
        parent_tgid: NOBODY,
        parent_start_time: 10,
        ..identity(NOBODY + 1, 20)
    };
    let record = sensor_common::Exec {
        args_total: 9,
        inode: 4,
        ..Default::default()
    };
    let executed = event(&mut host, parent, exec(&record, b"sh\0-c\0", b"sh\0bin\0"));
    let process = executed.process.as_ref().unwrap();
    assert_eq!(&*process.image.executable, b"/bin/sh");
    assert_eq!(&*process.image.cwd, b"/tmp");
    assert!(process.image.args_truncated());
    assert_eq!(process.credentials.login_uid, Some(1000));
    assert_eq!(process.credentials.session_id, None);
    assert_eq!(&*process.workload.name, "host");
    assert_eq!(
        (executed.time, executed.wall.0, executed.cpu),
        (BootTime(500), 1_500, 3)
    );

    let forked = event(&mut host, parent, RecordBody::Fork(&Fork { child }));
    assert_eq!(forked.process.as_ref().unwrap().id, process_id(NOBODY + 1, 20));
    assert_eq!(forked.parent.as_ref().unwrap().id, process.id);
    assert_eq!(forked.body, Body::Fork);

    let record = sensor_common::Exec {
        args_total: 3,
        ..Default::default()
    };
    let replaced = event(&mut host, child, exec(&record, b"ls\0", b"ls\0bin\0usr\0"));
    let Body::Exec(details) = &replaced.body else {
        panic!("{replaced:?}")
    };
    assert_eq!(&*details.previous.as_ref().unwrap().executable, b"/bin/sh");
    assert!(!details.args_unreadable);

    let ended = event(
        &mut host,
        child,
        RecordBody::Exit(&ExitRecord {
            status: 0x300,
            reserved: 0,
        }),
    );
    assert_eq!(ended.body, Body::Exit(Exit::Code(3)));
    let header = Header {
        identity: child,
        ..Header::default()
    };
    let again = Record {
        header: &header,
        body: RecordBody::Exit(&ExitRecord::default()),
    };
    assert_eq!(host.attribute(&again), Attributed::Duplicate);
}

#[test]
fn exit_statuses() {
    for (status, expected) in [
        (0, Exit::Code(0)),
        (0xff00, Exit::Code(255)),
        (
            9,
            Exit::Signal {
                number: 9,
                core: false,
            },
        ),
        (
            0x8b,
            Exit::Signal {
                number: 11,
                core: true,
            },
        ),
    ] {
        assert_eq!(exit_status(status), expected);
    }
}

#[test]
fn connections() {
    let mut host = host();
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    let tuple = Tuple {
        local_address: mapped,
        remote_address: [0x20; 16],
        local_port: 80,
        ..Tuple::default()
    };
    let flags = flow_flags::INBOUND | flow_flags::ESTABLISHED;
    let close = FlowClose {
        socket: 9,
        tuple,
        start_time: 100,
        bytes_sent: 7,
        rtt_us: 3,
        flags,
        ..Default::default()
    };
    let closed = event(&mut host, identity(NOBODY, 10), RecordBody::FlowClose(&close));
    let Body::FlowClose(flow, totals) = &closed.body else {
        panic!("{closed:?}")
    };
    assert_eq!(flow.local, "10.0.0.1:80".parse().unwrap());
    assert!(flow.remote.is_ipv6() && flow.inbound && flow.established && !flow.listener);
    assert_eq!(
        (totals.duration, totals.bytes_sent),
        (Some(Duration::from_nanos(400)), 7)
    );
    assert_eq!(totals.rtt, Duration::from_micros(3));

    let accept = Accept {
        tuple,
        flags: flow_flags::LISTENER,
        ..Accept::default()
    };
    let accepted = event(&mut host, identity(NOBODY, 10), RecordBody::Accept(&accept));
    assert!(matches!(
        accepted.body,
        Body::Accept(Flow {
            listener: true,
            inbound: true,
            ..
        })
    ));

    let listen = Listen { tuple, backlog: 128 };
    let listening = event(&mut host, identity(NOBODY, 10), RecordBody::Listen(&listen));
    assert_eq!(
        listening.body,
        Body::Listen {
            address: "10.0.0.1:80".parse().unwrap(),
            backlog: 128
        }
    );
}

#[test]
fn a_connection_without_an_owner_belongs_to_nobody() {
    let mut host = host();
    let close = FlowClose {
        flags: flow_flags::NO_OWNER,
        ..FlowClose::default()
    };
    assert_eq!(
        event(&mut host, identity(NOBODY, 10), RecordBody::FlowClose(&close)).process,
        None
    );
    let connect = Connect::default();
    assert_eq!(
        event(&mut host, Identity::default(), RecordBody::Connect(&connect)).process,
        None
    );
    assert!(host.tree().is_empty());
}

#[test]
fn what_a_connection_says_of_its_owner_is_old() {
    let mut host = host();
    event(
        &mut host,
        Identity {
            uid: 0,
            ..identity(NOBODY, 10)
        },
        RecordBody::Connect(&Connect::default()),
    );
    let later = event(
        &mut host,
        identity(NOBODY, 10),
        RecordBody::Connect(&Connect::default()),
    );
    assert_eq!(later.process.as_ref().unwrap().credentials.uid, 1000);
    let stale = Identity {
        uid: 0,
        ..identity(NOBODY, 10)
    };
    let closed = event(&mut host, stale, RecordBody::FlowClose(&FlowClose::default()));
    assert_eq!(closed.process.as_ref().unwrap().credentials.uid, 1000);
}

#[test]
fn a_process_that_no_event_told_of_is_read_if_it_is_the_same() {
    let this = std::process::id();
    let start = ProcDir::open(this).unwrap().stat().unwrap().start.0;
    let connect = Connect::default();
    let seen = event(
        &mut host(),
        identity(this, start + 3),
        RecordBody::Connect(&connect),
    );
    assert!(!seen.process.as_ref().unwrap().image.executable.is_empty());
    let other = event(
        &mut host(),
        identity(this, start + super::super::proc::TICK_NS),
        RecordBody::Connect(&connect),
    );
    assert!(
        other.process.as_ref().unwrap().image.executable.is_empty(),
        "another process of the same id"
    );
}

#[test]
fn arguments_that_the_kernel_could_not_copy_are_read_or_said_to_be_missing() {
    let this = std::process::id();
    let directory = ProcDir::open(this).unwrap();
    let stat = directory.stat().unwrap();
    let (_, inode, _) = directory.executable();
    let flags = exec_flags::ARGS_UNREADABLE;
    for (tgid, inode, readable) in [
        (this, inode, true),
        (this, inode + 1, false),
        (NOBODY, inode, false),
    ] {
        let record = sensor_common::Exec {
            flags,
            inode,
            args_total: 100,
            ..Default::default()
        };
        let seen = event(
            &mut host(),
            identity(tgid, stat.start.0),
            exec(&record, b"", b"x\0"),
        );
        let Body::Exec(details) = &seen.body else {
            panic!("{seen:?}")
        };
        assert_eq!(details.args_unreadable, !readable);
        assert_eq!(seen.process.as_ref().unwrap().image.args.is_empty(), !readable);
    }
}

#[test]
fn the_snapshot_knows_this_process_and_its_parent() {
    let mut host = Host::new(
        Limits::default(),
        CgroupMount::detect().ok(),
        WallClock::new(BootTime(0), crate::time::WallTime(0)),
    );
    host.take_snapshot(65_536);
    let this = host.tree().live_id(std::process::id()).unwrap();
    let parent = host.tree().get(this).unwrap().parent.unwrap();
    assert!(host.tree().get(parent).is_some());
}
