use sensor_proto::v1::*;

use super::{Style, line};

const NOON: u64 = 1_700_049_600_123_000_000;

fn process() -> Process {
    Process {
        id: Some(ProcessId {
            tgid: 1234,
            start_time_ns: 5,
        }),
        parent_id: Some(ProcessId {
            tgid: 1,
            start_time_ns: 1,
        }),
        parent_executable: "/usr/lib/systemd/systemd".into(),
        executable: "/usr/bin/bash".into(),
        args: ["bash", "-c", "echo hi"].map(String::from).into(),
        comm: "bash".into(),
        user: "alice".into(),
        uid: 1000,
        euid: 1000,
        login_uid: Some(1000),
        workload: "unit:ssh.service".into(),
        ..Process::default()
    }
}

fn show(body: entry::Body) -> String {
    line(
        &Entry {
            host: "web1".into(),
            body: Some(body),
        },
        Style::default(),
    )
}

fn event(process: Option<Process>, body: event::Body) -> String {
    show(entry::Body::Event(Event {
        time_ns: NOON,
        process,
        body: Some(body),
        ..Event::default()
    }))
}

fn tuple() -> Option<Tuple> {
    Some(Tuple {
        local_address: "10.0.0.1".into(),
        local_port: 22,
        remote_address: "2001:db8::1".into(),
        remote_port: 50_000,
        remote_name: String::new(),
    })
}

#[test]
fn exec() {
    insta::assert_snapshot!(event(Some(process()), event::Body::Exec(Exec::default())), @"12:00:00.123Z exec       bash[1234]             alice      /usr/bin/bash -c 'echo hi' [unit:ssh.service]");
}

#[test]
fn exec_of_a_script_by_root_who_logged_in_as_somebody() {
    let process = Process {
        uid: 0,
        user: String::new(),
        euid: 0,
        args_truncated: true,
        args_total_bytes: 100_000,
        ..process()
    };
    let exec = Exec {
        filename: "/tmp/it's a script".into(),
        script: true,
        ..Exec::default()
    };
    insta::assert_snapshot!(event(Some(process), event::Body::Exec(exec)), @r"12:00:00.123Z exec       bash[1234]             0(1000)    /usr/bin/bash -c 'echo hi' (arguments cut, 100.0 kB in all, script '/tmp/it'\''s a script') [unit:ssh.service]");
}

#[test]
fn exec_of_a_memory_file_that_means_harm() {
    let process = Process {
        executable: "/memfd:\u{202e}gpj.exe\x1b]0;owned\x07".into(),
        args: vec!["x".into(), "two\nlines".into(), "\u{9b}2J".into()],
        user: "mal\x1b[31mlory".into(),
        workload: "container:\u{200b}x".into(),
        ..process()
    };
    let exec = Exec {
        memfd: true,
        unlinked: true,
        ..Exec::default()
    };
    insta::assert_snapshot!(event(Some(process), event::Body::Exec(exec)), @r"12:00:00.123Z exec       memfd:\u{202e}gpj.exe\x1b]0;owned\x07[1234] mal\x1b[31mlory '/memfd:\u{202e}gpj.exe\x1b]0;owned\x07' two\nlines '\u{9b}2J' (memory file) [container:\u{200b}x]");
}

#[test]
fn fork() {
    insta::assert_snapshot!(event(Some(process()), event::Body::Fork(Fork {})), @"12:00:00.123Z fork       bash[1234]             alice      from /usr/lib/systemd/systemd[1] [unit:ssh.service]");
}

#[test]
fn exits() {
    let exit = |exit| event(Some(process()), event::Body::Exit(exit));
    insta::assert_snapshot!(exit(Exit { code: Some(3), ..Exit::default() }), @"12:00:00.123Z exit       bash[1234]             alice      code 3 [unit:ssh.service]");
    insta::assert_snapshot!(exit(Exit { signal: Some(11), core_dumped: true, ..Exit::default() }), @"12:00:00.123Z exit       bash[1234]             alice      killed by SIGSEGV, core dumped [unit:ssh.service]");
}

#[test]
fn connections() {
    insta::assert_snapshot!(
        event(Some(process()), event::Body::Connect(Connect { flow_id: 1, tuple: tuple() })), @"12:00:00.123Z connect    bash[1234]             alice      to [2001:db8::1]:50000 [unit:ssh.service]");
    insta::assert_snapshot!(
        event(Some(process()), event::Body::Accept(Accept { tuple: tuple(), ..Accept::default() })), @"12:00:00.123Z accept     bash[1234]             alice      from [2001:db8::1]:50000 on 10.0.0.1:22 [unit:ssh.service]");
    let listen = Listen {
        address: "::".into(),
        port: 80,
        backlog: 128,
    };
    insta::assert_snapshot!(event(Some(process()), event::Body::Listen(listen)), @"12:00:00.123Z listen     bash[1234]             alice      on [::]:80 (backlog 128) [unit:ssh.service]");
    let flow = FlowClose {
        tuple: tuple(),
        inbound: true,
        established: true,
        duration_ns: Some(1_500_000_000),
        bytes_sent: 1234,
        bytes_received: 99,
        retransmits: 2,
        rtt_us: 350,
        ..FlowClose::default()
    };
    insta::assert_snapshot!(event(None, event::Body::FlowClose(flow.clone())), @"12:00:00.123Z flow_close                                   from [2001:db8::1]:50000 on 10.0.0.1:22, sent 1.2 kB, received 99 B in 1.5 s, rtt 350.0 µs, 2 retransmits");
    let refused = FlowClose {
        established: false,
        inbound: false,
        ..flow
    };
    insta::assert_snapshot!(event(Some(process()), event::Body::FlowClose(refused)), @"12:00:00.123Z flow_close bash[1234]             alice      to [2001:db8::1]:50000, never established [unit:ssh.service]");
}

