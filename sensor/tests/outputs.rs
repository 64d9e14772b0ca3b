//! Each way out to a real receiver on loopback: a file, an OTLP service, a TCP and a TLS listener, an HTTP server.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{Response, StatusCode, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    common::v1::any_value::Value as AnyValue,
};
use sensor::{
    config::Config,
    export::{Converter, Entry, Hub, Loss, OutputMonitor, Outputs, Users},
    time::WallTime,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, BufReader},
    net::TcpListener,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;

/// It is only there so that a defect does not hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// The agent's end.
struct Agent {
    hub: Hub,
    outputs: Outputs,
    monitor: OutputMonitor,
}

impl Agent {
    /// With what `[[export.outputs]]` says.
    fn start(outputs: &str) -> Self {
        let config = Config::parse(outputs, Path::new("sensor.toml")).expect("a configuration");
        let hub = Hub::default();
        let converter = Converter::new("web1", Arc::new(Users::default()));
        let outputs =
            Outputs::start(&config.export.outputs, &hub, &converter, 7, &on_connecting()).expect("start");
        let monitor = outputs.monitor();
        Self {
            hub,
            outputs,
            monitor,
        }
    }

    fn publish(&self, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| _ = self.hub.publish(&[entry(number)]));
    }

    async fn wait(&self, what: impl Fn(&sensor_proto::v1::OutputStatus) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !what(&self.monitor.status()[0]) {
            assert!(Instant::now() < until, "{:?}", self.monitor.status());
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) -> sensor_proto::v1::OutputStatus {
        self.hub.close();
        timeout(PATIENCE, self.outputs.finish()).await.expect("ends");
        self.monitor.status().remove(0)
    }
}

fn on_connecting() -> sensor::export::uplink::OnConnecting {
    Arc::new(|link| assert_ne!(link.local_port, 0, "is known before it is used"))
}

/// An entry that is known by its number.
fn entry(number: u64) -> Entry {
    Entry::Loss(Loss {
        stage: "ring",
        signal: None,
        count: number,
        reason: "",
        from: WallTime(0),
        to: WallTime(1_700_000_000_000_000_000),
    })
}

fn number(line: &str) -> u64 {
    let json: serde_json::Value = serde_json::from_str(line).expect("is JSON");
    json["loss"]["count"].as_u64().expect("a number")
}

fn lines(path: &Path) -> Vec<u64> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(number)
        .collect()
}

#[tokio::test]
async fn a_file_is_rotated_and_only_so_many_are_kept() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("log/events.json");
    let agent = Agent::start(&format!(
        "[[export.outputs]]\nkind = \"file\"\npath = {path:?}\nmax_bytes = 4096\nmax_files = 3\n"
    ));
    for round in 0..10 {
        agent.publish(round * 10..round * 10 + 10);
        agent.wait(|status| status.delivered == round * 10 + 10).await;
    }
    let status = agent.stop().await;
    assert_eq!((status.delivered, status.lost, &*status.last_error), (100, 0, ""));
    let named = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let kept = [named(".2"), named(".1"), path.clone()];
    for file in &kept {
        let about = fs::metadata(file).expect("is there");
        assert!(
            about.len() <= 4096 && about.permissions().mode() & 0o777 == 0o600,
            "{}",
            file.display()
        );
    }
    assert!(!named(".3").exists());
    let numbers: Vec<u64> = kept.iter().flat_map(|file| lines(file)).collect();
    assert_eq!(
        numbers,
        (100 - numbers.len() as u64..100).collect::<Vec<_>>(),
        "the latest, in order"
    );
    assert!(numbers.len() > 20);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_costs_only_its_own() {
    let home = tempfile::tempdir().expect("a directory");
    let (good, bad) = (home.path().join("good.json"), home.path().join("folder"));
    fs::create_dir(&bad).expect("is made");
    let agent = Agent::start(&format!(
        "[[export.outputs]]\nkind = \"file\"\npath = {good:?}\n[[export.outputs]]\nkind = \"file\"\npath = {bad:?}\nqueue = 8\n"
    ));
    let monitor = agent.monitor.clone();
    for round in 0..10 {
        agent.publish(round * 300..round * 300 + 300);
        agent.wait(|status| status.delivered == round * 300 + 300).await;
    }
    agent.stop().await;
    let [good_status, bad_status] = monitor.status().try_into().expect("two");
    assert_eq!((good_status.delivered, good_status.lost), (3_000, 0));
    assert!(bad_status.last_error.contains("directory"), "{bad_status:?}");
    assert_eq!(bad_status.delivered, 0);
    assert!(bad_status.lost >= 3_000, "{bad_status:?}");
    assert_eq!(lines(&good), (0..3_000).collect::<Vec<_>>());
}

