//! An agent's batches on their way to the bus: in order, one at a time for each stream.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::bytes::Bytes;
use sensor_proto::Compressor;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep},
};

use super::{Bus, BusError, Last, Mark, Parcel};
use crate::{
    lake::shared::Catalogue,
    session::{StreamId, TakenBatch},
    writer::WriteError,
};

/// Batches of all agents together that are held at a time. When there are so many, connections wait, and their agents with them.
const HELD: usize = 256;

/// For how long a batch is offered to a bus that does not answer, as while its servers choose a new leader. Then the agent has to come again.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two offers.
const PAUSE: Duration = Duration::from_millis(250);

/// What becomes of a batch: its sequence when it is durable.
pub(crate) type Reply = mpsc::UnboundedSender<Result<u64, WriteError>>;

/// What was done so far, for metrics.
#[derive(Debug, Default)]
pub struct Tally {
    /// Batches made durable.
    pub published: AtomicU64,
    /// Entries in them.
    pub entries: AtomicU64,
    /// Batches that were not taken.
    pub refused: AtomicU64,
    /// Times that a batch was offered again.
    pub retried: AtomicU64,
}

/// The way to the bus. Each stream has one of its own; cloning gives another for the next.
#[derive(Debug)]
pub struct Outbox {
    bus: Arc<dyn Bus>,
    catalogue: Arc<Catalogue>,
    places: Arc<Semaphore>,
    tally: Arc<Tally>,
    queue: Option<mpsc::UnboundedSender<Waiting>>,
}

impl Clone for Outbox {
    fn clone(&self) -> Self {
        Self {
            bus: Arc::clone(&self.bus),
            catalogue: Arc::clone(&self.catalogue),
            places: Arc::clone(&self.places),
            tally: Arc::clone(&self.tally),
            queue: None,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    batch: TakenBatch,
    reply: Reply,
    _place: OwnedSemaphorePermit,
}

impl Outbox {
    /// To `bus`; what is not there any more is in the lake of `catalogue`.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, catalogue: Arc<Catalogue>) -> Self {
        Self {
            bus,
            catalogue,
            places: Arc::new(Semaphore::new(HELD)),
            tally: Arc::default(),
            queue: None,
        }
    }

    /// What was done so far, by all that were cloned of each other.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Where the stream stands, and from now on where its batches go.
    pub(crate) async fn greet(&mut self, stream: Arc<StreamId>) -> Result<u64, WriteError> {
        // In this order: what leaves the bus in between is in the lake before.
        let last = self.bus.last(&stream).await.map_err(unable)?;
        let stored = self.catalogue.standing(&stream).await.map_err(unable)?;
        let (queue, waiting) = mpsc::unbounded_channel();
        self.queue = Some(queue);
        let line = Line {
            stream,
            bus: Arc::clone(&self.bus),
            tally: Arc::clone(&self.tally),
            after: last.map_or(Mark(0), |last| last.mark),
        };
        tokio::spawn(line.run(waiting));
        Ok(stored.max(last.map_or(0, |last| last.sequence)))
    }

    /// Queues a batch of the stream that was greeted.
    pub(crate) async fn store(&self, batch: TakenBatch, reply: Reply) -> Result<(), WriteError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let waiting = Waiting {
            batch,
            reply,
            _place: place.map_err(|_| WriteError::Stopping)?,
        };
        match &self.queue {
            // Where the line has ended, it has said why.
            Some(queue) => {
                let _ = queue.send(waiting);
                Ok(())
            }
            None => Err(WriteError::Stopping),
        }
    }
}

fn unable(error: impl std::fmt::Display) -> WriteError {
    WriteError::Store(error.to_string())
}

/// One stream's publisher.
struct Line {
    stream: Arc<StreamId>,
    bus: Arc<dyn Bus>,
    tally: Arc<Tally>,
    after: Mark,
}

impl Line {
    async fn run(mut self, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
        while let Some(Waiting { batch, reply, _place }) = waiting.recv().await {
            let (sequence, entries) = (batch.batch.sequence, batch.batch.entries.len() as u64);
            let published = match compressed(&batch.encoded) {
                Ok(body) => self.publish(sequence, body).await.map_err(unable),
                Err(error) => Err(unable(error)),
            };
            match published {
                Ok(()) => {
                    self.tally.published.fetch_add(1, Ordering::Relaxed);
                    self.tally.entries.fetch_add(entries, Ordering::Relaxed);
                    let _ = reply.send(Ok(sequence));
                }
                // What waits behind it must not come before it: it goes with this line.
                Err(error) => {
                    self.tally.refused.fetch_add(1, Ordering::Relaxed);
                    let _ = reply.send(Err(error));
                    return;
                }
            }
        }
    }

    async fn publish(&mut self, sequence: u64, body: Bytes) -> Result<(), BusError> {
        let parcel = Parcel {
            stream: (*self.stream).clone(),
            sequence,
            body,
        };
        let until = Instant::now() + PATIENCE;
        loop {
            let result = match self.bus.publish(&parcel, self.after).await {
                Err(BusError::Overtaken) => self.look(sequence).await,
                result => result.map(Some),
            };
            match result {
                Ok(Some(mark)) => {
                    self.after = mark;
                    return Ok(());
                }
                Ok(None) => {}
                Err(BusError::Unreachable(_)) if Instant::now() < until => sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
            self.tally.retried.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is the last one now? The mark of it, if it is this batch or a later one. Otherwise all before this one are safe, as this line
    /// knows: they have left the bus for the lake, or one of them came again.
    async fn look(&mut self, sequence: u64) -> Result<Option<Mark>, BusError> {
        let last = self.bus.last(&self.stream).await?;
        self.after = last.map_or(Mark(0), |last| last.mark);
        let is_there = |last: Last| last.sequence >= sequence;
        Ok(last.filter(|last| is_there(*last)).map(|last| last.mark))
    }
}

/// A compressor has a mebibyte of tables, which is much for each of very many streams.
fn compressed(encoded: &[u8]) -> std::io::Result<Bytes> {
    thread_local! {
        static COMPRESSOR: RefCell<Option<Compressor>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|compressor| {
        let compressor = match compressor {
            Some(compressor) => compressor,
            None => compressor.insert(Compressor::new()?),
        };
        compressor.compress(encoded)
    })
}
