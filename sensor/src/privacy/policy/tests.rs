//! What is left of messages.

use super::*;

const KEY: [u8; 32] = [7; 32];
const ALL: [Kind; 3] = [Kind::Users, Kind::Addresses, Kind::Paths];

fn policy(kinds: &[Kind], drop: &[Field]) -> Policy {
    Policy {
        redact: true,
        pseudonyms: (!kinds.is_empty()).then(|| Pseudonyms::new(&Key::new(KEY), kinds)),
        drop: drop.to_vec(),
    }
}

fn process(args: &[&str]) -> v1::Process {
    v1::Process {
        executable: "/usr/bin/mysql".to_owned(),
        args: args.iter().map(ToString::to_string).collect(),
        cwd: "/home/anna/plans".to_owned(),
        user: "anna".to_owned(),
        uid: 1000,
        login_uid: Some(1000),
        workload: "session:user@1000".to_owned(),
        cgroup: "/user.slice/user-1000.slice/session-3.scope".to_owned(),
        ..v1::Process::default()
    }
}

fn event(process: v1::Process, body: v1::event::Body) -> v1::Event {
    v1::Event {
        process: Some(process),
        body: Some(body),
        ..v1::Event::default()
    }
}

fn connect() -> v1::event::Body {
    v1::event::Body::Connect(v1::Connect {
        flow_id: 1,
        tuple: Some(v1::Tuple {
            local_address: "127.0.0.1".to_owned(),
            remote_address: "93.184.216.34".to_owned(),
            remote_name: "example.org".to_owned(),
            ..v1::Tuple::default()
        }),
    })
}

#[test]
fn arguments_are_redacted_to_the_byte() {
    let mut process = process(&["mysql", "-phunter2", "a\\xffb"]);
    process.args_raw = [&b"mysql"[..], b"-phunter2", b"a\xffb"]
        .map(<[u8]>::to_vec)
        .into();
    policy(&[], &[]).process(&mut process);
    assert_eq!(process.args, ["mysql", "-p<redacted>", "a\\xffb"]);
    assert_eq!(process.args_raw, [&b"mysql"[..], b"-p<redacted>", b"a\xffb"]);
}

#[test]
fn reasons_do_not_quote_what_arguments_hide() {
    let reason = "Matched by CommandLine: tool --password=two words --x; OriginalFileName: tool".to_owned();
    let mut incident = v1::Incident {
        summary: "tool two words".to_owned(),
        process: Some(process(&["tool", "--password=two words", "--x"])),
        signals: vec![v1::Signal {
            reasons: vec![reason],
            event: Some(event(
                process(&["tool", "--password=two words", "--x"]),
                connect(),
            )),
            ..v1::Signal::default()
        }],
        ..v1::Incident::default()
    };
    policy(&[], &[]).incident(&mut incident);
    let text = format!("{incident:?}");
    assert!(!text.contains("two words"), "{text}");
    assert_eq!(incident.summary, "tool <redacted>");
    assert_eq!(
        incident.signals[0].reasons,
        ["Matched by CommandLine: tool --password=<redacted> --x; OriginalFileName: tool"]
    );
}

#[test]
fn variables_are_redacted_and_dropped() {
    let exec = v1::Exec {
        variables: vec![
            "LD_PRELOAD=/tmp/x.so".to_owned(),
            "PERL5OPT=-mtoken=abcdefgh".to_owned(),
        ],
        ..v1::Exec::default()
    };
    let after = |policy: Policy| {
        let mut event = event(process(&[]), v1::event::Body::Exec(exec.clone()));
        policy.event(&mut event);
        match event.body {
            Some(v1::event::Body::Exec(exec)) => (exec.variables, exec.variables_unread),
            _ => panic!("an exec"),
        }
    };
    let redacted = ["LD_PRELOAD=/tmp/x.so", "PERL5OPT=-mtoken=<redacted>"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(after(policy(&[], &[])), (redacted, false));
    assert_eq!(after(policy(&[], &[Field::Environment])), (Vec::new(), true));
}

#[test]
fn what_is_dropped_is_not_there_and_said_to_be_missing() {
    let mut dropped = event(process(&["mysql", "-u", "root"]), connect());
    policy(&[], &[Field::Argv, Field::Cwd, Field::HostNames]).event(&mut dropped);
    let process = dropped.process.expect("is there");
    assert_eq!(
        (process.args, process.args_truncated, &*process.cwd),
        (vec!["mysql".to_owned()], true, "")
    );
    let Some(v1::event::Body::Connect(connect)) = dropped.body else {
        panic!("a connect");
    };
    assert_eq!(connect.tuple.map(|tuple| tuple.remote_name), Some(String::new()));
}

#[test]
fn nobody_is_named_once_all_have_pseudonyms() {
    let mut process = process(&["vim", "/home/anna/plans/merger.odt", "anna@93.184.216.34"]);
    process.args_raw = vec![b"/home/anna".to_vec()];
    process.cwd_raw = b"/home/anna".to_vec();
    let mut signal = v1::Signal {
        subject: "session:user@1000".to_owned(),
        reasons: vec!["anna connects to 93.184.216.34, from /home/anna/plans".to_owned()],
        event: Some(event(process, connect())),
        ..v1::Signal::default()
    };
    policy(&ALL, &[]).signal(&mut signal);
    let text = format!("{signal:?}");
    for name in [
        "anna",
        "93.184",
        "merger",
        "plans",
        "example.org",
        "1000",
        "[47, 104",
    ] {
        assert!(!text.contains(name), "{name} in {text}");
    }
    assert!(
        text.contains("127.0.0.1") && text.contains(".odt") && text.contains("/usr/bin/mysql"),
        "{text}"
    );
    let Some(Some(process)) = signal.event.map(|event| event.process) else {
        panic!("a process");
    };
    assert_eq!(process.login_uid, Some(process.uid));
    assert!(
        signal.reasons[0].starts_with(&process.user),
        "{:?}",
        signal.reasons
    );
}

#[test]
fn what_a_distribution_sets_up_keeps_its_name() {
    let root = v1::Process {
        user: "root".to_owned(),
        ..v1::Process::default()
    };
    let mut changed = root.clone();
    policy(&ALL, &[]).process(&mut changed);
    assert_eq!(changed, root);
}

#[test]
fn what_people_say_of_an_incident_and_of_its_origin_is_looked_at_too() {
    let mut incident = v1::Incident {
        origin: Some(v1::Origin {
            reasons: vec![v1::SideReason {
                text: "logged in with --password=hunter2hunter2".to_owned(),
                ..v1::SideReason::default()
            }],
            ..v1::Origin::default()
        }),
        ended: Some(v1::Ending {
            why: "a drill, with --password=hunter2hunter2".to_owned(),
            ..v1::Ending::default()
        }),
        ..v1::Incident::default()
    };
    policy(&[], &[]).incident(&mut incident);
    let text = format!("{incident:?}");
    assert!(!text.contains("hunter2"), "{text}");
    policy(&[], &[Field::Reasons]).incident(&mut incident);
    assert!(incident.origin.is_some_and(|origin| origin.reasons.is_empty()));
}