/// Reads messages with their lengths before them.
async fn read_syslog(stream: impl AsyncRead + Unpin, messages: mpsc::UnboundedSender<String>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = String::new();
        loop {
            match stream.read_u8().await {
                Ok(b' ') => break,
                Ok(digit) => length.push(char::from(digit)),
                Err(_) => return,
            }
        }
        let mut message = vec![0; length.parse().expect("a length")];
        stream.read_exact(&mut message).await.expect("is whole");
        messages
            .send(String::from_utf8(message).expect("is text"))
            .expect("is awaited");
    }
}

async fn expect_syslog(messages: &mut mpsc::UnboundedReceiver<String>, numbers: std::ops::Range<u64>) {
    for expected in numbers {
        let message = timeout(PATIENCE, messages.recv())
            .await
            .expect("in time")
            .expect("a message");
        let (head, text) = message.split_once(" - ").expect("no structured data");
        let wanted = format!(
            "<108>1 2023-11-14T22:13:20.000Z web1 sensor {} loss",
            std::process::id()
        );
        assert_eq!((head, number(text)), (&*wanted, expected));
    }
}

#[tokio::test]
async fn syslog_over_tcp_goes_on_with_the_next_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("an address");
    let agent = Agent::start(&format!(
        "[[export.outputs]]\nkind = \"syslog\"\nurl = \"tcp://{address}\"\n"
    ));
    let (sender, mut messages) = mpsc::unbounded_channel();
    for round in 0..3 {
        agent.publish(round * 500..round * 500 + 500);
        let (stream, _) = listener.accept().await.expect("accepts");
        let reading = tokio::spawn(read_syslog(stream, sender.clone()));
        expect_syslog(&mut messages, round * 500..round * 500 + 500).await;
        agent.wait(|status| status.delivered == round * 500 + 500).await;
        reading.abort();
        let _ = reading.await;
    }
    assert_eq!(agent.stop().await.lost, 0);
}

