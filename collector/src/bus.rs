//! What stands between ingest and storage where there are several collectors: a log that is durable by itself. An agent's batch is acknowledged
//! when the bus has acknowledged it, and leaves the bus when a [`loader`](crate::loader) has committed it to the lake.
//!
//! Invariants, on which nothing lost and nothing twice rest:
//! - A batch is published when the one before it, of the same numbering, is known to be on the bus or in the lake: one at a time for each stream
//!   ([`Outbox`]). So whatever sequence is found, all before it are safe, and the highest is where the stream stands. With several on the way, one that
//!   fails would leave a gap below others that did not, and an agent be told that what is missing was stored.
//! - A publisher says which batch it believes to be the last of its stream, and is refused if it is not. So what was stuck in a line that broke cannot come
//!   in late, behind what has been published since, and make the stream look shorter than it was acknowledged to be.
//! - A batch may be on the bus twice, or be pulled twice. The lake's [`catalogue`](crate::lake::shared) knows what it has.
//!
//! Nothing here is of NATS, which is [`nats`].

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use prost::bytes::Bytes;

use crate::session::StreamId;

pub mod nats;
mod outbox;

pub use outbox::{Outbox, Tally};

/// A batch on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Its numbering.
    pub stream: StreamId,
    /// Its number.
    pub sequence: u64,
    /// The encoded `Batch`, compressed as on the wire.
    pub body: Bytes,
}

/// By what the bus knows a batch. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub u64);

/// The last batch of a stream that is on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its number.
    pub sequence: u64,
    /// By what the bus knows it.
    pub mark: Mark,
}

/// What was pulled.
#[derive(Debug)]
pub struct Pulled {
    /// The batch; else what is wrong with the message that came, and its bytes.
    pub parcel: Result<Parcel, (String, Bytes)>,
    /// When it came to the bus, in nanoseconds since the Unix epoch.
    pub arrived_ns: i64,
    /// It was pulled before, by this collector or another, and not settled.
    pub again: bool,
    /// To say what became of it.
    pub receipt: Box<dyn Receipt>,
}

/// Says what became of a message. What nobody says anything of for a while is given to another.
#[async_trait]
pub trait Receipt: Send + Sync + Debug {
    /// It is in the lake, or put aside: it leaves the bus.
    ///
    /// # Errors
    /// If the bus cannot be told. It gives the message out again then.
    async fn done(&self) -> Result<(), BusError>;

    /// It is still being worked on.
    ///
    /// # Errors
    /// If the bus cannot be told.
    async fn hold(&self) -> Result<(), BusError>;

    /// Somebody else shall have it.
    ///
    /// # Errors
    /// If the bus cannot be told.
    async fn give_back(&self) -> Result<(), BusError>;
}

/// Why the bus did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// It is not what can be used.
    #[error("bus {bus}: {cause}")]
    Unusable {
        /// Where it is.
        bus: String,
        /// Why, and what to do.
        cause: String,
    },
    /// There was no answer, or none that counts. It may work in a moment.
    #[error(
        "the bus does not answer: {0}; see that its servers run and reach each other, and that most of them are there"
    )]
    Unreachable(String),
    /// Another batch is the last of the stream.
    #[error("the stream has another last batch on the bus than was thought")]
    Overtaken,
    /// It has no room, or no right.
    #[error(
        "the bus refuses a batch: {0}; see that storage takes what is on it, and that it has room and rights"
    )]
    Refused(String),
    /// The batch is longer than a message may be.
    #[error(
        "the bus refuses a batch of {bytes} bytes: its messages may have {allowed}; set `max_payload: 8MB` in the configuration of its servers"
    )]
    Long {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        allowed: usize,
    },
}

/// A durable log that several collectors write and several read, each message by one.
#[async_trait]
pub trait Bus: Send + Sync + Debug {
    /// The last batch of a stream that is on the bus. What has been settled is not.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn last(&self, stream: &StreamId) -> Result<Option<Last>, BusError>;

    /// Makes a batch durable, if the last one of its stream is `after`.
    ///
    /// # Errors
    /// If it was not made durable, or nobody knows whether it was.
    async fn publish(&self, parcel: &Parcel, after: Mark) -> Result<Mark, BusError>;

    /// Pulls up to `most` messages that nobody else has, waiting no longer than `within` for them.
    ///
    /// # Errors
    /// If the bus cannot be asked.
    async fn pull(&self, most: usize, within: Duration) -> Result<Vec<Pulled>, BusError>;

    /// How many messages wait, whether pulled or not.
    ///
    /// # Errors
    /// If the bus cannot be asked: then it can do nothing else either.
    async fn waiting(&self) -> Result<u64, BusError>;
}
