use insta::assert_snapshot;

use super::*;
use crate::{
    detect::{Detector, Findings},
    host::{Image, Limits, ProcessId, Tree},
    time::WallTime,
};

trait Alone {
    /// Where no process is known but those of the event.
    fn detect_alone(&mut self, event: &Arc<Event>) -> Findings;
}

impl Alone for Detector {
    fn detect_alone(&mut self, event: &Arc<Event>) -> Findings {
        self.detect(event, &Tree::new(Limits::default()))
    }
}

fn config() -> config::Detect {
    config::Detect {
        learn_events: 20,
        learn_minutes: 0,
        ..config::Detect::default()
    }
}

fn process(workload: &str, executable: &str) -> Process {
    Process {
        id: ProcessId {
            tgid: 100,
            start: BootTime(1),
        },
        parent: None,
        image: image(executable),
        credentials: crate::host::Credentials::default(),
        workload: Arc::new(Workload {
            name: workload.into(),
            ..Workload::default()
        }),
        namespaces: crate::host::Namespaces::default(),
        kernel_thread: false,
    }
}

fn image(executable: &str) -> Arc<Image> {
    Arc::new(Image {
        executable: executable.as_bytes().into(),
        ..Image::default()
    })
}

/// `executable` took the place of `from`, at `time`.
fn exec(workload: &str, from: &str, executable: &str, time: u64) -> Arc<Event> {
    exec_as(
        workload,
        Exec {
            previous: Some(image(from)),
            ..Exec::default()
        },
        executable,
        time,
    )
}

fn exec_as(workload: &str, exec: Exec, executable: &str, time: u64) -> Arc<Event> {
    Arc::new(Event {
        time: BootTime(time),
        wall: WallTime(time),
        cpu: 0,
        process: Some(Arc::new(process(workload, executable))),
        parent: None,
        thread: crate::host::Thread::default(),
        body: Body::Exec(exec),
    })
}

/// A web server that has started 18 of itself and two loggers.
fn learned(config: &config::Detect, workload: &str) -> Detector {
    let mut detector = Detector::new(config, "host");
    for number in 0..20 {
        let executable = if number % 10 == 0 {
            "/usr/bin/logger"
        } else {
            "/usr/sbin/nginx"
        };
        let findings = detector.detect_alone(&exec(workload, "/usr/sbin/nginx", executable, number));
        assert_eq!(findings, Findings::default());
    }
    detector
}

#[test]
fn a_service_starts_a_shell() {
    let mut detector = learned(&config(), "unit:nginx.service");
    let known = exec("unit:nginx.service", "/usr/sbin/nginx", "/usr/bin/logger", 30);
    assert_eq!(detector.detect_alone(&known), Findings::default());
    let found = detector.detect_alone(&exec(
        "unit:nginx.service",
        "/usr/sbin/nginx",
        "/usr/bin/dash",
        31,
    ));
    let [signal] = &found.signals[..] else {
        panic!("{found:?}")
    };
    assert_snapshot!(signal.reasons.join(" "), @"nginx.service has started /usr/bin/dash from /usr/sbin/nginx for the first time; in 21 starts it ran only /usr/sbin/nginx (18), /usr/bin/logger (3)");
    assert_eq!(signal.techniques, ["T1059.004"]);
    assert_eq!(&*signal.subject, "unit:nginx.service");
    assert!(signal.p_value < 0.05);
    let [incident] = &found.incidents[..] else {
        panic!("{found:?}")
    };
    assert_eq!((incident.severity, incident.count), (Severity::High, 1));
    assert_eq!(incident.summary, signal.reasons[0]);
    assert_eq!(incident.signals, [Arc::clone(signal)]);
}

#[test]
fn the_same_again_is_the_same_incident_until_it_pauses() {
    let window = config().incident_window.as_nanos() as u64;
    let mut detector = learned(&config(), "unit:a.service");
    let mut shell = |time| {
        detector
            .detect_alone(&exec("unit:a.service", "/usr/sbin/nginx", "/bin/sh", time))
            .incidents
            .remove(0)
    };
    let first = shell(100);
    let second = shell(100 + window - 1);
    assert_eq!((&first.id, second.count, first.count), (&second.id, 2, 1));
    assert_eq!(
        (second.opened, second.updated_boot),
        (first.opened, BootTime(99 + window))
    );
    let third = shell(99 + 2 * window);
    assert_ne!(first.id, third.id);
    assert_eq!(third.count, 1);
}

#[test]
fn evidence_and_open_incidents_are_bounded() {
    let config = config::Detect {
        max_incidents: 2,
        ..config()
    };
    let mut detector = learned(&config, "unit:a.service");
    let mut find = |executable: &str, time| {
        let mut event = Event::clone(&exec("unit:a.service", "/usr/sbin/nginx", executable, time));
        // Each of a process tree of its own: what happens on one is one incident.
        if let Some(process) = &mut event.process {
            Arc::make_mut(process).id.tgid =
                1_000 + executable.len() as u32 * 7 + u32::from(executable.as_bytes()[5]);
        }
        let found = detector.detect_alone(&Arc::new(event));
        Arc::clone(&found.incidents[0])
    };
    let first = find("/bin/1", 100);
    for time in 0..100 {
        find("/bin/2", 101 + time);
    }
    let second = find("/bin/2", 300);
    assert_eq!((second.count, second.signals.len()), (101, 16));
    find("/bin/3", 301);
    assert_ne!(find("/bin/1", 302).id, first.id, "it was closed to make room");
}

