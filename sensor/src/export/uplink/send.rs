//! From the spool to the collector: greets, sends within the credit, lets go of what is acknowledged, and comes back
//! when the line breaks.

use std::{sync::Arc, time::Duration};

use sensor_proto::{
    MESSAGE_BYTES_MAX, PROTOCOL,
    v1::{DeliverRequest, DeliverResponse, Hello, deliver_request, deliver_response::Frame},
};
use sensor_trust::{Address, DialError, Security, dial};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery};

use super::{
    OnConnecting, Shared,
    frames::{FrameCodec, Outgoing},
};

/// First and longest time between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

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
}

/// A stream that was welcomed.
struct Stream {
    frames: mpsc::Sender<Outgoing>,
    answers: Streaming<DeliverResponse>,
    sent: u64,
    acked: u64,
    credit: u32,
}

impl Sender {
    /// Until nothing is left to deliver and nothing will come.
    pub(super) async fn run(self, seed: u64) {
        let mut backoff = Backoff::new(seed);
        while !self.shared.is_done() {
            let Err(error) = self.attempt(&mut backoff).await else {
                break;
            };
            self.note(&error);
            if matches!(error, SendError::Renumbered) {
                continue;
            }
            let wait = backoff.next();
            tokio::select! {
                () = sleep(wait) => {}
                // The agent stops: one more attempt at once, then in quick succession until the time is over.
                () = self.shared.packed() => sleep(wait.min(BACKOFF.0)).await,
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

    async fn attempt(&self, backoff: &mut Backoff) -> Result<(), SendError> {
        let mut stream = self.greet().await?;
        backoff.reset();
        {
            let mut link = self.shared.link();
            link.connected = true;
            link.last_error.clear();
        }
        tracing::info!("delivering to the collector {}", self.shared.collector);
        while !self.shared.is_done() {
            stream.fill(&self.shared)?;
            tokio::select! {
                answer = stream.answers.message() => stream.take(answer?.ok_or(SendError::Ended)?, &self.shared)?,
                () = self.shared.changed.notified() => {}
            }
        }
        // Says that nothing more comes, and waits for the collector to agree; the time for it is the caller's.
        let Stream {
            frames, mut answers, ..
        } = stream;
        drop(frames);
        while answers.message().await?.is_some() {}
        Ok(())
    }

    async fn greet(&self) -> Result<Stream, SendError> {
        let channel = dial(&self.address, &self.security, &self.on_connecting).await?;
        // Room for every batch that credit allows, so that sending never waits.
        let (frames, stream) = mpsc::channel(CREDIT_MAX as usize + 1);
        let hello = Hello {
            protocol: PROTOCOL,
            host: self.host.clone(),
            epoch: self.shared.spool().epoch(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
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
        self.resume(welcome.stored)?;
        let (sent, acked) = (welcome.stored, welcome.stored);
        Ok(Stream {
            frames,
            answers,
            sent,
            acked,
            credit: welcome.credit.clamp(1, CREDIT_MAX),
        })
    }

    fn resume(&self, stored: u64) -> Result<(), SendError> {
        let mut spool = self.shared.spool();
        if spool.resume(stored) {
            return Ok(());
        }
        spool.renumber();
        Err(SendError::Renumbered)
    }
}

impl Stream {
    /// Sends what waits, as far as the credit goes.
    fn fill(&mut self, shared: &Shared) -> Result<(), SendError> {
        while self.sent - self.acked < u64::from(self.credit)
            && let Some(batch) = shared.next(self.sent)
        {
            self.sent = batch.sequence;
            self.frames
                .try_send(Outgoing::Batch(batch))
                .map_err(|_| SendError::Ended)?;
        }
        Ok(())
    }

    fn take(&mut self, answer: DeliverResponse, shared: &Shared) -> Result<(), SendError> {
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
        shared.spool().acknowledge(self.acked);
        Ok(())
    }
}

/// Doubling times between attempts, each scattered over half to all of itself.
struct Backoff {
    next: Duration,
    state: u64,
}

impl Backoff {
    fn new(seed: u64) -> Self {
        Self {
            next: BACKOFF.0,
            state: seed,
        }
    }

    fn reset(&mut self) {
        self.next = BACKOFF.0;
    }

    fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(BACKOFF.1);
        whole.mul_f64(0.5 + 0.5 * self.random())
    }

    /// A number in [0, 1), by `SplitMix64`.
    fn random(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_back_off_with_jitter_and_start_again() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<_> = (0..12).map(|_| backoff.next()).collect();
        let mut whole = BACKOFF.0;
        for wait in &waits {
            assert!((whole / 2..=whole).contains(wait), "{wait:?} of {whole:?}");
            whole = (whole * 2).min(BACKOFF.1);
        }
        let mut same = Backoff::new(7);
        assert!(waits.iter().all(|wait| *wait == same.next()), "the seed decides");
        backoff.reset();
        assert!(backoff.next() <= BACKOFF.0);
    }
}
