//! Conclusions, and what was done about them.

use sensor_proto::v1::{self, ActionKind, Severity};
use serde_json::{Value, json};

use super::{
    Made,
    class::Class,
    objects::{actor, process},
};
use crate::export::format::parts::{level, techniques, time, timestamp};

fn severity_id(severity: Severity) -> u64 {
    match severity {
        Severity::Unspecified => 0,
        Severity::Low => 2,
        Severity::Medium => 3,
        Severity::High => 4,
        Severity::Critical => 5,
    }
}

fn attacks(techniques: impl Iterator<Item = impl AsRef<str>>) -> Vec<Value> {
    techniques
        .map(|technique| json!({ "technique": { "uid": technique.as_ref() }, "version": "16" }))
        .collect()
}

/// A finding of one model or rule.
pub(super) fn of_signal(signal: &v1::Signal) -> Made {
    let mut made = Made::new(Class::DetectionFinding, 1);
    made.severity = severity_id(level(signal));
    let rule = signal.rule.as_ref();
    let title = rule.map_or_else(
        || {
            signal
                .reasons
                .first()
                .map_or(signal.source.as_str(), String::as_str)
        },
        |rule| &rule.title,
    );
    let event = signal.event.as_ref();
    let happened = event.map_or(0, |event| event.time_ns);
    let boot = event.map_or(0, |event| event.boot_time_ns);
    made.set(
        "finding_info",
        json!({
            "title": title,
            "uid": format!("{}-{}-{boot}", signal.source, signal.subject),
            "desc": rule.map_or("", |rule| &rule.description),
            "created_time": happened / 1_000_000,
            "analytic": {
                "name": rule.map_or(signal.source.as_str(), |rule| &rule.title),
                "uid": rule.map_or(signal.source.as_str(), |rule| &rule.id),
                "type_id": if rule.is_some() { 1 } else { 4 },
                "type": if rule.is_some() { "Rule" } else { "Learning (ML/DL)" },
            },
            "attacks": attacks(signal.techniques.iter()),
        }),
    );
    made.set("message", signal.reasons.join("; "));
    let acting = event.and_then(|event| event.process.as_ref());
    made.set("evidences", evidence(acting));
    made.set("status_id", 1);
    made.set("status", "New");
    made.set(
        "unmapped",
        json!({ "subject": signal.subject, "p_value": signal.p_value, "bits": signal.bits }),
    );
    made
}

fn evidence(acting: Option<&v1::Process>) -> Value {
    acting.map_or(
        Value::Null,
        |acting| json!([{ "process": process(acting), "actor": actor(acting) }]),
    )
}

/// An incident as it is now.
pub(super) fn of_incident(incident: &v1::Incident) -> Made {
    let activity = match (&incident.ended, incident.opened_ns == incident.updated_ns) {
        (Some(_), _) => 3,
        (None, true) => 1,
        (None, false) => 2,
    };
    let mut made = Made::new(Class::DetectionFinding, activity);
    made.severity = severity_id(incident.severity());
    let techniques = techniques(incident);
    made.set(
        "finding_info",
        json!({
            "title": if incident.summary.is_empty() { &incident.id } else { &incident.summary },
            "uid": incident.id,
            "created_time": incident.opened_ns / 1_000_000,
            "modified_time": incident.updated_ns / 1_000_000,
            "first_seen_time": incident.opened_ns / 1_000_000,
            "last_seen_time": incident.updated_ns / 1_000_000,
            "attacks": attacks(techniques.iter()),
            "related_events": incident.signals.iter().map(related).collect::<Vec<_>>(),
        }),
    );
    made.set("message", incident.summary.as_str());
    made.set("count", incident.count.max(1));
    made.set("is_alert", true);
    made.set("evidences", evidence(incident.process.as_ref()));
    let (status, words) = status(incident);
    made.set("status_id", status);
    made.set("status", words);
    if let Some(ended) = &incident.ended {
        made.set("verdict_id", verdict(ended.verdict()));
        made.set("comment", ended.why.as_str());
    }
    let origin = incident.origin.as_ref();
    made.set(
        "unmapped",
        json!({
            "subject": incident.subject,
            "tactics": incident.tactics,
            "entry": origin.map(|origin| &origin.entry),
            "side": origin.map(|origin| origin.side().as_str_name()),
        }),
    );
    made
}

