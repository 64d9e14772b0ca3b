//! The incidents of this host, in a database that outlives the agent: what is open goes on when an agent begins again, what has ended can be
//! looked up.
//!
//! ```text
//! pipeline ─▶ incident, outcome ─▶ queue ─▶ thread: hashes, next step ─▶ SQLite
//!                                               ▲
//!                              list, show, close ┘
//! ```
//!
//! Invariants:
//! - The pipeline never waits for the disk. What does not fit into the queue is for it to tell again.
//! - What an incident is shown as is kept as the message that consumers get, which later versions can read. What it goes on by
//!   ([`Incident`] itself) is kept beside it only while it is open, and forgotten where another version wrote it: such an incident ends.
//! - At most [`KEPT`] incidents are kept; those that ended the longest ago go first.
//! - A database that is damaged is set aside under another name and a new one is begun.

mod advice;
mod hashes;
mod page;
mod secrets;
mod store;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use sensor_proto::v1;
use tokio::sync::oneshot;

use self::{hashes::Hashes, page::Page, store::Store};
use crate::{
    detect::Incident,
    export::Converter,
    priority,
    respond::Outcome,
    time::{BootTime, WallTime},
};

pub use store::{Asked, StoreError};

/// Name of the database in the agent's state directory.
pub const FILE: &str = "sensor.db";

/// Incidents that are kept.
const KEPT: usize = 10_000;

/// States of incidents, outcomes and questions that wait.
const QUEUE: usize = 4_096;

/// How long states and outcomes are gathered before they are written: an incident that grows all the time is written now and then, not each time.
const GATHER: Duration = Duration::from_millis(250);

/// How long somebody who asks waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something for the book.
enum Note {
    Incident(Arc<Incident>),
    Outcome(Arc<Outcome>),
    Ask(Box<dyn FnOnce(&mut Keeper) + Send>),
    /// Nothing comes after it.
    End,
}

/// Whoever has this writes into the book, or asks what is in it. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Book {
    notes: mpsc::SyncSender<Note>,
}

/// The thread that keeps the book.
#[derive(Debug)]
pub struct Keeping {
    thread: JoinHandle<()>,
    notes: mpsc::SyncSender<Note>,
}

/// The thread's own: the database, and what of it is at hand.
struct Keeper {
    store: Store,
    converter: Converter,
    hashes: Hashes,
}

impl Book {
    /// Opens the book in `state`, or one that is forgotten with the agent. Also what was open in it, the one that grew the longest ago
    /// first.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn open(
        state: Option<&Path>,
        converter: Converter,
    ) -> std::io::Result<(Self, Keeping, Vec<Incident>)> {
        let store = Store::open(state.map(|state| state.join(FILE)).as_deref());
        let mut keeper = Keeper {
            store,
            converter,
            hashes: Hashes::default(),
        };
        let open = keeper.resume(BootTime::now(), WallTime::now());
        let (notes, queue) = mpsc::sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("book".to_owned());
        let thread = thread.spawn(move || keeper.work(&queue))?;
        let keeping = Keeping {
            thread,
            notes: notes.clone(),
        };
        Ok((Self { notes }, keeping, open))
    }

    /// An incident is new, has grown or ended. False if there was no room: it is to be told again.
    #[must_use]
    pub fn incident(&self, incident: &Arc<Incident>) -> bool {
        self.notes.try_send(Note::Incident(Arc::clone(incident))).is_ok()
    }

    /// Something was done about an incident. False if there was no room: it is to be told again.
    #[must_use]
    pub fn outcome(&self, outcome: &Arc<Outcome>) -> bool {
        outcome.action.incident.is_empty() || self.notes.try_send(Note::Outcome(Arc::clone(outcome))).is_ok()
    }

    /// The incidents there are, without their stories.
    ///
    /// # Errors
    /// If the book cannot be read.
    pub async fn list(&self, asked: Asked) -> Result<Vec<v1::Incident>, StoreError> {
        self.ask(move |keeper| keeper.store.list(&asked)).await
    }

    /// The incident whose id begins so.
    ///
    /// # Errors
    /// If there is none, there are several, or the book cannot be read.
    pub async fn get(&self, id: String) -> Result<v1::Incident, StoreError> {
        self.ask(move |keeper| keeper.store.get(&id)).await
    }

    /// Says what an incident was. It has ended by that.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn close(&self, id: String, ending: v1::Ending) -> Result<v1::Incident, StoreError> {
        self.ask(move |keeper| keeper.store.close(&id, ending)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Keeper) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let ask = Box::new(move |keeper: &mut Keeper| {
            // Nobody to hear it is no reason not to have done it.
            let _ = answer.send(question(keeper));
        });
        self.notes
            .try_send(Note::Ask(ask))
            .map_err(|_| StoreError::Busy)?;
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            _ => Err(StoreError::Busy),
        }
    }
}

