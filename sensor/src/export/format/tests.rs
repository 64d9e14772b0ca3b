//! Every kind of entry in every format. OCSF is checked against the rules of its schema: what is required of each class and object that we use,
//! and which numbers mean something.

mod schema;

use std::sync::Arc;

use sensor_common::Signal as Kind;
use sensor_proto::v1::{Severity, Verdict};

use super::*;
use crate::export::{
    Entry, Loss,
    convert::tests::{body, converter, event, process},
};
use crate::time::WallTime;

fn acting() -> Arc<crate::host::Process> {
    process(b"sh\0-c\0ls\0", b"/usr/bin/dash")
}

/// One of each event.
fn events() -> Vec<(&'static str, v1::Entry)> {
    let entry = |kind: Kind| converter().entry(&Entry::Event(event(acting(), body(kind))));
    Kind::ALL
        .into_iter()
        .map(|kind| (kind.name(), entry(kind)))
        .collect()
}

fn wrap(body: v1::entry::Body) -> v1::Entry {
    v1::Entry {
        host: "web1".into(),
        body: Some(body),
    }
}

fn signal(with_rule: bool) -> v1::Signal {
    let Some(v1::entry::Body::Event(event)) = entry_of(Kind::Exec).body else {
        panic!("an event");
    };
    let rule = v1::Rule {
        id: "r1".into(),
        title: "A shell of a server".into(),
        level: "high".into(),
        description: "Servers start no shells.".into(),
        ..v1::Rule::default()
    };
    v1::Signal {
        subject: "unit:nginx.service".into(),
        source: if with_rule { "sigma" } else { "lineage" }.into(),
        p_value: 0.25,
        bits: 2.0,
        reasons: vec!["it never started that".into()],
        techniques: vec!["T1059".into()],
        event: Some(event),
        rule: with_rule.then_some(rule),
    }
}

fn entry_of(kind: Kind) -> v1::Entry {
    converter().entry(&Entry::Event(event(acting(), body(kind))))
}

fn incident() -> v1::Incident {
    v1::Incident {
        id: "i1".into(),
        opened_ns: 1_700_000_000_000_000_000,
        updated_ns: 1_700_000_060_000_000_000,
        severity: Severity::High.into(),
        summary: "nginx started a shell".into(),
        subject: "unit:nginx.service".into(),
        process: signal(true).event.and_then(|event| event.process),
        signals: vec![signal(true), signal(false)],
        count: 3,
        tactics: vec!["execution".into()],
        ..v1::Incident::default()
    }
}

fn outcome() -> v1::Outcome {
    v1::Outcome {
        action: Some(v1::Action {
            kind: v1::ActionKind::Kill.into(),
            target: Some(v1::ProcessId {
                tgid: 42,
                start_time_ns: 7,
            }),
            incident_id: "i1".into(),
            ..v1::Action::default()
        }),
        result: v1::Result::Done.into(),
        detail: "killed".into(),
        time_ns: 1_700_000_061_000_000_000,
        latency_ns: 1_000_000,
        number: 5,
        who: "policy".into(),
        ..v1::Outcome::default()
    }
}

fn loss() -> v1::Entry {
    converter().entry(&Entry::Loss(Loss {
        stage: "ring",
        signal: Some(Kind::FileOpen),
        count: 9,
        reason: "the ring was full",
        from: WallTime(1_700_000_000_000_000_000),
        to: WallTime(1_700_000_001_000_000_000),
    }))
}

/// One of each entry there is, and variants that become something else.
fn all() -> Vec<(&'static str, v1::Entry)> {
    let mut ended = incident();
    ended.ended = Some(v1::Ending {
        verdict: Verdict::Benign.into(),
        why: "a drill".into(),
        ..v1::Ending::default()
    });
    let mut new = incident();
    new.updated_ns = new.opened_ns;
    let mut nobodys = entry_of(Kind::FileOpen);
    if let Some(v1::entry::Body::Event(event)) = &mut nobodys.body {
        event.process = None;
    }
    let mut all = events();
    for kind in 0..16 {
        let mut outcome = outcome();
        if let Some(action) = &mut outcome.action {
            action.kind = kind;
        }
        outcome.result = kind % 10;
        all.push(("outcome", wrap(v1::entry::Body::Outcome(outcome))));
    }
    all.extend([
        ("signal", wrap(v1::entry::Body::Signal(signal(true)))),
        ("signal", wrap(v1::entry::Body::Signal(signal(false)))),
        ("incident", wrap(v1::entry::Body::Incident(incident()))),
        ("incident", wrap(v1::entry::Body::Incident(new))),
        ("incident", wrap(v1::entry::Body::Incident(ended))),
        ("loss", loss()),
        ("file_open", nobodys),
        ("", v1::Entry::default()),
    ]);
    all
}

