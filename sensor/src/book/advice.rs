//! What a person might do next about an incident: what waits for them first, then what was done and can be looked into, then what the tactics
//! of its evidence ask for.

use sensor_proto::v1::{self, ActionKind, Result as Outcome};

/// What to look into, by MITRE ATT&CK tactic; the one furthest along an attack first.
const BY_TACTIC: [(&str, &str); 12] = [
    (
        "impact",
        "Stop what still runs of it, see what was changed or destroyed, and find the last good backup.",
    ),
    (
        "exfiltration",
        "See what went out and where to, block that destination, and find out whose data it was.",
    ),
    (
        "command-and-control",
        "Block the destination, and see what else on this and other hosts has talked to it.",
    ),
    (
        "lateral-movement",
        "See where it went from here: look at the hosts and accounts that it reached.",
    ),
    (
        "collection",
        "See what was gathered and whether it has left the host.",
    ),
    (
        "credential-access",
        "Take the credentials that it could read for stolen: replace them, and see where they were used since.",
    ),
    (
        "privilege-escalation",
        "Find out by what it became more than it was, close that, and see what it did afterwards.",
    ),
    (
        "persistence",
        "Look at what was put in place to come back by, and remove it; `sensor respond quarantine` keeps it as evidence.",
    ),
    (
        "defense-evasion",
        "See what was hidden or switched off, and do not trust this host's own logs of that time.",
    ),
    (
        "discovery",
        "See whose session it is and what came before it; looking around is often how it begins.",
    ),
    (
        "execution",
        "Find out what started it and whether that was meant to.",
    ),
    (
        "initial-access",
        "Find out through what it came in, and whether others came the same way.",
    ),
];

/// One or two sentences.
pub(super) fn next_step(incident: &v1::Incident) -> String {
    if incident
        .ended
        .as_ref()
        .is_some_and(|ended| ended.reason() == v1::ending::Reason::Merged)
    {
        let into = incident.ended.as_ref().map_or("", |ended| &ended.into);
        return format!("It is a part of another: `sensor incidents show {into}`.");
    }
    let mut steps = Vec::new();
    if let Some(number) = waiting(incident) {
        steps.push(format!(
            "Something waits for you: `sensor respond approve {number}` or `sensor respond deny {number}`."
        ));
    } else if let Some(pid) = suspended(incident) {
        steps.push(format!(
            "Process {pid} is stopped: `sensor forensics collect {pid}` takes its evidence, then have it killed or let it go on."
        ));
    }
    let advice = BY_TACTIC
        .iter()
        .find(|(tactic, _)| incident.tactics.iter().any(|found| found == tactic));
    let advice = advice.map_or(
        "Find out what started it and whether that was meant to; if it was, `sensor feedback` makes it normal.",
        |(_, advice)| advice,
    );
    steps.push(advice.to_owned());
    steps.join(" ")
}

/// The number of what waits for a person.
fn waiting(incident: &v1::Incident) -> Option<u64> {
    let asked = incident.outcomes.iter().rev();
    asked
        .filter(|outcome| outcome.result() == Outcome::Asked)
        .map(|outcome| outcome.number)
        .find(|number| {
            let of_it = incident
                .outcomes
                .iter()
                .rfind(|outcome| outcome.number == *number);
            of_it.is_some_and(|last| last.result() == Outcome::Asked)
        })
}

/// The process that was stopped last, and not let go on.
fn suspended(incident: &v1::Incident) -> Option<u32> {
    let done = incident.outcomes.iter().rev();
    let last = done
        .filter(|outcome| outcome.result() == Outcome::Done)
        .find_map(|outcome| {
            let action = outcome.action.as_ref()?;
            let target = action.target.as_ref()?;
            Some((action.kind(), target.tgid))
        });
    last.filter(|(kind, _)| *kind == ActionKind::Suspend)
        .map(|(_, pid)| pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_comes_first_and_the_gravest_tactic_decides() {
        let mut incident = v1::Incident {
            tactics: vec!["discovery".into(), "exfiltration".into()],
            ..v1::Incident::default()
        };
        assert!(next_step(&incident).starts_with("See what went out"));
        let outcome = |result: Outcome| v1::Outcome {
            number: 7,
            result: result.into(),
            ..v1::Outcome::default()
        };
        incident.outcomes.push(outcome(Outcome::Asked));
        assert!(next_step(&incident).contains("approve 7"));
        incident.outcomes.push(outcome(Outcome::Denied));
        assert!(!next_step(&incident).contains("approve"));
    }
}