impl Keeping {
    /// Waits until everything is written that was told so far.
    pub fn finish(self) {
        let _ = self.notes.send(Note::End);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the incident book has ended in a panic");
        }
    }
}

impl Keeper {
    fn work(mut self, queue: &mpsc::Receiver<Note>) {
        priority::give_way();
        // Not on the way to the first event: what is open was read before.
        self.store.examine();
        let (mut incidents, mut outcomes) = (Vec::new(), Vec::new());
        while let Ok(first) = queue.recv() {
            let due = Instant::now() + GATHER;
            let mut next = Some(first);
            while let Some(note) = next {
                match note {
                    Note::Incident(incident) => {
                        // The latest state of it says all.
                        incidents.retain(|other: &Arc<Incident>| other.id != incident.id);
                        incidents.push(incident);
                    }
                    Note::Outcome(outcome) => outcomes.push(outcome),
                    Note::Ask(question) => {
                        self.write(&mut incidents, &mut outcomes);
                        question(&mut self);
                    }
                    Note::End => return self.write(&mut incidents, &mut outcomes),
                }
                let is_full = incidents.len() + outcomes.len() >= QUEUE;
                next = match due.saturating_duration_since(Instant::now()) {
                    left if left.is_zero() || is_full => None,
                    left => queue.recv_timeout(left).ok(),
                };
            }
            // One transaction for what has come meanwhile.
            self.write(&mut incidents, &mut outcomes);
        }
    }

    fn write(&mut self, incidents: &mut Vec<Arc<Incident>>, outcomes: &mut Vec<Arc<Outcome>>) {
        if incidents.is_empty() && outcomes.is_empty() {
            return;
        }
        let mut pages: Vec<Page> = Vec::new();
        for incident in incidents.drain(..) {
            let known = self.store.page(&incident.id);
            let told = self.converter.told(&incident);
            pages.push(Page::of(incident, told, known, &mut self.hashes));
        }
        for outcome in outcomes.drain(..) {
            let id = &outcome.action.incident;
            let at = pages.iter().position(|page| *page.id() == **id).or_else(|| {
                pages.push(self.store.page(id)?);
                Some(pages.len() - 1)
            });
            if let Some(at) = at {
                pages[at].done(self.converter.outcome(&outcome));
            }
        }
        self.pass_on(&mut pages);
        self.store.write(&pages, KEPT);
    }

    /// What was done about an incident that turned out to be a part of another was done about that.
    fn pass_on(&mut self, pages: &mut Vec<Page>) {
        // The whole may have become a part of another one since.
        const DEPTH: usize = 64;
        let mut parts: VecDeque<_> = pages.iter().filter_map(Page::part_of).collect();
        for _ in 0..DEPTH + parts.len() {
            let Some((whole, outcomes)) = parts.pop_front() else {
                break;
            };
            let at = pages.iter().position(|page| *page.id() == *whole).or_else(|| {
                pages.push(self.store.page(&whole)?);
                Some(pages.len() - 1)
            });
            if let Some(at) = at {
                pages[at].join(outcomes);
                parts.extend(pages[at].part_of());
            }
        }
    }

    /// What was open, as it goes on: boot time began anew if the host did.
    fn resume(&mut self, boot: BootTime, wall: WallTime) -> Vec<Incident> {
        let mut open = self.store.open_incidents();
        for incident in &mut open {
            let age = wall.0.saturating_sub(incident.updated.0);
            incident.updated_boot = BootTime(boot.0.saturating_sub(age));
        }
        open
    }
}

#[cfg(test)]
mod tests;
