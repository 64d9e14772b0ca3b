//! A forensic bundle, made on a thread of its own.

use std::sync::{Arc, atomic::AtomicBool, mpsc};

use super::{Means, Teller, failed};
use crate::{
    forensics::{self, DIRECTORY, HostKey, Request},
    host::Event,
    respond::{
        ActionResult, Guard,
        order::Order,
        responder::{Done, Finished},
    },
};

pub(super) fn collect(
    means: &Means,
    guard: &Guard,
    order: Order,
    events: Vec<Arc<Event>>,
    finished: &mpsc::Sender<Finished>,
) {
    let (means, guard, sender) = (means.clone(), guard.clone(), finished.clone());
    let (number, given) = (order.number, order.clone());
    let thread = std::thread::Builder::new().name("collect".to_owned());
    let spawned = thread.spawn(move || {
        let done = match make(&means, &guard, &order, &events) {
            Ok(detail) => Done::Measure(ActionResult::Done, detail),
            Err((result, detail)) => Done::Measure(result, detail),
        };
        // Nobody to hear it: the agent is ending.
        let _ = sender.send((order, done));
    });
    if let Err(error) = spawned {
        tracing::error!("cannot start a thread for the bundle of number {number}: {error}");
        let _ = finished.send((given, Done::Measure(ActionResult::Failed, error.to_string())));
    }
}

fn make(means: &Means, guard: &Guard, order: &Order, events: &[Arc<Event>]) -> super::Came {
    let target = order
        .action
        .target
        .process()
        .ok_or_else(|| failed("it is no process"))?;
    let state = means.need_state()?;
    let key = HostKey::open(state).map_err(failed)?;
    let request = Request {
        target,
        who: order.who.to_string(),
        why: order.action.reason.clone(),
        incident: order.action.incident.to_string(),
        host: means.host.clone(),
        events: means.tell.as_ref().map(|Teller(tell)| {
            let lines = events.iter().map(|event| tell(event) + "\n");
            lines.collect::<String>().into_bytes()
        }),
        options: forensics::Options::default(),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let may_pause = |executable: &[u8]| guard.check_member(target.tgid, executable);
    let bundle = forensics::collect(request, &state.join(DIRECTORY), &key, may_pause).map_err(|error| {
        let result = match error {
            forensics::ForensicsError::Gone { .. } => ActionResult::Gone,
            _ => ActionResult::Failed,
        };
        (result, error.to_string())
    })?;
    Ok(format!(
        "{}, {} bytes, SHA-256 {}",
        bundle.path.display(),
        bundle.size,
        bundle.sha256
    ))
}
