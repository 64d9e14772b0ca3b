use std::sync::Arc;

use super::*;
use crate::{
    host::{Body, Flow},
    respond::testing::incident_of,
};

fn policy(text: &str) -> Policy {
    let config = config::Config::parse(text, "/etc/sensor/sensor.toml".as_ref()).unwrap();
    Policy::new(&config.respond)
}

fn decided(
    policy: &Policy,
    severity: Severity,
    subject: &str,
    technique: &'static str,
) -> Option<(Mode, ActionKind)> {
    let incident = incident_of(severity, subject, technique);
    let proposed = policy.propose(&incident);
    proposed.first().map(|(mode, action)| (*mode, action.kind))
}

#[test]
fn the_first_rule_that_fits_decides() {
    let policy = policy(
        r#"
[respond]
mode = "ask"
[[respond.rules]]
techniques = ["T1059"]
subjects = ["unit:web-*", "unit:nginx.service"]
mode = "act"
action = "kill_tree"
[[respond.rules]]
severity = "critical"
action = "suspend"
"#,
    );
    let tree = Some((Mode::Act, ActionKind::KillTree));
    assert_eq!(
        decided(&policy, Severity::Low, "unit:nginx.service", "T1059.004"),
        tree
    );
    assert_eq!(
        decided(&policy, Severity::High, "unit:web-1.service", "T1059"),
        tree
    );
    assert_eq!(
        decided(&policy, Severity::High, "unit:db.service", "T1059"),
        Some((Mode::Ask, ActionKind::Kill))
    );
    assert_eq!(
        decided(&policy, Severity::High, "unit:nginx.service", "T10590"),
        Some((Mode::Ask, ActionKind::Kill))
    );
    assert_eq!(
        decided(&policy, Severity::Critical, "unit:db.service", "T1"),
        Some((Mode::Ask, ActionKind::Suspend))
    );
    assert_eq!(decided(&policy, Severity::Low, "unit:db.service", "T1059"), None);
}

#[test]
fn where_it_connects_to_is_blocked() {
    let policy = policy("[respond]\nmode = \"act\"\naction = [\"block_destination\", \"kill\"]\n");
    let mut incident = incident_of(Severity::High, "unit:a.service", "T1");
    let actions = |incident: &Incident| -> Vec<(ActionKind, String)> {
        let told = policy.propose(incident).into_iter();
        told.map(|(_, action)| (action.kind, action.target.to_string()))
            .collect()
    };
    // It connects to nobody.
    assert_eq!(actions(&incident).len(), 1);

    let signal = Arc::make_mut(&mut incident.signals[0]);
    let event = Arc::make_mut(&mut signal.event);
    event.process = Some(Arc::clone(&incident.process));
    let mut flow = Flow {
        id: 1,
        local: "10.0.0.1:4444".parse().unwrap(),
        remote: "[::ffff:198.51.100.7]:443".parse().unwrap(),
        remote_name: None,
        inbound: false,
        established: false,
        listener: false,
    };
    event.body = Body::Connect(flow.clone());
    assert_eq!(
        actions(&incident)[0],
        (ActionKind::Block, "198.51.100.7/32".to_owned())
    );
    flow.inbound = true;
    Arc::make_mut(&mut Arc::make_mut(&mut incident.signals[0]).event).body = Body::Accept(flow);
    assert_eq!(actions(&incident).len(), 1, "who comes is no destination");
}

#[test]
fn what_is_mild_itself_is_not_ended_for_the_company_it_keeps() {
    let policy = policy(
        "[respond]\nmode = \"act\"\nmin_severity = \"critical\"\n[[respond.rules]]\nseverity = \"high\"\ntechniques = [\"T1059\"]\nsubjects = [\"unit:web.service\"]\naction = [\"kill\", \"isolate\"]\n",
    );
    let mut incident = incident_of(Severity::Critical, "unit:web.service", "T1059");
    let kinds = |incident: &Incident| -> Vec<ActionKind> {
        let proposed = policy.propose(incident).into_iter();
        proposed.map(|(_, action)| action.kind).collect()
    };
    assert_eq!(kinds(&incident), [ActionKind::Kill, ActionKind::Isolate]);
    let bad = incident.signals[0].clone();
    let add = |incident: &mut Incident, severity, subject: &str, technique: &'static str| {
        let other = incident_of(severity, subject, technique);
        incident.signals = vec![bad.clone(), other.signals[0].clone()];
        incident.acute = severity;
    };
    // A mild event, one by another technique, one of somebody else: of none is the process ended. The host is what it was.
    for (severity, subject, technique) in [
        (Severity::Low, "unit:web.service", "T1059"),
        (Severity::High, "unit:web.service", "T1082"),
        (Severity::High, "session:1", "T1059"),
    ] {
        add(&mut incident, severity, subject, technique);
        assert_eq!(
            kinds(&incident),
            [ActionKind::Isolate],
            "{severity:?} {subject} {technique}"
        );
    }
}
