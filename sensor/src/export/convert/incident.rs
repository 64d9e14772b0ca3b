//! What an incident consists of, for the wire.

use std::sync::Arc;

use sensor_proto::v1;

use crate::{
    detect::{Ended, Incident, Origin, Side, tactic_of},
    host::{Event, Thread},
    rules::Rule,
};

/// Why an incident goes on no more, for the wire.
pub(super) fn ending(ended: &Ended, time_ns: u64) -> v1::Ending {
    use v1::ending::Reason;
    let (reason, into) = match ended {
        Ended::Merged(into) => (Reason::Merged, into.to_string()),
        Ended::Quiet => (Reason::Quiet, String::new()),
        Ended::Closed => (Reason::Closed, String::new()),
    };
    v1::Ending {
        reason: reason.into(),
        into,
        time_ns,
        ..v1::Ending::default()
    }
}

/// The tactics that the evidence names, and those of the techniques it names, each once.
pub(super) fn tactics(incident: &Incident) -> Vec<String> {
    let mut tactics: Vec<String> = Vec::new();
    for signal in &incident.signals {
        let of_rule = signal
            .rule
            .iter()
            .flat_map(|rule| rule.tactics.iter().map(|tactic| &**tactic));
        let of_techniques = signal
            .techniques
            .iter()
            .filter_map(|technique| tactic_of(technique));
        let named = match signal.rule {
            Some(_) => of_rule.collect::<Vec<_>>(),
            None => of_techniques.collect(),
        };
        for tactic in named {
            if !tactics.iter().any(|known| known == tactic) {
                tactics.push(tactic.to_owned());
            }
        }
    }
    tactics
}

pub(super) fn convert_rule(rule: &Rule) -> v1::Rule {
    v1::Rule {
        id: rule.id.to_string(),
        title: rule.title.to_string(),
        level: rule.level.name().to_owned(),
        description: rule.description.to_string(),
        tactics: rule.tactics.iter().map(ToString::to_string).collect(),
        false_positives: rule.false_positives.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn convert_origin(origin: &Origin) -> v1::Origin {
    v1::Origin {
        entry: origin.entry.name().to_owned(),
        side: convert_side(origin.side).into(),
        reasons: origin
            .reasons
            .iter()
            .map(|(side, text)| v1::SideReason {
                side: convert_side(*side).into(),
                text: text.clone(),
            })
            .collect(),
    }
}

fn convert_side(side: Side) -> v1::Side {
    match side {
        Side::Insider => v1::Side::Insider,
        Side::External => v1::Side::External,
        Side::Unclear => v1::Side::Unclear,
    }
}

/// The thread by which the process at the heart of an incident last acted.
pub(super) fn acting_thread(incident: &Incident) -> Option<Thread> {
    let mut events = incident.signals.iter().rev().map(|signal| &signal.event);
    let own = |event: &&Arc<Event>| {
        event
            .process
            .as_ref()
            .is_some_and(|process| process.id == incident.process.id)
    };
    events.find(own).map(|event| event.thread)
}
