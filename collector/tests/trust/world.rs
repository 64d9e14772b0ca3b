//! A collector as a process, and those who come to it.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message as _;
use sensor_proto::v1::{
    self, Batch, DeliverRequest, DeliverResponse, EnrollRequest, Hello, RenewRequest, deliver_request::Frame,
    deliver_response, ingest_client::IngestClient, trust_client::TrustClient,
};
use sensor_trust::{
    Certificate, DialError, OnConnecting, Security, Token,
    credentials::{self, Place},
    dial, request,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// What should happen has happened long before; it is only there so that a defect does not hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn wait_until<T>(what: &str, mut find: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find().await {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A running collector.
pub struct Collector {
    home: TempDir,
    process: Child,
    arguments: Vec<String>,
    listen: &'static str,
    port: u16,
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Collector {
    pub async fn start(arguments: &[&str]) -> Self {
        Self::listening("127.0.0.1", arguments).await
    }

    pub async fn listening(listen: &'static str, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let arguments: Vec<_> = arguments.iter().map(|&text| text.to_owned()).collect();
        let process = launch(&home, &arguments, listen, 0);
        let port = port(&home).await;
        Self {
            home,
            process,
            arguments,
            listen,
            port,
        }
    }

    pub async fn kill_and_restart(&mut self) {
        self.process.kill().expect("kills");
        self.process.wait().expect("ends");
        fs::remove_file(self.home.path().join("port")).expect("removes");
        self.process = launch(&self.home, &self.arguments, self.listen, self.port);
        assert_eq!(port(&self.home).await, self.port);
    }

    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).expect("a log")
    }

    pub async fn said(&self, what: &str) {
        let said = wait_until(what, async || self.log().contains(what).then_some(()));
        tokio::time::timeout(PATIENCE, said)
            .await
            .unwrap_or_else(|_| panic!("{what}: {}", self.log()));
    }

    /// What a command prints that ends well.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.attempt(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a command says that does not.
    pub fn fail(&self, arguments: &[&str]) -> String {
        let output = self.attempt(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    fn attempt(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(arguments).env("COLLECTOR_DATA", self.data());
        command.output().expect("runs")
    }

    pub fn token(&self, whom: &[&str]) -> String {
        self.run(&[&["enroll"], whom].concat())
    }
}

fn launch(home: &TempDir, arguments: &[String], listen: &str, port: u16) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(home.path().join("log"))
        .expect("a log");
    Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(["serve", "--listen", &format!("{listen}:{port}"), "--data"])
        .arg(home.path().join("data"))
        .arg("--port-file")
        .arg(home.path().join("port"))
        .args(arguments)
        .stderr(log)
        .stdout(Stdio::null())
        .spawn()
        .expect("starts")
}

async fn port(home: &TempDir) -> u16 {
    let read = async || fs::read_to_string(home.path().join("port")).ok();
    let text = wait_until("the collector to listen", read).await;
    text.rsplit(':')
        .next()
        .and_then(|port| port.trim().parse().ok())
        .expect("a port")
}

/// Somebody with a certificate.
#[derive(Debug)]
pub struct Guest {
    home: TempDir,
}

impl Guest {
    pub async fn enrolled(collector: &Collector, whom: &[&str]) -> Self {
        Self::with_token(collector, &collector.token(whom))
            .await
            .expect("enrols")
    }

    /// With a token, or what the collector said to it.
    pub async fn with_token(collector: &Collector, token: &str) -> Result<Self, String> {
        let token: Token = token.parse().expect("a token");
        let address = collector.url().parse().expect("an address");
        let channel = dial(&address, &Security::Stranger(token.authority), &silent()).await;
        let mut client = TrustClient::new(channel.map_err(|error| error.to_string())?);
        let (key, request) = request::new().expect("a key");
        let request = EnrollRequest {
            secret: token.secret.bytes().to_vec(),
            request,
        };
        let answer = client
            .enroll(request)
            .await
            .map_err(|status| status.message().to_owned())?
            .into_inner();
        Ok(Self::holding(&key, &answer.certificate, &answer.authority))
    }

    /// With credentials from elsewhere.
    pub fn holding(key: &str, certificate: &str, authority: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        credentials::store(home.path(), key, certificate, authority).expect("keeps");
        Self { home }
    }

    fn place(&self) -> Place {
        Place::Enrolled(self.home.path().to_owned())
    }

    pub fn certificate(&self) -> Certificate {
        self.place().load().expect("has one").certificate
    }

    pub async fn connect(&self, collector: &Collector) -> Result<Channel, DialError> {
        self.connect_to(&collector.url()).await
    }

    pub async fn connect_to(&self, url: &str) -> Result<Channel, DialError> {
        let security = Security::Known {
            place: self.place(),
            plain_anywhere: false,
        };
        dial(&url.parse().expect("an address"), &security, &silent()).await
    }

    pub async fn renew(&self, collector: &Collector) -> Certificate {
        self.try_renew(collector).await.expect("renews")
    }

    pub async fn try_renew(&self, collector: &Collector) -> Result<Certificate, String> {
        let channel = self.connect(collector).await.map_err(|error| error.to_string())?;
        let (key, request) = request::new().expect("a key");
        let answer = TrustClient::new(channel).renew(RenewRequest { request }).await;
        let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
        credentials::store(self.home.path(), &key, &answer.certificate, &answer.authority).expect("keeps");
        Ok(self.certificate())
    }

    pub async fn deliver(&self, collector: &Collector, host: &str) -> Result<Stream, Status> {
        let channel = self.connect(collector).await.expect("connects");
        Stream::open(channel, host).await
    }
}

pub fn silent() -> OnConnecting {
    Arc::new(|_| {})
}

/// A stream of batches.
pub struct Stream {
    frames: mpsc::Sender<DeliverRequest>,
    answers: Streaming<DeliverResponse>,
}

impl Stream {
    pub async fn open(channel: Channel, host: &str) -> Result<Self, Status> {
        let (frames, stream) = mpsc::channel(8);
        let hello = Hello {
            protocol: 1,
            host: host.to_owned(),
            epoch: 5,
            agent_version: "test".into(),
            ..Hello::default()
        };
        let hello = DeliverRequest {
            frame: Some(Frame::Hello(hello)),
        };
        frames.send(hello).await.expect("room");
        let mut answers = IngestClient::new(channel)
            .deliver(ReceiverStream::new(stream))
            .await?
            .into_inner();
        match answers.message().await?.and_then(|answer| answer.frame) {
            Some(deliver_response::Frame::Welcome(_)) => Ok(Self { frames, answers }),
            frame => panic!("{frame:?}"),
        }
    }

    pub async fn send(&self, frame: DeliverRequest) {
        self.frames.send(frame).await.expect("is taken");
    }

    /// The next acknowledgement, or how the stream ended.
    pub async fn acknowledged(&mut self) -> Result<u64, String> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message())
            .await
            .expect("in time");
        match answer
            .map_err(|status| status.message().to_owned())?
            .and_then(|answer| answer.frame)
        {
            Some(deliver_response::Frame::Ack(ack)) => Ok(ack.sequence),
            frame => Err(format!("{frame:?}")),
        }
    }
}

pub fn batch(sequence: u64) -> DeliverRequest {
    let loss = v1::Loss {
        count: sequence,
        ..v1::Loss::default()
    };
    batch_of(sequence, v1::entry::Body::Loss(loss))
}

/// With one entry.
pub fn batch_of(sequence: u64, body: v1::entry::Body) -> DeliverRequest {
    let entry = v1::Entry {
        host: String::new(),
        body: Some(body),
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