#[test]
fn every_event_keeps_the_rules_of_ocsf() {
    let mut wrong = Vec::new();
    for (name, entry) in all() {
        let faults = schema::faults(&ocsf::encode(&entry));
        wrong.extend(faults.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rules_find_what_is_wrong() {
    let mut event = ocsf::encode(&entry_of(Kind::FileOpen));
    assert_eq!(schema::faults(&event), Vec::<String>::new());
    event["type_uid"] = 7.into();
    event["severity_id"] = 42.into();
    event["file"] = serde_json::json!({ "path": "/x" });
    event["filename"] = "x".into();
    let faults = schema::faults(&event).join("; ");
    for fault in [
        "type_uid",
        "severity_id is 42",
        "file has no name",
        "file has no type_id",
        "filename is no attribute",
    ] {
        assert!(faults.contains(fault), "{fault}: {faults}");
    }
}

/// ECS: what every document has, and names that are of the schema or our own.
#[test]
fn every_document_has_what_ecs_wants() {
    const KINDS: [&str; 3] = ["alert", "event", "pipeline_error"];
    const TOP: [&str; 22] = [
        "@timestamp",
        "agent",
        "container",
        "destination",
        "dns",
        "ecs",
        "event",
        "file",
        "host",
        "message",
        "network",
        "process",
        "rule",
        "sensor",
        "server",
        "service",
        "source",
        "threat",
        "tls",
        "user",
        "group",
        "labels",
    ];
    const CATEGORIES: [&str; 10] = [
        "authentication",
        "configuration",
        "driver",
        "file",
        "host",
        "iam",
        "intrusion_detection",
        "network",
        "process",
        "session",
    ];
    const TYPES: [&str; 14] = [
        "access",
        "allowed",
        "change",
        "connection",
        "creation",
        "deletion",
        "end",
        "error",
        "indicator",
        "info",
        "protocol",
        "start",
        "user",
        "denied",
    ];
    for (name, entry) in all() {
        if entry.body.is_none() {
            continue;
        }
        let document = ecs::encode(&entry);
        let fields = document.as_object().expect("an object");
        for field in fields.keys() {
            assert!(TOP.contains(&field.as_str()), "{name}: {field}");
        }
        let event = &document["event"];
        assert!(KINDS.contains(&event["kind"].as_str().expect("a kind")), "{name}");
        for category in event["category"].as_array().expect("categories") {
            assert!(
                CATEGORIES.contains(&category.as_str().expect("a text")),
                "{name}: {category}"
            );
        }
        for kind in event["type"].as_array().expect("types") {
            assert!(TYPES.contains(&kind.as_str().expect("a text")), "{name}: {kind}");
        }
        assert_eq!(document["ecs"]["version"], "8.17.0");
        assert!(document["@timestamp"].as_str().expect("a time").ends_with('Z'));
    }
}

#[test]
fn lines_are_one_line_of_json() {
    for format in [Format::Json, Format::Ocsf, Format::Ecs] {
        for (name, entry) in all() {
            let line = format.line(&entry);
            assert!(!line.contains('\n'), "{name}");
            serde_json::from_str::<Value>(&line).expect("is JSON");
        }
    }
}

/// All of it as it is written, one line each: whoever changes a word sees it here.
fn written(format: Format) -> String {
    let of_each = [
        ("exec", entry_of(Kind::Exec)),
        ("exit", entry_of(Kind::Exit)),
        ("file_rename", entry_of(Kind::FileRename)),
        ("memfd", entry_of(Kind::Memfd)),
        ("module", entry_of(Kind::Module)),
        ("sysctl", entry_of(Kind::Sysctl)),
        ("flow_close", entry_of(Kind::FlowClose)),
        ("dns", entry_of(Kind::Dns)),
        ("login", entry_of(Kind::Login)),
        ("signal", wrap(v1::entry::Body::Signal(signal(true)))),
        ("incident", wrap(v1::entry::Body::Incident(incident()))),
        ("outcome", wrap(v1::entry::Body::Outcome(outcome()))),
        ("loss", loss()),
    ];
    let lines = of_each.map(|(name, entry)| format!("{name}: {}", format.line(&entry)));
    lines.join("\n").replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn ocsf_reads_so() {
    assert_eq!(written(Format::Ocsf), include_str!("tests/ocsf.txt").trim_end());
}

#[test]
fn ecs_reads_so() {
    assert_eq!(written(Format::Ecs), include_str!("tests/ecs.txt").trim_end());
}

#[test]
fn our_own_reads_so() {
    assert_eq!(written(Format::Json), include_str!("tests/json.txt").trim_end());
}
