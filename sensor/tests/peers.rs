//! Peers of before batches were compressed. What they said was recorded from their programs (commit 387e16b) as it went over the line: messages,
//! each with the five bytes that gRPC puts before it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use collector::{Config, Server, trust::Trust};
use prost::Message;
use sensor::{
    export::{Converter, Entry, Hub, Loss, Spool, Uplink, UplinkConfig, Users},
    time::WallTime,
};
use sensor_proto::v1::{
    self, Ack, Batch, DeliverRequest, DeliverResponse, Welcome, deliver_request, deliver_response,
    ingest_client::IngestClient,
    ingest_server::{Ingest, IngestServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::{
    StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

/// It is only there so that a defect does not hang.
const PATIENCE: Duration = Duration::from_secs(30);

const AGENT: &[u8] = include_bytes!("peers/agent-0.1.frames");
const COLLECTOR: &[u8] = include_bytes!("peers/collector-0.1.frames");

/// The messages of a recording. Each is encoded today as it was then, so sending it again sends the same bytes.
fn messages<M: Message + Default>(mut recorded: &[u8]) -> Vec<M> {
    let mut messages = Vec::new();
    while let [0, length @ ..] = recorded {
        let (length, rest) = length.split_at(4);
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let (bytes, rest) = rest.split_at(length);
        let message = M::decode(bytes).expect("is understood");
        assert_eq!(message.encode_to_vec(), bytes, "means the same");
        messages.push(message);
        recorded = rest;
    }
    assert!(recorded.is_empty());
    messages
}

#[tokio::test]
async fn an_older_agent_is_served_as_before() {
    let data = tempfile::tempdir().expect("a directory");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let config = Config::new(listen, data.path().to_owned(), Trust::Insecure);
    let server = Server::bind(&config).await.expect("binds");
    let url = format!("http://{}", server.address());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async move { drop(stopped.await) }));
    let mut client = IngestClient::connect(url).await.expect("connects");
    let frames: Vec<DeliverRequest> = messages(AGENT);
    let (said, stream) = mpsc::channel(16);
    let mut answers = client
        .deliver(ReceiverStream::new(stream))
        .await
        .expect("is heard")
        .into_inner();
    // It waited for each answer, as the recording has one for each.
    for (frame, expected) in frames.into_iter().zip(messages::<DeliverResponse>(COLLECTOR)) {
        said.send(frame).await.expect("sends");
        let answer = timeout(PATIENCE, answers.message())
            .await
            .expect("in time")
            .expect("no error");
        assert_eq!(
            but_for_credit(answer.expect("an answer")),
            but_for_credit(expected)
        );
    }
    drop((said, answers, client));
    stop.send(()).expect("runs");
    serving.await.expect("ends").expect("ends well");
}

/// How much an agent may have on the way is for each collector to say; for as long as there is some, the agent goes on.
fn but_for_credit(mut answer: DeliverResponse) -> DeliverResponse {
    let credit = match answer.frame.as_mut().expect("a frame") {
        deliver_response::Frame::Welcome(welcome) => &mut welcome.credit,
        deliver_response::Frame::Ack(ack) => &mut ack.credit,
    };
    assert!(*credit > 0);
    *credit = 1;
    answer
}

/// Answers as the recorded collector did, and understands what that did.
struct Older(mpsc::UnboundedSender<Batch>);

#[tonic::async_trait]
impl Ingest for Older {
    type DeliverStream = ReceiverStream<Result<DeliverResponse, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let (answer, answers) = mpsc::channel(8);
        let got = self.0.clone();
        let mut frames = request.into_inner();
        tokio::spawn(async move {
            let mut recorded = messages::<DeliverResponse>(COLLECTOR).into_iter();
            while let Some(Ok(frame)) = frames.next().await {
                match frame.frame {
                    Some(deliver_request::Frame::Hello(hello)) => assert_eq!(hello.protocol, 1),
                    Some(deliver_request::Frame::Batch(batch)) => {
                        got.send(Batch::decode(batch).expect("a batch"))
                            .expect("is awaited");
                    }
                    other => panic!("it would not understand {other:?}"),
                }
                answer
                    .send(Ok(recorded.next().expect("as many as were recorded")))
                    .await
                    .expect("is heard");
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

#[tokio::test]
async fn an_older_collector_gets_what_it_understands() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (got, mut batches) = mpsc::unbounded_channel();
    let service = IngestServer::new(Older(got));
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );

    let hub = Hub::default();
    let converter = Converter::new("web1", Arc::new(Users::default()));
    let mut config = UplinkConfig::new(url, 7);
    config.flush = PATIENCE;
    let open = || Spool::in_memory(1 << 20);
    let uplink = Uplink::new(config, &hub, converter, open, Arc::new(|_| {})).expect("an address");
    let monitor = uplink.monitor();
    let running = tokio::spawn(uplink.run());
    // The recording has room for three batches.
    for number in 1..=3 {
        hub.publish(&[loss(number)]);
        let batch = timeout(PATIENCE, batches.recv())
            .await
            .expect("in time")
            .expect("a batch");
        assert_eq!((batch.sequence, batch.entries.len()), (number, 1));
    }
    hub.close();
    timeout(PATIENCE, running)
        .await
        .expect("ends")
        .expect("ends well");
    let status = monitor.status();
    assert_eq!(
        (status.batches_acked, status.batches_waiting),
        (3, 0),
        "{status:?}"
    );
}

/// Takes what it is sent, but for one batch, which it will not have.
struct Choosy {
    got: mpsc::UnboundedSender<Batch>,
    stored: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Ingest for Choosy {
    type DeliverStream = ReceiverStream<Result<DeliverResponse, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let (answer, answers) = mpsc::channel(8);
        let (got, stored) = (self.got.clone(), Arc::clone(&self.stored));
        let mut frames = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = frames.next().await {
                let (credit, last) = (32, stored.load(Ordering::Relaxed));
                let response = match frame.frame {
                    Some(deliver_request::Frame::Batch(batch)) => {
                        let batch = Batch::decode(batch).expect("a batch");
                        assert_eq!(batch.sequence, last + 1);
                        if batch.entries.iter().any(|entry| lost(entry) == 1_003) {
                            let _ = answer
                                .send(Err(Status::invalid_argument("it cannot be read")))
                                .await;
                            return;
                        }
                        stored.store(batch.sequence, Ordering::Relaxed);
                        let sequence = batch.sequence;
                        got.send(batch).expect("is awaited");
                        deliver_response::Frame::Ack(Ack { sequence, credit })
                    }
                    _ => deliver_response::Frame::Welcome(Welcome {
                        protocol: 1,
                        stored: last,
                        credit,
                        ..Welcome::default()
                    }),
                };
                let _ = answer
                    .send(Ok(DeliverResponse {
                        frame: Some(response),
                    }))
                    .await;
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

fn lost(entry: &v1::Entry) -> u64 {
    match &entry.body {
        Some(v1::entry::Body::Loss(loss)) => loss.count,
        _ => 0,
    }
}

#[tokio::test]
async fn a_batch_that_is_refused_holds_up_no_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (got, mut batches) = mpsc::unbounded_channel();
    let service = IngestServer::new(Choosy {
        got,
        stored: Arc::default(),
    });
    let hub = Hub::default();
    let converter = Converter::new("web1", Arc::new(Users::default()));
    let mut config = UplinkConfig::new(url, 7);
    config.flush = PATIENCE;
    let open = || Spool::in_memory(1 << 20);
    let uplink = Uplink::new(config, &hub, converter, open, Arc::new(|_| {})).expect("an address");
    let monitor = uplink.monitor();
    let running = tokio::spawn(uplink.run());
    // A batch each; the collector is not there yet.
    for number in 1..=6 {
        hub.publish(&[loss(1_000 + number)]);
        while monitor.status().batches_waiting < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    let mut said = Vec::new();
    while said.len() < 6 {
        let batch = timeout(PATIENCE, batches.recv())
            .await
            .expect("in time")
            .expect("a batch");
        said.extend(batch.entries.iter().map(lost));
    }
    assert_eq!(
        said,
        [1_001, 1_002, 1, 1_004, 1_005, 1_006],
        "and one entry is said to be lost"
    );
    hub.close();
    timeout(PATIENCE, running)
        .await
        .expect("ends")
        .expect("ends well");
    assert_eq!(monitor.status().entries_shed, 1);
}

fn loss(count: u64) -> Entry {
    Entry::Loss(Loss {
        stage: "ring",
        signal: None,
        count,
        reason: "",
        from: WallTime(0),
        to: WallTime(0),
    })
}

#[test]
fn the_recordings_are_of_a_whole_exchange() {
    let (said, answered) = (
        messages::<DeliverRequest>(AGENT),
        messages::<DeliverResponse>(COLLECTOR),
    );
    assert!(matches!(said[0].frame, Some(deliver_request::Frame::Hello(_))));
    assert!(matches!(
        answered[0].frame,
        Some(deliver_response::Frame::Welcome(_))
    ));
    assert_eq!((said.len(), answered.len()), (4, 4));
}
