//! From the spool to the collector: greets, sends within the credit, lets go of what is acknowledged, and comes back
//! when the line breaks.

use std::{sync::Arc, time::Duration};

use sensor_proto::{
    MESSAGE_BYTES_MAX, PROTOCOL,
    v1::{Compression, DeliverRequest, DeliverResponse, Hello, deliver_request, deliver_response::Frame},
};
use sensor_trust::{Address, DialError, Security, dial};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery};

use super::{
    OnConnecting, Shared,
    frames::{FrameCodec, Outgoing},
};
use crate::export::{
    backoff::{Backoff, FIRST},
    spool::{Keeper, KeeperError},
};

/// How long the collector may take to greet.
const GREETING: Duration = Duration::from_secs(10);

/// Most batches on the way, however much credit the collector gives: they are in memory twice.
const CREDIT_MAX: u32 = 64;

/// Sends.
pub(super) struct Sender {
    pub(super) address: Address,
    pub(super) security: Security,
    pub(super) host: String,
    pub(super) on_connecting: OnConnecting,
    pub(super) keeper: Keeper,
    pub(super) shared: Arc<Shared>,
}

/// Why a stream ended before all was delivered.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Connect(#[from] DialError),
    #[error("the connection has ended: {0}")]
    Gone(#[from] tonic::transport::Error),
    #[error("the collector says: {}", _0.message())]
    Refused(#[from] Status),
    #[error("the collector ended the stream")]
    Ended,
    #[error("the collector did not greet within {GREETING:?}")]
    Silent,
    #[error(
        "the collector speaks protocol {0}, this agent {PROTOCOL}; use an agent or a collector of the other's version"
    )]
    Protocol(u32),
    #[error("the collector broke the protocol: {0}")]
    Nonsense(&'static str),
    #[error("the collector has lost what it had; a new epoch begins")]
    Renumbered,
    #[error(transparent)]
    Spool(#[from] KeeperError),
}

/// Why a stream ended well.
enum End {
    /// Nothing is left, and nothing will come.
    Done,
    /// What waits now is of another epoch, and needs a stream of its own.
    Epoch,
}

/// What is known of a batch that the collector will not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Suspicion {
    #[default]
    None,
    /// It is one of those that were on the way: each is sent alone.
    OneOf,
    /// It is this one.
    Convicted { epoch: u64, sequence: u64 },
}

impl Suspicion {
    /// What to think of it after a stream has ended so, with what was on the way.
    fn after(self, error: &SendError, stream: &Stream) -> Self {
        let is_refused =
            matches!(error, SendError::Refused(status) if status.code() == Code::InvalidArgument);
        match (is_refused, stream.sent - stream.acked, self) {
            (false, ..) | (true, 0, _) => Self::None,
            (true, 1, Self::OneOf) => Self::Convicted {
                epoch: stream.epoch,
                sequence: stream.sent,
            },
            (true, ..) => Self::OneOf,
        }
    }

    fn credit(self, credit: u32) -> u32 {
        if self == Self::None { credit } else { 1 }
    }
}

/// A stream that was welcomed.
struct Stream {
    /// `None` once nothing more comes.
    frames: Option<mpsc::Sender<Outgoing>>,
    answers: Streaming<DeliverResponse>,
    epoch: u64,
    compression: Compression,
    sent: u64,
    acked: u64,
    credit: u32,
    suspicion: Suspicion,
}

impl Sender {
    /// Until nothing is left to deliver and nothing will come.
    pub(super) async fn run(self, seed: u64) {
        let mut backoff = Backoff::new(seed);
        let mut suspicion = Suspicion::None;
        while !self.shared.is_done() {
            let error = match self.attempt(&mut backoff, &mut suspicion).await {
                Ok(End::Done) => break,
                Ok(End::Epoch) => continue,
                Err(error) => error,
            };
            self.note(&error);
            let wait = backoff.next();
            tokio::select! {
                () = sleep(wait) => {}
                // The agent stops: one more attempt at once, then in quick succession until the time is over.
                () = self.shared.packed() => sleep(wait.min(FIRST)).await,
            }
        }
        self.shared.link().connected = false;
    }

    fn note(&self, error: &SendError) {
        let mut link = self.shared.link();
        let message = error.to_string();
        if link.connected || link.last_error != message {
            tracing::warn!(
                "no delivery to the collector {}: {message}; trying again",
                self.shared.collector
            );
        }
        link.connected = false;
        link.last_error = message;
    }