/// A certificate for `localhost`, signed by itself, in a file as PEM; and what a server needs of it.
fn certificate(home: &Path) -> (PathBuf, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("is made");
    let path = home.join("ca.pem");
    fs::write(&path, made.cert.pem()).expect("writes");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("a certificate");
    (path, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn syslog_over_tls_goes_to_whom_it_knows() {
    let home = tempfile::tempdir().expect("a directory");
    let (ca, acceptor) = certificate(home.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = listener.local_addr().expect("an address").port();
    let agent = Agent::start(&format!(
        "[[export.outputs]]\nkind = \"syslog\"\nurl = \"tls://localhost:{port}\"\nca_file = {ca:?}\n"
    ));
    agent.publish(0..100);
    let (stream, _) = listener.accept().await.expect("accepts");
    let stream = acceptor.accept(stream).await.expect("speaks TLS");
    let (sender, mut messages) = mpsc::unbounded_channel();
    tokio::spawn(read_syslog(stream, sender));
    expect_syslog(&mut messages, 0..100).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_receiver_that_nobody_vouches_for_gets_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let other = tempfile::tempdir().expect("a directory");
    let ((ca, _), (_, acceptor)) = (certificate(home.path()), certificate(other.path()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = listener.local_addr().expect("an address").port();
    let agent = Agent::start(&format!(
        "[[export.outputs]]\nkind = \"syslog\"\nurl = \"tls://localhost:{port}\"\nca_file = {ca:?}\n"
    ));
    agent.publish(0..1);
    let (stream, _) = listener.accept().await.expect("accepts");
    assert!(acceptor.accept(stream).await.is_err());
    agent
        .wait(|status| status.last_error.contains("certificate"))
        .await;
    assert_eq!(agent.monitor.status()[0].delivered, 0);
}

#[derive(Clone)]
struct Logs(mpsc::UnboundedSender<ExportLogsServiceRequest>, Arc<AtomicUsize>);

#[tonic::async_trait]
impl LogsService for Logs {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        // The first one is not taken: it comes again.
        if self.1.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(tonic::Status::unavailable("not yet"));
        }
        self.0.send(request.into_inner()).expect("is awaited");
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tokio::test]
async fn opentelemetry_gets_records_and_again_what_it_did_not_take() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("an address");
    let (sender, mut requests) = mpsc::unbounded_channel();
    let service = LogsServiceServer::new(Logs(sender, Arc::default()));
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    let agent = Agent::start(&format!(
        "[[export.outputs]]\nkind = \"otlp\"\nurl = \"http://{address}\"\n"
    ));
    agent.publish(0..600);
    let mut numbers = Vec::new();
    while numbers.len() < 600 {
        let request = timeout(PATIENCE, requests.recv())
            .await
            .expect("in time")
            .expect("a request");
        let logs = &request.resource_logs[0];
        let resource = logs.resource.as_ref().expect("a resource");
        assert!(
            resource
                .attributes
                .iter()
                .any(|attribute| attribute.key == "host.name")
        );
        for record in &logs.scope_logs[0].log_records {
            assert_eq!(
                (record.time_unix_nano, &*record.event_name),
                (1_700_000_000_000_000_000, "loss")
            );
            let Some(AnyValue::StringValue(line)) = record.body.as_ref().and_then(|body| body.value.as_ref())
            else {
                panic!("a text");
            };
            numbers.push(number(line));
        }
    }
    assert_eq!(numbers, (0..600).collect::<Vec<_>>());
    let status = agent.stop().await;
    assert_eq!((status.delivered, status.lost), (600, 0));
}

/// A request as it came: its headers and its body.
type Posted = (hyper::HeaderMap, String);

/// Answers each request with the next of `answers`, the last one for ever.
async fn serve_http(listener: TcpListener, answers: &'static [u16], got: Arc<Mutex<Vec<Posted>>>) {
    let count = Arc::<AtomicUsize>::default();
    while let Ok((stream, _)) = listener.accept().await {
        let (got, count) = (Arc::clone(&got), Arc::clone(&count));
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let (got, count) = (Arc::clone(&got), Arc::clone(&count));
            async move {
                let (head, body) = request.into_parts();
                let body = http_body_util::BodyExt::collect(body).await?.to_bytes();
                let text = String::from_utf8_lossy(&body).into_owned();
                assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/hook"));
                got.lock().expect("whole").push((head.headers, text));
                let at = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
                let mut response = Response::new(http_body_util::Full::new(Bytes::from_static(b"ok")));
                *response.status_mut() = StatusCode::from_u16(answers[at]).expect("a status");
                Ok::<_, hyper::Error>(response)
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

#[tokio::test]
async fn a_webhook_is_told_signed_and_again_until_it_takes_it() {
    let home = tempfile::tempdir().expect("a directory");
    let key = home.path().join("key");
    fs::write(&key, "0123456789abcdef0123456789abcdef\n").expect("writes");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("is ours");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("an address");
    let got = Arc::<Mutex<Vec<Posted>>>::default();
    tokio::spawn(serve_http(listener, &[503, 429, 200, 400, 200], Arc::clone(&got)));
    let agent = Agent::start(&format!(
        "[[export.outputs]]\nkind = \"webhook\"\nurl = \"http://{address}/hook\"\nkey_file = {key:?}\n"
    ));
    agent.publish(0..3);
    agent.wait(|status| status.delivered + status.refused == 3).await;
    let status = agent.stop().await;
    assert_eq!((status.delivered, status.refused, status.lost), (2, 1, 0));
    let got = got.lock().expect("whole");
    let numbers: Vec<u64> = got.iter().map(|(_, body)| number(body)).collect();
    assert_eq!(numbers, [0, 0, 0, 1, 2], "tried again, taken, refused, taken");
    for (headers, body) in got.iter() {
        let text = |name: &str| headers[name].to_str().expect("a text").to_owned();
        let signed = format!("{}.{body}", text("x-sensor-timestamp"));
        let mut mac =
            <hmac::Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(b"0123456789abcdef0123456789abcdef")
                .expect("a key");
        hmac::Mac::update(&mut mac, signed.as_bytes());
        let signature = sensor::hex::hex(&hmac::Mac::finalize(mac).into_bytes());
        assert_eq!(text("x-sensor-signature"), format!("sha256={signature}"));
        assert_eq!(text("content-type"), "application/json");
    }
    assert_eq!(got[0].0["x-sensor-delivery"], got[2].0["x-sensor-delivery"]);
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let key = home.path().join("key");
    fs::write(&key, "0123456789abcdef").expect("writes");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("is ours");
    let text = format!(
        "[[export.outputs]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nkey_file = {key:?}\n"
    );
    let config = Config::parse(&text, Path::new("sensor.toml")).expect("a configuration");
    let converter = Converter::new("web1", Arc::new(Users::default()));
    let started = Outputs::start(
        &config.export.outputs,
        &Hub::default(),
        &converter,
        7,
        &on_connecting(),
    );
    let error = started.expect_err("is refused").to_string();
    assert!(
        error.contains("others can read it") && error.contains("chmod 600"),
        "{error}"
    );
}
