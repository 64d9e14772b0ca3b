//! From the agent's hub to the collector's consumers, with the real ends of both and a line that breaks.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use collector::{Config, Server, trust::Trust};
use prost::Message;
use sensor::{
    export::{Converter, Entry, Hub, Loss, Spool, Uplink, UplinkConfig, UplinkMonitor, Users},
    time::WallTime,
};
use sensor_proto::v1::{
    self, Batch, DeliverRequest, DeliverResponse, Filter, Hello, ListHostsRequest, SubscribeRequest,
    SubscribeResponse, collector_client::CollectorClient, deliver_request::Frame, deliver_response,
    ingest_client::IngestClient,
};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

/// What should happen has happened long before; it is only there so that a defect does not hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes entries as large as events are.
const PADDING: &str = match std::str::from_utf8(&[b'x'; 250]) {
    Ok(text) => text,
    Err(_) => "",
};

/// A collector in a runtime of its own, so that it can be killed with all its connections.
struct Collector {
    runtime: Option<Runtime>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
    address: SocketAddr,
}

impl Collector {
    async fn start(data: &Path, listen: SocketAddr) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let config = Config::new(listen, data.to_owned(), Trust::Insecure);
        let server = runtime
            .spawn(async move {
                let until = Instant::now() + PATIENCE;
                loop {
                    // The one that was killed may still hold the lock or the port for a moment.
                    match Server::bind(&config).await {
                        Err(_) if Instant::now() < until => sleep(Duration::from_millis(20)).await,
                        result => break result.expect("a collector"),
                    }
                }
            })
            .await
            .expect("binds");
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let done = runtime.spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.run(stopped).await.expect("serves");
        });
        Self {
            runtime: Some(runtime),
            stop,
            done,
            address,
        }
    }

    async fn fresh(data: &Path) -> Self {
        Self::start(data, "127.0.0.1:0".parse().expect("an address")).await
    }

    /// Ends everything at once, as SIGKILL does.
    fn kill(mut self) {
        self.runtime.take().expect("runs").shutdown_background();
    }

    async fn stop(mut self) {
        self.stop.send(()).expect("runs");
        timeout(PATIENCE, self.done)
            .await
            .expect("stops")
            .expect("stops well");
        self.runtime.take().expect("runs").shutdown_background();
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(self.url())
            .expect("an address")
            .connect()
            .await
            .expect("connects")
    }

    async fn subscribe(&self, filter: Filter) -> Streaming<SubscribeResponse> {
        let request = SubscribeRequest {
            filter: Some(filter),
            ..SubscribeRequest::default()
        };
        let response = CollectorClient::new(self.channel().await)
            .subscribe(request)
            .await;
        response.expect("subscribes").into_inner()
    }
}

/// The agent's end.
struct Agent {
    hub: Hub,
    monitor: UplinkMonitor,
    running: JoinHandle<()>,
}

impl Agent {
    fn start(collector: &str) -> Self {
        Self::with_spool(collector, || Spool::in_memory(16 << 20))
    }

    fn with_spool(collector: &str, spool: impl FnOnce() -> Spool + Send + 'static) -> Self {
        Self::with(collector, PATIENCE, spool)
    }

    fn with(collector: &str, flush: Duration, spool: impl FnOnce() -> Spool + Send + 'static) -> Self {
        let hub = Hub::default();
        let converter = Converter::new("web1", Arc::new(Users::default()));
        let mut config = UplinkConfig::new(collector, 7);
        config.flush = flush;
        let uplink = Uplink::new(config, &hub, converter, spool, Arc::new(|_| {})).expect("an address");
        let monitor = uplink.monitor();
        Self {
            hub,
            monitor,
            running: tokio::spawn(uplink.run()),
        }
    }

    fn publish(&self, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| _ = self.hub.publish(&[entry(number)]));
    }

    async fn wait(&self, what: impl Fn(&v1::UplinkStatus) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !what(&self.monitor.status()) {
            assert!(Instant::now() < until, "{:?}", self.monitor.status());
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) -> v1::UplinkStatus {
        self.hub.close();
        timeout(PATIENCE, self.running)
            .await
            .expect("ends")
            .expect("ends well");
        self.monitor.status()
    }
}

