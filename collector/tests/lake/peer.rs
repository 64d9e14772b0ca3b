//! The agent's end of the wire: delivers numbered batches until they are acknowledged, and comes back when the line breaks.

use std::time::Duration;

use prost::Message as _;
use sensor_proto::{
    PROTOCOL,
    v1::{
        Batch, DeliverRequest, DeliverResponse, Entry, Event, Exec, Hello, Operation, Process, ProcessId,
        deliver_request, deliver_response::Frame, entry, event, ingest_client::IngestClient,
    },
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Entries in a batch.
pub const EACH: u64 = 50;

/// One numbering of one host.
pub struct Peer {
    pub url: String,
    pub host: String,
    pub epoch: u64,
    pub acknowledged: u64,
}

/// A stream that was welcomed.
pub struct Stream {
    pub frames: mpsc::Sender<DeliverRequest>,
    pub answers: Streaming<DeliverResponse>,
    pub credit: u64,
}

impl Peer {
    pub fn new(url: &str, host: &str) -> Self {
        Self {
            url: url.to_owned(),
            host: host.to_owned(),
            epoch: 7,
            acknowledged: 0,
        }
    }

    /// Delivers batches 1 to `count`, each [`EACH`] entries, however often the line breaks.
    pub async fn deliver(&mut self, count: u64) {
        while self.acknowledged < count {
            if self.attempt(count).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    pub async fn connect(&mut self) -> Result<Stream, Status> {
        let client = IngestClient::connect(self.url.clone()).await;
        let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
        let (frames, stream) = mpsc::channel(64);
        let hello = Hello {
            protocol: PROTOCOL,
            host: self.host.clone(),
            epoch: self.epoch,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Hello::default()
        };
        frames
            .send(frame(deliver_request::Frame::Hello(hello)))
            .await
            .unwrap();
        let mut answers = client.deliver(ReceiverStream::new(stream)).await?.into_inner();
        let Some(Frame::Welcome(welcome)) = answers.message().await?.and_then(|answer| answer.frame) else {
            return Err(Status::aborted("no welcome"));
        };
        assert!(
            welcome.stored >= self.acknowledged,
            "what was acknowledged is not stored"
        );
        self.acknowledged = welcome.stored;
        Ok(Stream {
            frames,
            answers,
            credit: welcome.credit.into(),
        })
    }

    async fn attempt(&mut self, count: u64) -> Result<(), Status> {
        let mut stream = self.connect().await?;
        let mut sent = self.acknowledged;
        while self.acknowledged < count {
            while sent < count && sent - self.acknowledged < stream.credit {
                sent += 1;
                let batch = frame(deliver_request::Frame::Batch(
                    self.batch(sent).encode_to_vec().into(),
                ));
                let gone = |_| Status::unavailable("gone");
                stream.frames.send(batch).await.map_err(gone)?;
            }
            match stream.answers.message().await?.and_then(|answer| answer.frame) {
                Some(Frame::Ack(ack)) => {
                    self.acknowledged = self.acknowledged.max(ack.sequence);
                    stream.credit = ack.credit.into();
                }
                _ => return Err(Status::aborted("no acknowledgement")),
            }
        }
        drop(stream.frames);
        while stream.answers.message().await?.is_some() {}
        Ok(())
    }

    /// Entries that can be told apart: the arguments of each are `HOST NUMBER`.
    pub fn batch(&self, sequence: u64) -> Batch {
        let processes = (0..4).map(|process| self.process(process)).collect();
        let entries = ((sequence - 1) * EACH..sequence * EACH)
            .map(|number| self.entry(number))
            .collect();
        Batch {
            sequence,
            entries,
            processes,
        }
    }

    fn process(&self, number: u32) -> Process {
        Process {
            id: Some(ProcessId {
                tgid: 100 + number,
                start_time_ns: 1_000_000 + u64::from(number),
            }),
            executable: format!("/usr/bin/program{number}"),
            args: vec![self.host.clone(), number.to_string()],
            user: "root".to_owned(),
            cgroup: "/system.slice/test.service".to_owned(),
            ..Process::default()
        }
    }

    /// An exec with a process of its own, or an operation of one that others are of too.
    fn entry(&self, number: u64) -> Entry {
        let mut event = Event {
            boot_time_ns: 1_000_000_000 + number * 1000,
            time_ns: 1_795_000_000_000_000_000 + number * 1000,
            comm: "worker".to_owned(),
            tid: 5,
            ..Event::default()
        };
        if number.is_multiple_of(5) {
            event.process = Some(Process {
                comm: std::mem::take(&mut event.comm),
                tid: std::mem::take(&mut event.tid),
                args: vec![self.host.clone(), format!("exec-{number}")],
                ..self.process(9)
            });
            event.body = Some(event::Body::Exec(Exec {
                filename: number.to_string(),
                ..Exec::default()
            }));
        } else {
            event.process_ref = (number % 4) as u32 + 1;
            event.body = Some(event::Body::Operation(Operation {
                signal: "file_open".to_owned(),
                call: "openat".to_owned(),
                path: format!("/{}/{number}", self.host),
                ..Operation::default()
            }));
        }
        Entry {
            host: String::new(),
            body: Some(entry::Body::Event(event)),
        }
    }
}

pub fn frame(frame: deliver_request::Frame) -> DeliverRequest {
    DeliverRequest { frame: Some(frame) }
}

/// What tells an entry apart: its number.
pub fn number(entry: &Entry) -> u64 {
    let Some(entry::Body::Event(event)) = &entry.body else {
        panic!("no event: {entry:?}")
    };
    match &event.body {
        Some(event::Body::Exec(exec)) => exec.filename.parse().unwrap(),
        Some(event::Body::Operation(operation)) => {
            operation.path.rsplit('/').next().unwrap().parse().unwrap()
        }
        other => panic!("{other:?}"),
    }
}