#[test]
fn greetings() {
    let hello = TlsHello {
        tuple: tuple(),
        server_name: "files.example\\x1b".into(),
        protocols: vec!["h2".into()],
        versions: vec![772],
        ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1".into(),
        ..TlsHello::default()
    };
    insta::assert_snapshot!(event(Some(process()), event::Body::TlsHello(hello)), @r"12:00:00.123Z tls_hello  bash[1234]             alice      files.example\x1b at [2001:db8::1]:50000 h2 t13d1516h2_8daaf6152771_e5627efa2ab1 [unit:ssh.service]");
    let cut = TlsHello {
        tuple: tuple(),
        truncated: true,
        ..TlsHello::default()
    };
    insta::assert_snapshot!(event(Some(process()), event::Body::TlsHello(cut)), @"12:00:00.123Z tls_hello  bash[1234]             alice      no name at [2001:db8::1]:50000 (cut) [unit:ssh.service]");
}

#[test]
fn conclusions() {
    let event = Event {
        time_ns: NOON,
        process: Some(process()),
        ..Event::default()
    };
    let signal = Signal {
        source: "first-seen".into(),
        bits: 8.25,
        reasons: vec!["nginx never started bash".into()],
        event: Some(event),
        ..Signal::default()
    };
    insta::assert_snapshot!(show(entry::Body::Signal(signal)), @"12:00:00.123Z signal     bash[1234]             alice      8.2 bits: nginx never started bash (first-seen) [unit:ssh.service]");
    let incident = Incident {
        id: "i-7".into(),
        updated_ns: NOON,
        severity: Severity::High.into(),
        summary: "nginx started bash, which it never did".into(),
        process: Some(process()),
        count: 3,
        origin: Some(Origin {
            entry: "service".into(),
            side: Side::External.into(),
            reasons: vec![
                SideReason {
                    side: Side::Insider.into(),
                    text: "it is night".into(),
                },
                SideReason {
                    side: Side::External.into(),
                    text: "it began in unit:nginx.service".into(),
                },
            ],
        }),
        ..Incident::default()
    };
    insta::assert_snapshot!(show(entry::Body::Incident(incident)), @"12:00:00.123Z incident   bash[1234]             alice      HIGH nginx started bash, which it never did; external: it began in unit:nginx.service (i-7, seen 3 times) [unit:ssh.service]");
    let action = Action {
        kind: ActionKind::Kill.into(),
        target: process().id,
        incident_id: "i-7".into(),
        ..Action::default()
    };
    let outcome = Outcome {
        action: Some(action),
        result: Result::Done.into(),
        detail: "SIGKILL sent".into(),
        time_ns: NOON,
        latency_ns: 1_200_000,
        ..Outcome::default()
    };
    insta::assert_snapshot!(show(entry::Body::Outcome(outcome)), @"12:00:00.123Z outcome                                      kill [1234]: done, SIGKILL sent (i-7, after 1.2 ms)");
}

#[test]
fn calls_in_a_new_order() {
    let sequence = |withheld| {
        let calls = ["read", "mmap", "socket", "connect", "dup2", "execve"];
        let calls = calls.map(String::from).into();
        event(
            Some(process()),
            event::Body::Sequence(Sequence { calls, withheld }),
        )
    };
    insta::assert_snapshot!(sequence(0), @"12:00:00.123Z sequence   bash[1234]             alice      read mmap socket connect dup2 execve [unit:ssh.service]");
    insta::assert_snapshot!(sequence(12), @"12:00:00.123Z sequence   bash[1234]             alice      read mmap socket connect dup2 execve (and 12 more) [unit:ssh.service]");
}

#[test]
fn loss() {
    let loss = Loss {
        stage: "ring".into(),
        signal: "connect".into(),
        count: 12,
        reason: "the ring was full".into(),
        to_ns: NOON,
        ..Loss::default()
    };
    insta::assert_snapshot!(show(entry::Body::Loss(loss)), @"12:00:00.123Z loss                                         12 connect events lost (ring): the ring was full");
}

#[test]
fn what_is_unknown_is_said_to_be() {
    insta::assert_snapshot!(line(&Entry::default(), Style { host: true, colour: false }), @"00:00:00.000Z                                                           something this version does not know");
}

#[test]
fn colours_only_where_asked_for() {
    let entry = Entry {
        host: "web1".into(),
        body: Some(entry::Body::Loss(Loss::default())),
    };
    assert!(
        line(
            &entry,
            Style {
                colour: true,
                host: true
            }
        )
        .contains("\x1b[33m")
    );
    assert!(!line(&entry, Style::default()).contains('\x1b'));
}
