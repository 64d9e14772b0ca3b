//! What is to be done and what was, for the wire.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

use sensor_proto::v1;

use super::{convert_id, escape};
use crate::respond::{Action, ActionKind, ActionResult, Outcome, Target};

/// Something to do, for the wire.
#[must_use]
pub fn convert_action(action: &Action) -> v1::Action {
    v1::Action {
        kind: convert_kind(action.kind).into(),
        target: action.target.process().map(convert_id),
        object: object(&action.target),
        seconds: action.lasts.map_or(0, |lasts| lasts.as_secs()),
        incident_id: action.incident.to_string(),
        reason: action.reason.clone(),
    }
}

/// What is no process, for the wire.
fn object(target: &Target) -> Option<v1::Object> {
    use v1::object::Is;
    let path = |path: &Path| escape(path.as_os_str().as_bytes());
    let is = match target {
        Target::Process(_) => return None,
        Target::Executable(executable) => Is::Executable(path(executable)),
        Target::Network(network) => Is::Network(network.to_string()),
        Target::User(uid) => Is::User(*uid),
        Target::File(file) => Is::File(path(file)),
        Target::Host => Is::Host(true),
    };
    Some(v1::Object { is: Some(is) })
}

/// A kind of action for the wire.
fn convert_kind(kind: ActionKind) -> v1::ActionKind {
    use v1::ActionKind as Wire;
    match kind {
        ActionKind::Kill => Wire::Kill,
        ActionKind::KillTree => Wire::KillTree,
        ActionKind::Suspend => Wire::Suspend,
        ActionKind::Resume => Wire::Resume,
        ActionKind::Disconnect => Wire::Disconnect,
        ActionKind::Reconnect => Wire::Reconnect,
        ActionKind::Block => Wire::Block,
        ActionKind::Unblock => Wire::Unblock,
        ActionKind::Isolate => Wire::Isolate,
        ActionKind::Release => Wire::Release,
        ActionKind::Revoke => Wire::Revoke,
        ActionKind::Reinstate => Wire::Reinstate,
        ActionKind::Quarantine => Wire::Quarantine,
        ActionKind::Restore => Wire::Restore,
        ActionKind::Collect => Wire::Collect,
    }
}

/// What a consumer means; `None` where this agent does not know it.
pub(crate) fn kind_meant(wire: v1::ActionKind) -> Option<ActionKind> {
    ActionKind::ALL
        .into_iter()
        .find(|kind| convert_kind(*kind) == wire)
}

/// What became of something, for the wire.
#[must_use]
pub fn convert_outcome(outcome: &Outcome) -> v1::Outcome {
    let result = match outcome.result {
        ActionResult::Done => v1::Result::Done,
        ActionResult::Observed => v1::Result::Observed,
        ActionResult::Asked => v1::Result::Asked,
        ActionResult::Denied => v1::Result::Denied,
        ActionResult::Lapsed => v1::Result::Lapsed,
        ActionResult::Refused => v1::Result::Refused,
        ActionResult::Failed => v1::Result::Failed,
        ActionResult::Gone => v1::Result::Gone,
        ActionResult::Expired => v1::Result::Expired,
        ActionResult::Stopped => v1::Result::Stopped,
    };
    v1::Outcome {
        action: Some(convert_action(&outcome.action)),
        result: result.into(),
        detail: outcome.detail.clone(),
        time_ns: outcome.time.0,
        latency_ns: outcome.latency.as_nanos() as u64,
        number: outcome.number,
        who: outcome.who.to_string(),
        audit_number: outcome.mark.number,
        audit_digest: outcome.mark.digest.to_string(),
    }
}
