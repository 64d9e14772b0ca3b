use super::*;
use crate::respond::testing::incident_of;

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
    let (mode, actions) = policy.propose(&incident);
    actions.first().map(|action| (mode, action.kind))
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
