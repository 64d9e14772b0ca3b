use super::*;
use crate::{
    config,
    detect::{Detector, Findings},
    host::{Body, Credentials, Exec, Image, Limits, Namespaces, ProcessId, Thread, Workload},
    rules::Source,
    time::WallTime,
};

const SECOND: u64 = 1_000_000_000;

fn rules(texts: &[&str]) -> RuleSet {
    let sources: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| Source {
            file: format!("{index}.yml").into(),
            text: (*text).to_owned(),
        })
        .collect();
    let set = RuleSet::build(&sources, &[]);
    assert_eq!(set.faults, []);
    set
}

fn rule(name: &str, level: &str, command: &str) -> String {
    format!(
        "title: {name}\nid: {name}\ndescription: Why {name}.\ntags: [attack.t1059, attack.execution]\nlevel: {level}\n\
         logsource:\n  category: process_creation\ndetection:\n  a:\n    CommandLine|contains: {command}\n  condition: a\n"
    )
}

fn detector(set: RuleSet) -> Detector {
    let mut detector = Detector::new(&config::Detect::default(), "host");
    detector.set_rules(set);
    detector
}

/// Process `tgid` of a service executes a command, at second `time`.
fn exec(tgid: u32, args: &str, time: u64) -> Arc<Event> {
    let process = Process {
        id: ProcessId {
            tgid,
            start: BootTime(1),
        },
        parent: Some(ProcessId {
            tgid: 1,
            start: BootTime(1),
        }),
        image: Arc::new(Image {
            executable: b"/usr/bin/tool"[..].into(),
            args: args.replace(' ', "\0").into_bytes().into(),
            ..Image::default()
        }),
        credentials: Credentials {
            session_id: Some(7),
            ..Credentials::default()
        },
        workload: Arc::new(Workload {
            name: "session:user@1000".into(),
            ..Workload::default()
        }),
        namespaces: Namespaces::default(),
        kernel_thread: false,
    };
    Arc::new(Event {
        time: BootTime(time * SECOND),
        wall: WallTime(time * SECOND),
        cpu: 0,
        process: Some(Arc::new(process)),
        parent: None,
        thread: Thread::default(),
        body: Body::Exec(Exec::default()),
    })
}

fn detect(detector: &mut Detector, event: &Arc<Event>) -> Findings {
    detector.detect(event, &Tree::new(Limits::default()))
}

#[test]
fn a_match_opens_an_incident_with_what_the_rule_says() {
    let mut detector = detector(rules(&[&rule("bad", "high", "evil")]));
    assert_eq!(
        detect(&mut detector, &exec(5, "tool good", 10)),
        Findings::default()
    );
    let found = detect(&mut detector, &exec(5, "tool evil", 11));
    let [incident] = &found.incidents[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (incident.severity, incident.acute, incident.count),
        (Severity::High, Severity::High, 1)
    );
    assert_eq!(incident.summary, "bad (/usr/bin/tool of user user@1000)");
    let [signal] = &incident.signals[..] else {
        panic!("{incident:?}")
    };
    assert_eq!(
        signal.reasons[1..],
        ["Why bad.", "Matched by CommandLine: tool evil"]
    );
    assert_eq!(signal.techniques, ["T1059"]);
    assert_eq!(signal.rule.as_ref().map(|rule| &*rule.id), Some("bad"));
    // The same of the same process is told once.
    assert_eq!(
        detect(&mut detector, &exec(5, "tool evil", 12)),
        Findings::default()
    );
    assert_eq!(
        detect(&mut detector, &exec(6, "tool evil", 12)).incidents[0].count,
        2
    );
    assert_eq!(
        detect(&mut detector, &exec(5, "tool evil", 80)).incidents[0].count,
        3
    );
}

#[test]
fn what_one_session_does_is_one_incident_and_the_worst_of_it_names_it() {
    let texts = [
        rule("hint", "low", "look"),
        rule("odd", "medium", "odd"),
        rule("bad", "critical", "evil"),
    ];
    let mut detector = detector(rules(&[&texts[0], &texts[1], &texts[2]]));
    let hint = detect(&mut detector, &exec(5, "tool look", 10));
    assert_eq!(
        (hint.signals.len(), hint.incidents.len()),
        (1, 0),
        "a hint opens nothing"
    );
    let odd = detect(&mut detector, &exec(6, "tool odd", 11));
    assert_eq!(odd.incidents[0].severity, Severity::Medium);
    let bad = detect(&mut detector, &exec(7, "tool evil", 12));
    let [incident] = &bad.incidents[..] else {
        panic!("{bad:?}")
    };
    assert_eq!(incident.id, odd.incidents[0].id);
    assert_eq!((incident.severity, incident.count), (Severity::Critical, 2));
    assert!(incident.summary.starts_with("bad ("), "{}", incident.summary);
    // What is only a hint belongs to it from now on; nothing is done about its process.
    let hint = detect(&mut detector, &exec(8, "tool look", 13));
    let [incident] = &hint.incidents[..] else {
        panic!("{hint:?}")
    };
    assert_eq!(
        (incident.severity, incident.acute),
        (Severity::Critical, Severity::Low)
    );
}

const THREE: &str = "title: three\nid: three\nlevel: high\ncorrelation:\n  type: event_count\n  rules: [one]\n  \
                     group-by: [LogonId]\n  timespan: 10s\n  condition: {gte: 3}\n";

#[test]
fn correlations_count_in_event_time_and_outlive_a_change_of_rules() {
    let one = rule("one", "low", "try");
    let texts = [&*one, THREE];
    let mut detector = detector(rules(&texts));
    for (number, time) in [(1, 100), (2, 101), (3, 150), (4, 151)] {
        let found = detect(&mut detector, &exec(number, "tool try", time));
        assert!(found.incidents.is_empty(), "{found:?}");
    }
    detector.set_rules(rules(&texts));
    let found = detect(&mut detector, &exec(5, "tool try", 152));
    assert_eq!(found.incidents.len(), 1, "{found:?}");
    assert_eq!(
        found.signals.last().unwrap().rule.as_ref().unwrap().id,
        "three".into()
    );
}

#[test]
fn more_of_the_same_is_told_with_the_next_look() {
    let mut detector = detector(rules(&[&rule("bad", "high", "evil")]));
    let mut told = 0;
    for pid in 1..=30 {
        let found = detect(&mut detector, &exec(pid, "tool evil", 10));
        told += usize::from(detector.is_news(&found.incidents[0]));
    }
    // As often as there was room for evidence.
    assert_eq!(told, 16);
    let counts = |detector: &mut Detector| -> Vec<u64> {
        detector.untold().iter().map(|incident| incident.count).collect()
    };
    assert_eq!(counts(&mut detector), [30]);
    assert!(counts(&mut detector).is_empty());
    detect(&mut detector, &exec(99, "tool evil", 11));
    assert_eq!(counts(&mut detector), [31]);
}

#[test]
fn what_became_clear_during_a_response_is_an_incident_of_the_host() {
    let mut detector = detector(rules(&[&rule("bad", "high", "evil")]));
    let found = detect(&mut detector, &exec(5, "tool evil", 10));
    let tree = Tree::new(Limits::default());
    let mut raise = || {
        let raised = detector.raise(&found.incidents[0], "at its limit".to_owned(), &tree);
        raised.expect("there is an event")
    };
    let raised = raise();
    assert_eq!(
        (&*raised.subject, raised.severity, raised.summary.as_str()),
        ("host", Severity::High, "at its limit")
    );
    assert_ne!(raised.id, found.incidents[0].id);
    assert_eq!(raise().id, raised.id);
}
