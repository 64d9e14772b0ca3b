//! The agents' side: one `Deliver` stream each.

use std::{pin::pin, sync::Arc, time::Instant};

use sensor_proto::v1::{
    Ack, DeliverRequest, DeliverResponse, Welcome, deliver_response::Frame, ingest_server::Ingest,
};
use sensor_trust::Name;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    fleet::{Fleet, Present},
    pace::{LEAST, Pace},
    session::{FrameError, Session, Step, StreamId},
    storage::Storage,
    trust::{Peer, service::peer},
    writer::WriteError,
};

/// Answers on the way to an agent. Acknowledgements are cumulative, so few are enough.
const ANSWERS: usize = 4;

/// The service.
#[derive(Debug)]
pub struct IngestService {
    /// Makes batches durable.
    pub storage: Storage,
    /// Who is connected.
    pub fleet: Fleet,
    /// Becomes true when the collector stops: streams take nothing more, acknowledge what they took, and end.
    pub stopping: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Ingest for IngestService {
    type DeliverStream = ReceiverStream<Result<DeliverResponse, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let (answers, stream) = mpsc::channel(ANSWERS);
        let (stored, acks) = mpsc::unbounded_channel();
        let delivery = Delivery {
            session: Session::default(),
            stream: Arc::new(StreamId {
                host: String::new(),
                epoch: 0,
            }),
            storage: self.storage.clone(),
            fleet: self.fleet.clone(),
            present: None,
            name: peer(&request)?.speaks_for().cloned(),
            stored,
            back: Back {
                answers,
                acks,
                pace: Pace::new(0, Instant::now()),
            },
        };
        let peer = peer(&request)?.clone();
        tokio::spawn(delivery.run(request.into_inner(), self.stopping.clone(), peer));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

struct Delivery {
    session: Session,
    stream: Arc<StreamId>,
    storage: Storage,
    fleet: Fleet,
    present: Option<Present>,
    /// The host that the agent's certificate is of; `None` without TLS.
    name: Option<Name>,
    /// Where the writer says what became of a batch. Bounded by the credit.
    stored: mpsc::UnboundedSender<Result<u64, WriteError>>,
    back: Back,
}

/// The way back to the agent.
struct Back {
    answers: mpsc::Sender<Result<DeliverResponse, Status>>,
    acks: mpsc::UnboundedReceiver<Result<u64, WriteError>>,
    pace: Pace,
}

impl Delivery {
    async fn run(
        mut self,
        mut frames: Streaming<DeliverRequest>,
        mut stopping: watch::Receiver<bool>,
        peer: Peer,
    ) {
        let result = self.serve(&mut frames, &mut stopping).await;
        let stream = Arc::clone(&self.stream);
        let host = &stream.host;
        match result {
            Ok(()) => {
                tracing::debug!(%host, %peer, "stream ended");
                self.say_goodbye().await;
            }
            Err(status) => {
                tracing::warn!(%host, %peer, "stream ended: {}", status.message());
                // If the agent is gone, nobody is there to be told.
                let _ = self.back.answers.send(Err(status)).await;
            }
        }
    }

    /// Until the agent has ended and all that it sent is acknowledged, or something is wrong.
    async fn serve(
        &mut self,
        frames: &mut Streaming<DeliverRequest>,
        stopping: &mut watch::Receiver<bool>,
    ) -> Result<(), Status> {
        let mut ended = false;
        let mut stop = false;
        while !((ended || stop) && self.session.is_settled()) {
            tokio::select! {
                // What is durable is told before more is taken.
                biased;
                Some(stored) = self.back.acks.recv() => self.back.acknowledge(&mut self.session, stored).await?,
                () = stopped(stopping), if !stop => stop = true,
                frame = frames.message(), if !ended && !stop => match frame? {
                    Some(frame) => self.take(frame).await?,
                    None => ended = true,
                },
            }
        }
        if stop {
            Err(Status::unavailable("the collector is stopping; connect again"))
        } else {
            Ok(())
        }
    }

    /// The agent has ended its stream, and all of it is acknowledged: it was stopped in order.
    async fn say_goodbye(&mut self) {
        let Some(present) = &mut self.present else { return };
        present.ends_in_order();
        if let Err(error) = self.storage.stopped(self.stream.host.clone()).await {
            tracing::warn!(host = %self.stream.host, "that the agent was stopped in order could not be noted: {error}");
        }
    }

    async fn take(&mut self, frame: DeliverRequest) -> Result<(), Status> {
        match self.session.take(frame).map_err(refusal)? {
            Step::Greet {
                stream,
                protocol,
                agent_version,
                compression,
            } => {
                self.check_name(&stream.host)?;
                self.stream = Arc::new(stream);
                let stored = self
                    .storage
                    .greet(Arc::clone(&self.stream), agent_version)
                    .await
                    .map_err(failure)?;
                self.session.open(stored);
                self.back.pace = Pace::new(stored, Instant::now());
                self.present = Some(self.fleet.enter(&self.stream.host));
                tracing::info!(host = %self.stream.host, stored, "agent connected");
                let welcome = Welcome {
                    protocol,
                    stored,
                    credit: LEAST,
                    compression: compression.into(),
                };
                self.back.answer(Frame::Welcome(welcome)).await
            }
            Step::Store(batch) => {
                if let Some(present) = &self.present {
                    present.saw(&batch.batch);
                }
                let (stream, reply) = (Arc::clone(&self.stream), self.stored.clone());
                let Self {
                    storage,
                    back,
                    session,
                    ..
                } = self;
                let mut storing = pin!(storage.store(stream, batch, reply));
                // What was stored meanwhile is told while this one waits for room.
                loop {
                    tokio::select! {
                        biased;
                        Some(stored) = back.acks.recv() => back.acknowledge(session, stored).await?,
                        done = &mut storing => return done.map_err(failure),
                    }
                }
            }
            Step::Again(stored) => self.back.acknowledge_to(stored).await,
        }
    }

    /// An agent speaks as itself only.
    fn check_name(&self, host: &str) -> Result<(), Status> {
        match &self.name {
            Some(name) if name.as_str() != host => Err(Status::permission_denied(format!(
                "this agent says that it is host {host:?}, and its certificate is of {name}; set host.name = \"{name}\" there, or enrol it as {host:?}"
            ))),
            _ => Ok(()),
        }
    }
}

impl Back {
    /// Acknowledges the latest of what is known to be durable.
    async fn acknowledge(
        &mut self,
        session: &mut Session,
        stored: Result<u64, WriteError>,
    ) -> Result<(), Status> {
        let mut sequence = stored.map_err(failure)?;
        session.stored(sequence);
        while let Ok(stored) = self.acks.try_recv() {
            sequence = stored.map_err(failure)?;
            session.stored(sequence);
        }
        self.acknowledge_to(sequence).await
    }

    async fn acknowledge_to(&mut self, sequence: u64) -> Result<(), Status> {
        let credit = self.pace.credit(sequence, Instant::now());
        self.answer(Frame::Ack(Ack { sequence, credit })).await
    }

    async fn answer(&self, frame: Frame) -> Result<(), Status> {
        let sent = self
            .answers
            .send(Ok(DeliverResponse { frame: Some(frame) }))
            .await;
        sent.map_err(|_| Status::cancelled("the agent is gone"))
    }
}

/// Returns when the collector stops.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is as good a reason to stop.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn refusal(error: FrameError) -> Status {
    match error {
        FrameError::Gap { .. } => Status::failed_precondition(error.to_string()),
        FrameError::Credit { .. } => Status::resource_exhausted(error.to_string()),
        error => Status::invalid_argument(error.to_string()),
    }
}

fn failure(error: WriteError) -> Status {
    match error {
        WriteError::Gap(message) => Status::failed_precondition(message),
        error => Status::unavailable(error.to_string()),
    }
}
