use super::*;
use crate::{
    host::{Credentials, Facts, Image, Limits, Namespaces, ProcessId, Source, Thread, Workload},
    time::WallTime,
};

const HOUR: u64 = 3_600_000_000_000;

/// Processes, each started by the one before.
struct Chain {
    tree: Tree,
    last: Arc<Process>,
}

fn chain(workload: &str, credentials: Credentials, programs: &[&str]) -> Chain {
    let mut tree = Tree::new(Limits::default());
    let workload = Arc::new(Workload {
        name: workload.into(),
        ..Workload::default()
    });
    let mut last: Option<Arc<Process>> = None;
    for (number, program) in (100..).zip(programs) {
        let facts = Facts {
            id: ProcessId {
                tgid: number,
                start: BootTime(number.into()),
            },
            parent: last.as_ref().map(|parent| parent.id),
            credentials,
            workload: Arc::clone(&workload),
            namespaces: Namespaces::default(),
            kernel_thread: false,
        };
        let image = Image {
            executable: program.as_bytes().into(),
            ..Image::default()
        };
        last = Some(tree.enter(facts, Some(image)));
    }
    let last = last.expect("at least one program");
    Chain { tree, last }
}

fn logged_in(session: u32) -> Credentials {
    Credentials {
        uid: 1000,
        login_uid: Some(1000),
        session_id: Some(session),
        ..Credentials::default()
    }
}

fn event(process: &Arc<Process>, body: Body, time: u64) -> Event {
    Event {
        time: BootTime(time),
        wall: WallTime(time),
        cpu: 0,
        process: Some(Arc::clone(process)),
        parent: None,
        thread: Thread::default(),
        body,
    }
}

fn session(signal: Signal, remote: &str) -> Body {
    Body::Session(Box::new(Session {
        signal,
        user: "alice".into(),
        uid: Some(1000),
        from_uid: None,
        terminal: "".into(),
        remote: remote.into(),
        program: "sshd".into(),
        source: Source::Audit,
    }))
}

/// Alice has logged in from the office often enough to be known for it.
fn acquainted(ssh: &Chain) -> Origins {
    let mut origins = Origins::default();
    for day in 0..=LOGINS_LEARNED {
        origins.note(&event(
            &ssh.last,
            session(Signal::Login, "192.0.2.7"),
            day * 24 * HOUR,
        ));
    }
    origins
}

fn reasons(origin: &Origin) -> Vec<&str> {
    origin.reasons.iter().map(|(_, text)| &**text).collect()
}

const SSH: [&str; 3] = ["/usr/sbin/sshd", "/usr/bin/bash", "/usr/bin/curl"];

#[test]
fn who_comes_in_by_a_service_is_external() {
    let web = chain(
        "unit:nginx.service",
        Credentials::default(),
        &["/usr/sbin/nginx", "/bin/sh"],
    );
    let mut origins = Origins::default();
    let before = origins.of(&web.last, &web.tree);
    assert_eq!(
        (before.side, reasons(&before)),
        (
            Side::External,
            vec!["it began in unit:nginx.service, where nobody logs in"]
        )
    );
    let listen = Body::Listen {
        address: "0.0.0.0:80".parse().expect("an address"),
        backlog: 1,
    };
    origins.note(&event(&web.last, listen, 1));
    let origin = origins.of(&web.last, &web.tree);
    assert_eq!(
        origin.entry,
        Entry::Service("unit:nginx.service".into(), Some(80))
    );
    assert_eq!(
        reasons(&origin),
        ["it began in unit:nginx.service, which listens at port 80: nobody logged in"]
    );
}

#[test]
fn a_login_from_the_usual_place_is_an_insiders() {
    let ssh = chain("session:alice@1000", logged_in(7), &SSH);
    let origin = acquainted(&ssh).of(&ssh.last, &ssh.tree);
    assert_eq!(origin.side, Side::Insider);
    assert_eq!(
        reasons(&origin),
        [
            "it began with a login by sshd from 192.0.2.7",
            "alice logs in from there"
        ]
    );
}

#[test]
fn a_login_from_elsewhere_after_failures_is_a_stolen_one() {
    let ssh = chain("session:alice@1000", logged_in(7), &SSH);
    let mut origins = acquainted(&ssh);
    let monday = 30 * 24 * HOUR;
    for second in 0..6 {
        let failure = session(Signal::AuthFailure, "203.0.113.9");
        origins.note(&event(&ssh.last, failure, monday + second));
    }
    origins.note(&event(
        &ssh.last,
        session(Signal::Login, "203.0.113.9"),
        monday + 60,
    ));
    let origin = origins.of(&ssh.last, &ssh.tree);
    assert_eq!(origin.side, Side::External);
    assert_eq!(
        reasons(&origin),
        [
            "6 logins from 203.0.113.9 failed before this one did not",
            "alice has never logged in from 203.0.113.9 before",
            "it began with a login by sshd from 203.0.113.9",
        ]
    );
}

#[test]
fn failures_of_yesterday_are_nobodys_evidence() {
    let ssh = chain("session:alice@1000", logged_in(7), &SSH);
    let mut origins = acquainted(&ssh);
    for second in 0..6 {
        let failure = session(Signal::AuthFailure, "192.0.2.9");
        origins.note(&event(&ssh.last, failure, 30 * 24 * HOUR + second));
    }
    let login = session(Signal::Login, "192.0.2.9");
    origins.note(&event(&ssh.last, login, 31 * 24 * HOUR));
    assert_eq!(origins.of(&ssh.last, &ssh.tree).side, Side::Insider);
}

#[test]
fn before_anybody_has_logged_in_the_server_is_a_service() {
    let ssh = chain("unit:ssh.service", Credentials::default(), &SSH);
    let origin = Origins::default().of(&ssh.last, &ssh.tree);
    assert_eq!((origin.entry.name(), origin.side), ("service", Side::External));
}

#[test]
fn the_clock_and_the_packages_leave_it_open() {
    for (program, entry) in [("/usr/sbin/cron", "scheduled"), ("/usr/bin/dpkg", "packages")] {
        let chain = chain("unit:cron.service", Credentials::default(), &[program, "/bin/sh"]);
        let origin = Origins::default().of(&chain.last, &chain.tree);
        assert_eq!((origin.entry.name(), origin.side), (entry, Side::Unclear));
    }
}

#[test]
fn what_attackers_can_make_many_of_is_bounded() {
    let ssh = chain("session:alice@1000", logged_in(7), &SSH);
    let mut origins = Origins::default();
    for number in 0..3_000_u32 {
        let remote = std::net::Ipv4Addr::from(number).to_string();
        origins.note(&event(
            &ssh.last,
            session(Signal::AuthFailure, &remote),
            number.into(),
        ));
    }
    assert_eq!(origins.failures.len(), ADDRESSES.get());
}
