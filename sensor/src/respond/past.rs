//! What the agents before this one did, as far as the end of their audit tells.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::{
    AUDIT_FILE, Action, ActionKind, ActionResult, Outcome, Proposal, Record, Step,
    audit::{self, Mark},
    guard::DAY,
    in_force::InForce,
};
use sensor_common::FileKey;

use crate::{
    host::ProcessId,
    time::{BootTime, WallTime},
};

/// So much of the end of an audit is read, in bytes: a hundred thousand lines. What holds ends within a month.
const TAIL: u64 = 64 << 20;

/// What was done, and what still waits.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The latest last.
    pub(super) history: VecDeque<Arc<Outcome>>,
    pub(super) in_force: InForce,
    /// With what the process ran that it is about.
    pub(super) pending: Vec<(Proposal, String)>,
    /// When something was done in the last day that counts among what the guard allows.
    pub(super) taken: Vec<BootTime>,
    /// Of whom a bundle was being made when the agent ended, and nobody had stopped them otherwise.
    pub(super) paused: Vec<ProcessId>,
}

/// Reads it. A line that is damaged is left out: `sensor audit verify` says so, and so did the audit when it was opened.
pub(super) fn read(state: &Path, limit: usize, ask_within: Duration) -> Past {
    match records(&state.join(AUDIT_FILE)) {
        Ok(records) => Past::of(records, limit, ask_within),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Past::default(),
        Err(error) => {
            tracing::warn!(
                "what was done before cannot be read from the audit: {error}; it cannot be undone by its number"
            );
            Past::default()
        }
    }
}

fn records(path: &Path) -> io::Result<impl Iterator<Item = (Record, Mark)>> {
    let mut file = File::open(path)?;
    let from = file.seek(SeekFrom::End(0))?.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let lines = BufReader::new(file).split(b'\n').skip(usize::from(from > 0));
    Ok(lines
        .map_while(Result::ok)
        .filter_map(|line| audit::parse(&line).ok()))
}

impl Past {
    fn of(records: impl Iterator<Item = (Record, Mark)>, limit: usize, ask_within: Duration) -> Self {
        let now = (BootTime::now(), WallTime::now());
        let mut past = Self::default();
        let mut reasons = BTreeMap::new();
        let mut asked = BTreeMap::new();
        let (mut collecting, mut suspended) = (BTreeMap::new(), HashSet::new());
        for (record, mark) in records {
            if let (Some(ActionKind::Collect), Some(id)) = (record.action, record.target.process()) {
                match record.step {
                    Step::Ended(_) => collecting.remove(&record.proposal),
                    _ => collecting.insert(record.proposal, id),
                };
            }
            match record.step {
                Step::Proposed | Step::Undoing => {
                    reasons.insert(record.proposal, record.why);
                }
                Step::Approved => {
                    asked.remove(&record.proposal);
                }
                Step::Requested | Step::Configured => {}
                Step::Ended(result) => {
                    let reason = match result {
                        ActionResult::Asked => reasons.get(&record.proposal).cloned(),
                        _ => reasons.remove(&record.proposal),
                    };
                    let reason = reason.or_else(|| {
                        let held = past.in_force.get(record.proposal);
                        held.map(|held| held.outcome.action.reason.clone())
                    });
                    let Some(outcome) = outcome(&record, mark, result, reason.unwrap_or_default()) else {
                        continue;
                    };
                    asked.remove(&record.proposal);
                    past.note(&outcome, &record, now, &mut suspended);
                    if result == ActionResult::Asked {
                        asked.insert(record.proposal, (Arc::clone(&outcome), record));
                    }
                    keep(&mut past.history, outcome, limit);
                }
            }
        }
        let waiting = asked.into_values().filter_map(|(outcome, record)| {
            let passed = Duration::from_nanos(now.1.0.saturating_sub(record.time_ns));
            let left = ask_within.checked_sub(passed)?;
            let proposal = Proposal {
                number: record.proposal,
                action: outcome.action.clone(),
                process: None,
                because: "it was asked before the agent began again".to_owned(),
                until: now.0.after(left),
            };
            Some((proposal, record.executable))
        });
        past.pending = waiting.collect();
        past.paused = collecting.into_values().collect();
        past.paused.retain(|id| !suspended.contains(id));
        past
    }

    /// What an outcome means for what is done from now on.
    fn note(
        &mut self,
        outcome: &Arc<Outcome>,
        record: &Record,
        now: (BootTime, WallTime),
        suspended: &mut HashSet<ProcessId>,
    ) {
        let file = record.file.map(|(device, inode)| FileKey {
            inode,
            device,
            reserved: 0,
        });
        // What is done again under its number, since the kernel had forgotten it, was counted when it was done first.
        let is_new = self.in_force.get(outcome.number).is_none();
        self.in_force.note(outcome, record.undoes, file);
        if outcome.result != ActionResult::Done {
            return;
        }
        let ago = now.1.0.saturating_sub(outcome.time.0);
        if is_new && outcome.action.kind.is_limited() && ago < DAY.as_nanos() as u64 {
            self.taken.push(BootTime(now.0.0.saturating_sub(ago)));
        }
        match (outcome.action.kind, outcome.action.target.process()) {
            (ActionKind::Suspend, Some(id)) => _ = suspended.insert(id),
            (ActionKind::Resume, Some(id)) => _ = suspended.remove(&id),
            _ => {}
        }
    }
}

/// Adds the latest of at most so many; the oldest goes for it.
pub(super) fn keep(outcomes: &mut VecDeque<Arc<Outcome>>, latest: Arc<Outcome>, most: usize) {
    if outcomes.len() >= most {
        outcomes.pop_front();
    }
    outcomes.push_back(latest);
}

fn outcome(record: &Record, mark: Mark, result: ActionResult, reason: String) -> Option<Arc<Outcome>> {
    Some(Arc::new(Outcome {
        number: record.proposal,
        action: Action {
            kind: record.action?,
            target: record.target.clone(),
            lasts: record.seconds.map(Duration::from_secs),
            incident: record.incident.as_str().into(),
            reason,
        },
        result,
        detail: record.why.clone(),
        who: record.who.as_str().into(),
        time: WallTime(record.time_ns),
        latency: Duration::ZERO,
        mark,
    }))
}

#[cfg(test)]
mod tests;
