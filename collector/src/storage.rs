//! Where ingest puts what agents deliver: this collector's own store, or the bus.

use std::sync::Arc;

use crate::{
    bus::Outbox,
    session::{StreamId, TakenBatch},
    writer::{WriteError, Writer},
};

/// Makes batches durable. Each stream has a clone of its own.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In this collector's data directory.
    Here(Writer),
    /// On the bus; from there others take it to the lake.
    Bus(Outbox),
}

impl Storage {
    /// Notes that an agent is there, and returns the highest sequence that is durable of its numbering.
    ///
    /// # Errors
    /// If that cannot be told.
    pub async fn greet(&mut self, stream: Arc<StreamId>, agent_version: String) -> Result<u64, WriteError> {
        match self {
            Self::Here(writer) => writer.greet(stream, agent_version).await,
            Self::Bus(outbox) => outbox.greet(stream).await,
        }
    }

    /// Queues a batch of the stream that was greeted. When it is durable, or cannot be, `reply` gets the highest sequence stored, or why not.
    ///
    /// # Errors
    /// If nothing is taken any more.
    pub async fn store(
        &self,
        stream: Arc<StreamId>,
        batch: TakenBatch,
        reply: tokio::sync::mpsc::UnboundedSender<Result<u64, WriteError>>,
    ) -> Result<(), WriteError> {
        match self {
            Self::Here(writer) => writer.store(stream, batch, reply).await,
            Self::Bus(outbox) => outbox.store(batch, reply).await,
        }
    }

    /// Notes that the agent of `host` has ended in order. Behind a bus nobody is missed, so there is nothing to note.
    ///
    /// # Errors
    /// If it cannot be noted.
    pub async fn stopped(&self, host: String) -> Result<(), WriteError> {
        match self {
            Self::Here(writer) => writer.stopped(host).await,
            Self::Bus(_) => Ok(()),
        }
    }
}
