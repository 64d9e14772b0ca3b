use std::sync::Arc;

use proptest::prelude::*;
use sensor_common::Signal;

use super::{Pattern, Subject};
use crate::{
    capture::calls::CALLS,
    host::{Body, Credentials, Event, Image, Namespaces, Operation, Process, ProcessId, Thread, Workload},
    time::{BootTime, WallTime},
};

fn operation(call: &str, path: &str, target: &str) -> Event {
    let call = CALLS.iter().find(|row| row.name == call).unwrap();
    let process = Process {
        id: ProcessId {
            tgid: 42,
            start: BootTime(1),
        },
        parent: None,
        image: Arc::new(Image {
            executable: (*b"/usr/bin/rsync").into(),
            ..Image::default()
        }),
        credentials: Credentials {
            uid: 7,
            ..Credentials::default()
        },
        workload: Arc::new(Workload {
            cgroup: "/system.slice/backup.service".into(),
            ..Workload::default()
        }),
        namespaces: Namespaces::default(),
        kernel_thread: false,
    };
    Event {
        time: BootTime(9),
        wall: WallTime(9),
        cpu: 0,
        process: Some(Arc::new(process)),
        parent: None,
        thread: Thread::default(),
        body: Body::Operation(Box::new(Operation {
            path: path.as_bytes().into(),
            target: target.as_bytes().into(),
            ..Operation::of(call.signal, call)
        })),
    }
}

fn path(text: &str) -> Subject {
    Subject::Path(Pattern::new(text))
}

#[test]
fn a_path_is_muted_with_what_lies_below_it() {
    for (rule, call, given, target, muted) in [
        ("/var/log", "unlink", "/var/log/a", "", true),
        ("/var/log/", "unlink", "/var/log/a/b", "", true),
        ("/var/log", "unlink", "/var/log", "", true),
        ("/var/log", "unlink", "/var/logs", "", false),
        ("/var/log*", "unlink", "/var/logs", "", true),
        ("/", "unlink", "/anything", "", true),
        // Out of the muted directory, or into it, is not in it.
        ("/tmp", "rename", "/tmp/a", "/etc/cron.d/a", false),
        ("/tmp", "rename", "/etc/shadow", "/tmp/a", false),
        ("/tmp", "rename", "/tmp/a", "/tmp/b", true),
        ("/tmp", "unlink", "/tmp/../etc/passwd", "", false),
        // What a link says is no path that is touched.
        ("/tmp", "symlink", "/etc/shadow", "/tmp/a", true),
        ("/tmp", "memfd_create", "/tmp/x", "", false),
        ("/tmp", "setsid", "", "", false),
    ] {
        assert_eq!(
            path(rule).is_of(&operation(call, given, target)),
            muted,
            "{rule}: {call} {given} {target}"
        );
    }
}

#[test]
fn subjects_are_known_by_what_they_are() {
    let event = operation("setsid", "", "");
    for (subject, muted) in [
        (Subject::Executable(Pattern::new("/usr/bin/rsync")), true),
        (Subject::Executable(Pattern::new("/usr/bin")), false),
        (Subject::Executable(Pattern::new("/usr/bin/*")), true),
        (Subject::Cgroup(Pattern::new("/system.slice")), true),
        (
            Subject::Cgroup(Pattern::new("/system.slice/backup.service")),
            true,
        ),
        (Subject::Cgroup(Pattern::new("/system.slice/backup")), false),
        (Subject::User(7), true),
        (Subject::User(0), false),
        (Subject::Network("10.0.0.0/8".parse().unwrap()), false),
    ] {
        assert_eq!(subject.is_of(&event), muted, "{subject}");
    }
    assert_eq!(event.body.signal(), Signal::Setsid);
}

#[test]
fn rules_are_shown_as_they_are_meant() {
    for (written, shown) in [
        ("/a/", "/a"),
        ("/a", "/a"),
        ("/a*", "/a*"),
        ("/", "/"),
        ("/a/*", "/a/*"),
    ] {
        assert_eq!(Pattern::new(written).to_string(), shown);
    }
}

proptest! {
    #[test]
    fn what_is_covered_begins_with_the_pattern(pattern in "/[a-c/.*]{0,6}", path in "/[a-c/.]{0,8}") {
        let rule = Pattern::new(&pattern);
        if rule.covers(path.as_bytes()) {
            let beginning = pattern.trim_end_matches('*').trim_end_matches('/');
            prop_assert!(path.starts_with(beginning), "{} covers {}", pattern, path);
            prop_assert!(!path.split('/').any(|component| component == ".."));
        }
    }
}
