//! A forensic bundle, made on a thread of its own.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError, atomic::AtomicBool, mpsc},
    time::Duration,
};

use super::{Means, Teller, failed, locked};
use crate::{
    forensics::{self, DIRECTORY, HostKey, Request},
    host::Event,
    respond::{
        ActionResult, Guard, POLICY,
        order::Order,
        responder::{Done, Finished},
    },
};

/// Bundles that are made at the same time: each has a process stand still, and writes up to some hundred megabytes.
const AT_ONCE: usize = 4;

/// How long a bundle waits for its turn. What is to be done to its process waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bundles that wait or are being made, at most.
const MOST: usize = 64;

/// Bytes of all bundles of this host together, at most; beyond them only people have more made.
const KEPT_MAX: u64 = 4 << 30;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    bundles: Mutex<Bundles>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Bundles {
    being_made: usize,
    /// With those that wait.
    all: usize,
}

/// The right to make one.
struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for it.
    fn take(&self) -> Result<Turn<'_>, String> {
        let mut bundles = locked(&self.bundles);
        if bundles.all >= MOST {
            return Err(format!("{MOST} bundles are being made already"));
        }
        bundles.all += 1;
        let busy = |bundles: &mut Bundles| bundles.being_made >= AT_ONCE;
        let waited = self.ended.wait_timeout_while(bundles, PATIENCE, busy);
        let (mut bundles, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && bundles.being_made >= AT_ONCE {
            bundles.all -= 1;
            return Err(format!(
                "{AT_ONCE} bundles are being made, and none was done within {} s",
                PATIENCE.as_secs()
            ));
        }
        bundles.being_made += 1;
        Ok(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut bundles = locked(&self.0.bundles);
        bundles.being_made -= 1;
        bundles.all -= 1;
        self.0.ended.notify_one();
    }
}

/// What it takes to make one.
pub(super) struct Making {
    pub(super) means: Means,
    pub(super) guard: Guard,
    pub(super) turns: Arc<Turns>,
    pub(super) finished: mpsc::Sender<Finished>,
}

impl Making {
    pub(super) fn collect(self, order: Order, events: Vec<Arc<Event>>) {
        let finished = self.finished.clone();
        let (number, given) = (order.number, order.clone());
        let thread = std::thread::Builder::new().name("collect".to_owned());
        let spawned = thread.spawn(move || {
            let turn = self.turns.take().map_err(failed);
            let made = turn.and_then(|_turn| make(&self.means, &self.guard, &order, &events));
            let done = match made {
                Ok(detail) => Done::Measure(ActionResult::Done, detail),
                Err((result, detail)) => Done::Measure(result, detail),
            };
            // Nobody to hear it: the agent is ending.
            let _ = self.finished.send((order, done));
        });
        if let Err(error) = spawned {
            tracing::error!("cannot start a thread for the bundle of number {number}: {error}");
            let _ = finished.send((given, Done::Measure(ActionResult::Failed, error.to_string())));
        }
    }
}

/// Bytes of what is in a directory.
fn kept(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum()
}

fn make(means: &Means, guard: &Guard, order: &Order, events: &[Arc<Event>]) -> super::Came {
    let target = order
        .action
        .target
        .process()
        .ok_or_else(|| failed("it is no process"))?;
    let state = means.need_state()?;
    let directory = state.join(DIRECTORY);
    if &*order.who == POLICY && kept(&directory) > KEPT_MAX {
        return Err(failed(format!(
            "the bundles in {} have more than {} GiB: move away what is no longer needed",
            directory.display(),
            KEPT_MAX >> 30
        )));
    }
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
        options: order.bundle.clone().unwrap_or_default(),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let may_pause = |executable: &[u8]| guard.check_member(target.tgid, executable);
    let bundle = forensics::collect(request, &directory, &key, may_pause).map_err(|error| {
        let result = match error {
            forensics::ForensicsError::Gone { .. } => ActionResult::Gone,
            _ => ActionResult::Failed,
        };
        (result, error.to_string())
    })?;
    Ok(bundle.in_words())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_made_at_once_and_the_next_waits_for_one() {
        let turns = Turns::default();
        let mut taken: Vec<Turn<'_>> = (0..AT_ONCE).map(|_| turns.take().unwrap()).collect();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| turns.take().map(drop));
            while turns.bundles.lock().unwrap().all <= AT_ONCE {
                std::thread::yield_now();
            }
            assert!(!next.is_finished());
            taken.pop();
            next.join().unwrap().unwrap();
        });
        turns.bundles.lock().unwrap().all = MOST;
        assert!(turns.take().is_err());
    }
}