    async fn attempt(&self, backoff: &mut Backoff, suspicion: &mut Suspicion) -> Result<End, SendError> {
        if let Suspicion::Convicted { epoch, sequence } = *suspicion {
            self.keeper.refuse(epoch, sequence).await?;
            *suspicion = Suspicion::None;
        }
        let mut stream = self.greet().await?;
        stream.suspicion = *suspicion;
        let welcomed = stream.acked;
        let end = self.deliver(&mut stream).await;
        // One that welcomes and refuses is not asked more and more often.
        if stream.acked > welcomed || !matches!(end, Err(SendError::Refused(_))) {
            backoff.reset();
        }
        if let Err(error) = &end {
            *suspicion = suspicion.after(error, &stream);
        }
        end
    }

    async fn deliver(&self, stream: &mut Stream) -> Result<End, SendError> {
        {
            let mut link = self.shared.link();
            link.connected = true;
            link.last_error.clear();
        }
        tracing::info!("delivering to the collector {}", self.shared.collector);
        let mut end = End::Done;
        while !self.shared.is_done() {
            stream.fill(&self.keeper).await?;
            if stream.acked == stream.sent && self.keeper.epoch().await? != stream.epoch {
                end = End::Epoch;
                break;
            }
            tokio::select! {
                answer = stream.answers.message() => {
                    stream.take(answer?.ok_or(SendError::Ended)?, &self.keeper).await?;
                }
                () = self.keeper.changed() => {}
            }
        }
        // Says that nothing more comes, and waits for the collector to agree; the time for it is the caller's.
        stream.frames = None;
        while stream.answers.message().await?.is_some() {}
        Ok(end)
    }

    async fn greet(&self) -> Result<Stream, SendError> {
        let channel = dial(&self.address, &self.security, &self.on_connecting).await?;
        // Room for every batch that credit allows, so that sending never waits.
        let (frames, stream) = mpsc::channel(CREDIT_MAX as usize + 1);
        let epoch = self.keeper.epoch().await?;
        let hello = Hello {
            protocol: PROTOCOL,
            host: self.host.clone(),
            epoch,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            compressions: vec![Compression::Zstd.into()],
        };
        let hello = DeliverRequest {
            frame: Some(deliver_request::Frame::Hello(hello)),
        };
        // It cannot be full or closed yet.
        let _ = frames.try_send(Outgoing::Hello(hello));
        let mut client = Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        client.ready().await?;
        let path = PathAndQuery::from_static("/sensor.v1.Ingest/Deliver");
        let greeting = async {
            let request = Request::new(ReceiverStream::new(stream));
            let mut answers = client.streaming(request, path, FrameCodec).await?.into_inner();
            let welcome = answers.message().await?.ok_or(SendError::Ended)?;
            Ok::<_, SendError>((answers, welcome))
        };
        let (answers, welcome) = timeout(GREETING, greeting)
            .await
            .map_err(|_| SendError::Silent)??;
        let Some(Frame::Welcome(welcome)) = welcome.frame else {
            return Err(SendError::Nonsense("it did not begin with a welcome"));
        };
        if welcome.protocol == 0 || welcome.protocol > PROTOCOL {
            return Err(SendError::Protocol(welcome.protocol));
        }
        // What this agent did not offer is not asked for by one that keeps the rules.
        let compression = Compression::try_from(welcome.compression)
            .map_err(|_| SendError::Nonsense("it asked for a compression that was not offered"))?;
        if !self.keeper.resume(epoch, welcome.stored).await? {
            return Err(SendError::Renumbered);
        }
        let (sent, acked) = (welcome.stored, welcome.stored);
        Ok(Stream {
            frames: Some(frames),
            answers,
            epoch,
            compression,
            sent,
            acked,
            credit: welcome.credit.clamp(1, CREDIT_MAX),
            suspicion: Suspicion::None,
        })
    }
}

impl Stream {
    /// Sends what waits, as far as the credit goes.
    async fn fill(&mut self, keeper: &Keeper) -> Result<(), SendError> {
        let on_the_way = self.sent - self.acked;
        let credit = self.suspicion.credit(self.credit);
        let room = u64::from(credit).saturating_sub(on_the_way) as usize;
        if room == 0 {
            return Ok(());
        }
        for batch in keeper.batches(self.epoch, self.sent, room).await? {
            self.sent = batch.sequence;
            let frames = self.frames.as_ref().ok_or(SendError::Ended)?;
            frames
                .try_send(Outgoing::Batch(batch, self.compression))
                .map_err(|_| SendError::Ended)?;
        }
        Ok(())
    }

    async fn take(&mut self, answer: DeliverResponse, keeper: &Keeper) -> Result<(), SendError> {
        let Some(Frame::Ack(ack)) = answer.frame else {
            return Err(SendError::Nonsense(
                "it answered a batch with something else than an acknowledgement",
            ));
        };
        if ack.sequence > self.sent {
            return Err(SendError::Nonsense("it acknowledged what was never sent"));
        }
        self.acked = self.acked.max(ack.sequence);
        self.credit = ack.credit.clamp(1, CREDIT_MAX);
        Ok(keeper.acknowledge(self.epoch, self.acked).await?)
    }
}
