//! What an incident goes on by, without the secrets that programs were started with: those never reach the disk.

use std::{borrow::Cow, sync::Arc};

use crate::{
    detect::{Incident, Signal},
    host::{Body, Event, Image, Process},
    privacy::redact,
};

/// The incident as it may be written.
pub(super) fn without(incident: &Incident) -> Incident {
    Incident {
        summary: text(&incident.summary),
        process: process(&incident.process),
        processes: incident.processes.iter().map(process).collect(),
        signals: incident.signals.iter().map(signal).collect(),
        ..incident.clone()
    }
}

fn signal(signal: &Arc<Signal>) -> Arc<Signal> {
    Arc::new(Signal {
        reasons: signal.reasons.iter().map(|reason| text(reason)).collect(),
        event: Arc::new(event(&signal.event)),
        ..Signal::clone(signal)
    })
}

fn event(event: &Event) -> Event {
    let mut event = event.clone();
    for known in [&mut event.process, &mut event.parent].into_iter().flatten() {
        *known = process(known);
    }
    if let Body::Exec(exec) = &mut event.body {
        exec.previous = exec
            .previous
            .as_ref()
            .map(|previous| image(previous).unwrap_or_else(|| Arc::clone(previous)));
    }
    event
}

fn process(process: &Arc<Process>) -> Arc<Process> {
    match image(&process.image) {
        Some(image) => Arc::new(Process {
            image,
            ..Process::clone(process)
        }),
        None => Arc::clone(process),
    }
}

/// `None` where there is nothing to hide.
fn image(image: &Arc<Image>) -> Option<Arc<Image>> {
    match redact::arguments(&image.args) {
        Cow::Borrowed(_) => None,
        Cow::Owned(args) => Some(Arc::new(Image {
            args: args.into(),
            ..Image::clone(image)
        })),
    }
}

fn text(text: &str) -> String {
    String::from_utf8_lossy(&redact::text(text.as_bytes())).into_owned()
}