/// An entry that is known by its number.
fn entry(number: u64) -> Entry {
    let (from, to) = (WallTime(0), WallTime(0));
    Entry::Loss(Loss {
        stage: "ring",
        signal: None,
        count: number,
        reason: PADDING,
        from,
        to,
    })
}

fn number(entry: &v1::Entry) -> u64 {
    match &entry.body {
        Some(v1::entry::Body::Loss(loss)) => loss.count,
        body => panic!("{body:?}"),
    }
}

/// The numbers of everything in a collector's database, in the order of its storage.
fn stored(data: &Path) -> Vec<u64> {
    let connection = rusqlite::Connection::open(data.join("collector.db")).expect("opens");
    let mut statement = connection
        .prepare("SELECT body FROM batches ORDER BY rowid")
        .expect("prepares");
    let bodies = statement
        .query_map([], |row| row.get::<_, Vec<u8>>(0))
        .expect("reads");
    let batches = bodies.map(|body| {
        let batch: Batch = Message::decode(body.expect("a body").as_slice()).expect("a batch");
        batch.entries.iter().map(number).collect::<Vec<_>>()
    });
    batches.flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_arrives_once_and_in_order() {
    let data = tempfile::tempdir().expect("a directory");
    let collector = Collector::fresh(data.path()).await;
    let mut consumer = collector.subscribe(Filter::default()).await;
    let agent = Agent::start(&collector.url());
    agent.publish(0..2000);
    let mut seen = Vec::new();
    while seen.len() < 2000 {
        let response = timeout(PATIENCE, consumer.message())
            .await
            .expect("in time")
            .expect("whole");
        let response = response.expect("goes on");
        assert_eq!(response.dropped, 0);
        // What a consumer sees is on disk.
        let on_disk = stored(data.path());
        seen.extend(response.entries.iter().map(number));
        assert!(on_disk.starts_with(&seen), "a consumer saw what is not stored");
    }
    assert_eq!(seen, (0..2000).collect::<Vec<_>>());

    let mut client = CollectorClient::new(collector.channel().await);
    let hosts = client
        .list_hosts(ListHostsRequest {})
        .await
        .expect("lists")
        .into_inner()
        .hosts;
    assert_eq!(
        (hosts[0].name.as_str(), hosts[0].connected, hosts[0].entries),
        ("web1", true, 2000)
    );

    let status = agent.stop().await;
    assert_eq!((status.batches_waiting, status.entries_shed), (0, 0));
    collector.stop().await;
    assert!(
        timeout(PATIENCE, consumer.message())
            .await
            .expect("in time")
            .expect("ends well")
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_killed_and_comes_back_has_everything_once() {
    let data = tempfile::tempdir().expect("a directory");
    let mut collector = Collector::fresh(data.path()).await;
    let (address, url) = (collector.address, collector.url());
    let agent = Agent::start(&url);
    for round in 0..4 {
        agent.publish(round * 3000..round * 3000 + 1500);
        agent.wait(|status| status.batches_acked > 0).await;
        collector.kill();
        agent.publish(round * 3000 + 1500..round * 3000 + 3000);
        collector = Collector::start(data.path(), address).await;
        agent.wait(|status| status.connected).await;
    }
    let status = agent.stop().await;
    assert_eq!(
        (status.batches_waiting, status.entries_shed),
        (0, 0),
        "{status:?}"
    );
    collector.stop().await;
    assert_eq!(stored(data.path()), (0..12_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_an_agent_ends_is_delivered_by_the_next() {
    let (data, state) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let collector = Collector::fresh(data.path()).await;
    let (address, url) = (collector.address, collector.url());
    let spool = |path: &Path| {
        let path = path.join("spool.db");
        move || Spool::open(&path, 16 << 20)
    };
    collector.kill();
    for round in 0..4 {
        // Each ends with more that waits, under numbers of its own.
        let agent = Agent::with(&url, Duration::ZERO, spool(state.path()));
        agent.publish(round * 1000..round * 1000 + 1000);
        let status = agent.stop().await;
        assert!(
            status.batches_waiting > 0 && status.spool.ends_with("spool.db"),
            "{status:?}"
        );
    }
    let collector = Collector::start(data.path(), address).await;
    let agent = Agent::with_spool(&url, spool(state.path()));
    agent.publish(4000..5000);
    let status = agent.stop().await;
    assert_eq!(
        (status.batches_waiting, status.entries_shed, &*status.degraded),
        (0, 0, "")
    );
    collector.stop().await;
    let mut stored = stored(data.path());
    stored.sort_unstable();
    assert_eq!(stored, (0..5000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_lost_its_data_gets_the_rest_in_a_new_epoch() {
    let (old, new) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let collector = Collector::fresh(old.path()).await;
    let (address, url) = (collector.address, collector.url());
    let agent = Agent::start(&url);
    agent.publish(0..1000);
    agent
        .wait(|status| status.batches_acked > 0 && status.batches_waiting == 0)
        .await;
    collector.kill();
    agent.publish(1000..2000);
    let collector = Collector::start(new.path(), address).await;
    agent.stop().await;
    collector.stop().await;
    let (before, after) = (stored(old.path()), stored(new.path()));
    assert_eq!([before, after].concat(), (0..2000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_found_no_room_is_said_to_be_lost() {
    let data = tempfile::tempdir().expect("a directory");
    let collector = Collector::fresh(data.path()).await;
    let (address, url) = (collector.address, collector.url());
    collector.kill();
    // Room for a batch or two of the ten.
    let agent = Agent::with_spool(&url, || Spool::in_memory(16 << 10));
    agent.publish(1_000_000..1_005_000);
    agent.wait(|status| status.entries_shed > 0).await;
    let collector = Collector::start(data.path(), address).await;
    agent
        .wait(|status| status.connected && status.batches_waiting == 0)
        .await;
    agent.publish(1_005_000..1_005_001);
    let status = agent.stop().await;
    collector.stop().await;
    let stored = stored(data.path());
    let (entries, losses): (Vec<u64>, Vec<u64>) = stored.iter().partition(|number| **number >= 1_000_000);
    assert_eq!(losses.iter().sum::<u64>(), status.entries_shed);
    assert_eq!(entries.len() as u64 + status.entries_shed, 5001);
    assert_eq!(entries.first(), Some(&1_000_000), "the oldest is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_consumer_is_told_its_drops_and_hurts_nobody() {
    let data = tempfile::tempdir().expect("a directory");
    let collector = Collector::fresh(data.path()).await;
    let (mut slow, mut quick) = (
        collector.subscribe(Filter::default()).await,
        collector.subscribe(Filter::default()).await,
    );
    let agent = Agent::start(&collector.url());
    let read = Arc::<AtomicU64>::default();
    let count = Arc::clone(&read);
    let reading = tokio::spawn(async move {
        while let Some(response) = quick.message().await.expect("goes on") {
            let came = response.entries.len() as u64 + response.dropped;
            count.fetch_add(came, Ordering::Relaxed);
        }
    });
    // Far more than fits in the windows of the connection and the queue of the slow one, which reads nothing.
    let total = 60_000;
    for round in 0..total / 4000 {
        agent.publish(round * 4000..(round + 1) * 4000);
        // No more at once than the agent's own queue holds.
        agent
            .wait(|_| read.load(Ordering::Relaxed) >= (round + 1) * 4000)
            .await;
    }
    agent.stop().await;
    let (mut seen, mut dropped) = (0, 0);
    while dropped == 0 {
        let response = timeout(PATIENCE, slow.message())
            .await
            .expect("in time")
            .expect("goes on");
        let response = response.expect("is told before the end");
        seen += response.entries.len() as u64;
        dropped += response.dropped;
    }
    let stopping = tokio::spawn(collector.stop());
    while let Ok(Some(response)) = slow.message().await {
        seen += response.entries.len() as u64;
        dropped += response.dropped;
    }
    stopping.await.expect("stops");
    assert!(dropped > 0);
    assert_eq!(seen + dropped, total);
    reading.await.expect("reads");
    assert_eq!(read.load(Ordering::Relaxed), total);
    assert_eq!(stored(data.path()).len() as u64, total);
}

/// A hand-made agent.
async fn greet(
    collector: &Collector,
    stored: u64,
) -> (mpsc::Sender<DeliverRequest>, Streaming<DeliverResponse>) {
    let (frames, stream) = mpsc::channel(8);
    let hello = Hello {
        protocol: 1,
        host: "web1".into(),
        epoch: 5,
        agent_version: "test".into(),
        compressions: Vec::new(),
    };
    frames
        .send(DeliverRequest {
            frame: Some(Frame::Hello(hello)),
        })
        .await
        .expect("sends");
    let mut client = IngestClient::new(collector.channel().await);
    let mut answers = client
        .deliver(ReceiverStream::new(stream))
        .await
        .expect("is heard")
        .into_inner();
    let welcome = answers.message().await.expect("goes on").expect("a frame").frame;
    let Some(deliver_response::Frame::Welcome(welcome)) = welcome else {
        panic!("{welcome:?}")
    };
    assert_eq!((welcome.protocol, welcome.stored), (1, stored));
    (frames, answers)
}

fn batch(sequence: u64) -> DeliverRequest {
    let loss = v1::Loss {
        count: sequence,
        ..v1::Loss::default()
    };
    let entry = v1::Entry {
        host: "web1".into(),
        body: Some(v1::entry::Body::Loss(loss)),
    };
    let batch = Batch {
        sequence,
        entries: vec![entry],
        processes: Vec::new(),
    };
    DeliverRequest {
        frame: Some(Frame::Batch(batch.encode_to_vec().into())),
    }
}

async fn ack(answers: &mut Streaming<DeliverResponse>) -> u64 {
    match answers.message().await.expect("goes on").expect("a frame").frame {
        Some(deliver_response::Frame::Ack(ack)) => ack.sequence,
        frame => panic!("{frame:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let data = tempfile::tempdir().expect("a directory");
    let collector = Collector::fresh(data.path()).await;
    let (frames, mut answers) = greet(&collector, 0).await;
    // As long as somebody else holds the database, nothing can be made durable.
    let holder = rusqlite::Connection::open(data.path().join("collector.db")).expect("opens");
    holder.execute_batch("BEGIN IMMEDIATE").expect("holds");
    frames.send(batch(1)).await.expect("sends");
    assert!(
        timeout(Duration::from_millis(300), ack(&mut answers))
            .await
            .is_err(),
        "too early"
    );
    holder.execute_batch("ROLLBACK").expect("lets go");
    assert_eq!(timeout(PATIENCE, ack(&mut answers)).await.expect("in time"), 1);
    assert_eq!(stored(data.path()), [1]);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_acknowledged_again_and_gaps_refused() {
    let data = tempfile::tempdir().expect("a directory");
    let collector = Collector::fresh(data.path()).await;
    let (frames, mut answers) = greet(&collector, 0).await;
    frames.send(batch(1)).await.expect("sends");
    assert_eq!(ack(&mut answers).await, 1);
    drop((frames, answers));

    let (frames, mut answers) = greet(&collector, 1).await;
    frames.send(batch(1)).await.expect("sends");
    assert_eq!(ack(&mut answers).await, 1);
    frames.send(batch(3)).await.expect("sends");
    let status = answers.message().await.expect_err("is refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(
        status.message(),
        "batch 3 came where 2 was due; send from there, or begin a new epoch"
    );
    assert_eq!(stored(data.path()), [1]);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_a_senseless_filter_is_told_so() {
    let data = tempfile::tempdir().expect("a directory");
    let collector = Collector::fresh(data.path()).await;
    let filter = Filter {
        signals: vec!["exce".into()],
        ..Filter::default()
    };
    let request = SubscribeRequest {
        filter: Some(filter),
        ..SubscribeRequest::default()
    };
    let status = CollectorClient::new(collector.channel().await)
        .subscribe(request)
        .await
        .expect_err("is refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status
            .message()
            .starts_with("no signal is called \"exce\"; there are exec")
    );
    collector.stop().await;
}