fn related(signal: &v1::Signal) -> Value {
    let entry = v1::Entry {
        host: String::new(),
        body: Some(v1::entry::Body::Signal(signal.clone())),
    };
    let happened = time(&entry);
    json!({
        "uid": format!("{}-{}-{}", signal.source, signal.subject, signal.event.as_ref().map_or(0, |event| event.boot_time_ns)),
        "title": signal.reasons.first(),
        "created_time": happened / 1_000_000,
    })
}

fn status(incident: &v1::Incident) -> (u64, &'static str) {
    match incident.ended.as_ref().map(v1::Ending::verdict) {
        None if incident.opened_ns == incident.updated_ns => (1, "New"),
        None => (2, "In Progress"),
        Some(_) => (4, "Resolved"),
    }
}

fn verdict(verdict: v1::Verdict) -> u64 {
    match verdict {
        v1::Verdict::Unspecified => 0,
        v1::Verdict::FalsePositive => 1,
        v1::Verdict::TruePositive => 2,
        v1::Verdict::Benign => 6,
    }
}

/// What became of an action.
pub(super) fn of_outcome(outcome: &v1::Outcome) -> Made {
    let action = outcome.action.as_ref();
    let kind = action.map_or(ActionKind::Unspecified, v1::Action::kind);
    let (activity, other) = remedy(kind);
    let mut made = Made::new(Class::Remediation, activity);
    made.other = other;
    let number = if outcome.number == 0 {
        outcome.audit_number
    } else {
        outcome.number
    };
    made.set("command_uid", number.to_string());
    made.set("message", outcome.detail.as_str());
    made.set("status_detail", outcome.detail.as_str());
    let (status, words) = match outcome.result() {
        v1::Result::Done => (3, "Full Remediation"),
        v1::Result::Refused | v1::Result::Denied | v1::Result::Lapsed | v1::Result::Observed => {
            (99, "Not Done")
        }
        v1::Result::Gone => (4, "Does Not Exist"),
        v1::Result::Failed => (2, "Failure"),
        v1::Result::Expired | v1::Result::Stopped => (1, "Success"),
        v1::Result::Asked | v1::Result::Unspecified => (0, "Unknown"),
    };
    made.set("status_id", status);
    made.set("status", words);
    made.set(
        "start_time",
        outcome.time_ns.saturating_sub(outcome.latency_ns) / 1_000_000,
    );
    made.set("end_time", outcome.time_ns / 1_000_000);
    made.set(
        "unmapped",
        json!({
            "kind": kind.as_str_name(),
            "result": outcome.result().as_str_name(),
            "incident_id": action.map(|action| &action.incident_id),
            "reason": action.map(|action| &action.reason),
            "target": action.and_then(|action| action.target).map(|target| target.tgid),
            "who": outcome.who,
            "time": timestamp(outcome.time_ns),
        }),
    );
    made
}

fn remedy(kind: ActionKind) -> (u64, &'static str) {
    match kind {
        ActionKind::Disconnect | ActionKind::Isolate | ActionKind::Suspend => (1, ""),
        ActionKind::Kill | ActionKind::KillTree | ActionKind::Quarantine | ActionKind::Revoke => (2, ""),
        ActionKind::Resume
        | ActionKind::Reconnect
        | ActionKind::Unblock
        | ActionKind::Release
        | ActionKind::Reinstate
        | ActionKind::Restore => (3, ""),
        ActionKind::Block => (4, ""),
        ActionKind::Collect => (99, "Collect"),
        ActionKind::Unspecified => (0, ""),
    }
}