#[test]
fn the_same_events_give_the_same_findings() {
    let [left, right] = [(); 2].map(|()| {
        learned(&config(), "unit:a.service").detect_alone(&exec(
            "unit:a.service",
            "/usr/sbin/nginx",
            "/bin/sh",
            100,
        ))
    });
    assert_eq!(left, right);
    // An id that changes between versions would open everybody's incidents anew.
    assert_snapshot!(left.incidents[0].id, @"bb07814a105ab985");
}

#[test]
fn a_service_that_never_started_anything() {
    let config = config::Detect {
        learn_events: 0,
        learn_minutes: 1,
        ..config()
    };
    let mut detector = Detector::new(&config, "host");
    let mut tree = Tree::new(Limits::default());
    let daemon = process("unit:quiet.service", "/usr/sbin/quiet");
    let facts = crate::host::Facts {
        id: daemon.id,
        parent: None,
        credentials: daemon.credentials,
        workload: daemon.workload,
        namespaces: daemon.namespaces,
        kernel_thread: false,
    };
    tree.enter_snapshot(facts, Image::clone(&daemon.image));
    detector.seed(&tree, BootTime(0));
    let found = detector.detect_alone(&exec(
        "unit:quiet.service",
        "/usr/sbin/quiet",
        "/bin/sh",
        60_000_000_000,
    ));
    assert_snapshot!(found.signals[0].reasons[0], @"quiet.service has started /bin/sh from /usr/sbin/quiet for the first time; its only start so far was not from there");
}

#[test]
fn who_is_flagged_is_for_the_operator_to_say() {
    for workload in ["session:1000", "host", "unknown"] {
        let shell = exec(workload, "/usr/sbin/nginx", "/bin/sh", 100);
        assert_eq!(
            learned(&config(), workload).detect_alone(&shell),
            Findings::default(),
            "{workload}"
        );
    }
    let all = config::Detect {
        flag: vec![SubjectKind::Session, SubjectKind::Host],
        ..config()
    };
    for workload in ["session:1000", "host"] {
        let shell = exec(workload, "/usr/sbin/nginx", "/bin/sh", 100);
        assert_eq!(
            learned(&all, workload).detect_alone(&shell).incidents.len(),
            1,
            "{workload}"
        );
    }
}

#[test]
fn a_restart_is_no_alarm() {
    let mut detector = learned(&config(), "unit:a.service");
    let manager = "/usr/lib/systemd/systemd-executor";
    let prepare = exec("unit:a.service", manager, "/usr/bin/dash", 100);
    assert_eq!(detector.detect_alone(&prepare), Findings::default());
    let from_itself = exec("unit:a.service", "/usr/sbin/nginx", "/usr/bin/dash", 101);
    assert_eq!(
        detector.detect_alone(&from_itself).incidents.len(),
        1,
        "it remains news from the service itself"
    );
}

#[test]
fn something_new_from_the_inventive_is_learned() {
    let mut detector = Detector::new(&config(), "host");
    for number in 0..60 {
        let findings = detector.detect_alone(&exec(
            "unit:build.service",
            "/bin/make",
            &format!("/tmp/{number}"),
            number,
        ));
        assert_eq!(findings, Findings::default());
    }
}

#[test]
fn what_is_peculiar_is_said() {
    let mut detector = learned(&config(), "container:3f2a9c1be77d");
    let memfd = Exec {
        previous: Some(image("/usr/sbin/nginx")),
        memfd: true,
        unlinked: true,
        ..Exec::default()
    };
    let hostile = "/memfd:\u{1b}[31m\u{202e}\n";
    let found = detector.detect_alone(&exec_as("container:3f2a9c1be77d", memfd, hostile, 100));
    assert_eq!(found.signals[0].techniques, ["T1106", "T1620"]);
    assert_eq!(found.incidents[0].severity, Severity::High);
    assert_snapshot!(found.signals[0].reasons.join("\n"), @r#"
container 3f2a9c1be77d has started /memfd:\u{1b}[31m\u{202e}\u{a} from /usr/sbin/nginx for the first time; in 20 starts it ran only /usr/sbin/nginx (18), /usr/bin/logger (2)
The program is in memory only: it was never a file on a disk.
"#);
}

#[test]
fn interpreters() {
    for (path, technique) in [
        ("/usr/bin/dash", Some("T1059.004")),
        ("/bin/busybox", Some("T1059.004")),
        ("/usr/bin/python3.11", Some("T1059.006")),
        ("/usr/bin/perl5.36.0", Some("T1059")),
        ("/usr/bin/node", Some("T1059.007")),
        ("/usr/bin/lua5.4", Some("T1059.011")),
        ("/usr/bin/sha256sum", None),
        ("/usr/sbin/sshd", None),
        ("", None),
    ] {
        assert_eq!(interpreter(path.as_bytes()), technique, "{path}");
    }
}
