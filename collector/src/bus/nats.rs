//! The bus as a stream of NATS JetStream.
//!
//! - **Subjects** are `sensor.batches.HOST.EPOCH`, one for each numbering: so the server itself knows the last batch of each, and which one a publisher
//!   believes that to be (`Nats-Expected-Last-Subject-Sequence`). In HOST everything but letters, digits and `-` is `_` and two digits of hexadecimal;
//!   EPOCH has sixteen.
//! - **Headers**: `Sensor-Host`, `Sensor-Epoch`, `Sensor-Sequence` say which batch it is; `Nats-Msg-Id` has the same, by which the server knows a batch that
//!   is offered twice within two minutes.
//! - **A work queue**: what is settled goes. There is no limit of age, by which the server would take what was acknowledged and nobody has stored; there is one of
//!   bytes, and what is over it is refused (`discard: new`), so that agents keep it.
//! - **One durable consumer**, `storage`, from which all who store pull; what is not settled, or said to be held, for ten seconds goes to another.
//! - The last batch of a subject is asked of the leader of the stream, not of the nearest replica (`direct get`), which may be behind. A leader that was just cut
//!   off from the others does not know it for some seconds: an agent that comes in these by way of it may be told less than it was acknowledged, and
//!   begins another numbering for what it has.

use std::{path::PathBuf, time::Duration};

use async_nats::{
    ConnectOptions, HeaderMap, ServerAddr,
    connection::State,
    jetstream::{
        self, AckKind, Context,
        consumer::{AckPolicy, Consumer, pull},
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::{self, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, StorageType},
    },
};
use async_trait::async_trait;
use prost::bytes::Bytes;
use sensor_proto::MESSAGE_BYTES_MAX;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_stream::StreamExt as _;

use super::{Bus, BusError, Last, Mark, Parcel, Pulled, Receipt};
use crate::session::StreamId;

const SUBJECTS: &str = "sensor.batches";
const CONSUMER: &str = "storage";
const HOST: &str = "Sensor-Host";
const EPOCH: &str = "Sensor-Epoch";
const SEQUENCE: &str = "Sensor-Sequence";

/// How long the server may take for one answer.
const ANSWER: Duration = Duration::from_secs(3);

/// How long a server may take to be connected to at first.
const CONNECT: Duration = Duration::from_secs(10);

/// Between two attempts to begin.
const PAUSE: Duration = Duration::from_millis(500);

/// What is pulled and neither settled nor held for so long is given to another.
const HELD_FOR: Duration = Duration::from_secs(10);

/// Messages that all who store may have pulled and not settled, together.
const PULLED: i64 = 65_536;

/// Within this time the server itself knows a batch that is offered twice.
const REMEMBERED: Duration = Duration::from_secs(120);

/// Which bus, and who one is there.
#[derive(Clone, Debug)]
pub struct Config {
    /// `nats://` or `tls://` URLs of its servers, with commas between them; a user and password may be in them.
    pub urls: String,
    /// A file of credentials, as `nsc` writes it.
    pub credentials: Option<PathBuf>,
    /// Certificates of the authority of its servers, PEM, beside those that the host trusts.
    pub authority: Option<PathBuf>,
    /// Certificate and key to show, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Name of the stream; made where it is missing.
    pub stream: String,
    /// Copies of each message, where the stream is made.
    pub replicas: usize,
    /// Bytes that may wait, where the stream is made.
    pub bytes: u64,
}

/// A stream of JetStream. Connects again by itself.
pub struct Nats {
    context: Context,
    stream: stream::Stream,
    consumer: Consumer<pull::Config>,
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats").finish_non_exhaustive()
    }
}

impl Nats {
    /// Connects, and makes stream and consumer where they are missing.
    ///
    /// # Errors
    /// If no server answers or lets one in, or the stream there is another one.
    pub async fn connect(config: &Config) -> Result<Self, BusError> {
        let unusable = |cause: String| BusError::Unusable {
            bus: harmless(&config.urls),
            cause,
        };
        let client = client(config).await.map_err(unusable)?;
        let allowed = client.server_info().max_payload;
        if allowed < MESSAGE_BYTES_MAX {
            tracing::warn!(
                "the bus takes messages of {allowed} bytes; a batch that is longer stays with its agent, and so does all behind it: set `max_payload: 8MB` there"
            );
        }
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER);
        let until = Instant::now() + CONNECT;
        loop {
            // Servers that start together choose a leader first.
            match open(&context, config).await {
                Ok((stream, consumer)) => {
                    check(&stream.cached_info().config).map_err(unusable)?;
                    return Ok(Self {
                        context,
                        stream,
                        consumer,
                    });
                }
                Err(cause) if Instant::now() > until => return Err(unusable(cause)),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

async fn open(
    context: &Context,
    config: &Config,
) -> Result<(stream::Stream, Consumer<pull::Config>), String> {
    let name = &config.stream;
    let stream = context.get_or_create_stream(stream_config(config)).await;
    let stream = stream.map_err(|error| {
        format!(
            "no stream {name}: {error}; see that JetStream is on, has room for --bus-gib, and servers for --bus-replicas"
        )
    })?;
    let consumer = stream.create_consumer(consumer_config()).await;
    let consumer = consumer.map_err(|error| format!("no consumer {CONSUMER} of stream {name}: {error}"))?;
    Ok((stream, consumer))
}

async fn client(config: &Config) -> Result<async_nats::Client, String> {
    let mut options = ConnectOptions::new()
        .name("sensor-collector")
        .connection_timeout(ANSWER)
        .reconnect_delay_callback(|attempts| Duration::from_millis(100 * attempts.min(20) as u64))
        .event_callback(|event| async move { tracing::info!("bus: {event}") });
    if let Some(file) = &config.credentials {
        let read = options.credentials_file(file).await;
        options = read.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    }
    if let Some(file) = &config.authority {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((certificate, key)) = &config.identity {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let urls = config.urls.split(',').map(str::parse::<ServerAddr>);
    let urls: Vec<_> = urls
        .collect::<Result<_, _>>()
        .map_err(|error| format!("that is no URL of a server ({error}); such as nats://10.0.0.5:4222"))?;
    let hint = "see that a server is there and that this host may reach it";
    match timeout(CONNECT, options.connect(urls)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(format!("cannot connect: {error}; {hint}")),
        Err(_) => Err(format!("no connection within {CONNECT:?}; {hint}")),
    }
}

/// URLs without the passwords in them.
fn harmless(urls: &str) -> String {
    let parts = urls.split(',').map(|url| match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or_default()),
        None => url.rsplit('@').next().unwrap_or_default().to_owned(),
    });
    parts.collect::<Vec<_>>().join(",")
}

fn stream_config(config: &Config) -> stream::Config {
    stream::Config {
        name: config.stream.clone(),
        description: Some("Batches of Sensor's agents on their way to storage".to_owned()),
        subjects: vec![format!("{SUBJECTS}.>")],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_bytes: i64::try_from(config.bytes).unwrap_or(i64::MAX),
        num_replicas: config.replicas,
        duplicate_window: REMEMBERED,
        ..stream::Config::default()
    }
}

/// A stream that somebody else made may lose what was acknowledged.
fn check(found: &stream::Config) -> Result<(), String> {
    let wrong = if found.retention != RetentionPolicy::WorkQueue {
        "does not keep messages until they are settled (retention: workqueue)"
    } else if found.discard != DiscardPolicy::New {
        "drops what was acknowledged when it is full, where it should refuse (discard: new)"
    } else if found.max_age != Duration::ZERO {
        "drops what was acknowledged when it is old (max_age: 0 is right)"
    } else if found.storage != StorageType::File {
        "keeps messages in memory (storage: file is right)"
    } else {
        return Ok(());
    };
    Err(format!(
        "stream {} {wrong}; change it, or name another with --bus-stream",
        found.name
    ))
}

fn consumer_config() -> pull::Config {
    pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        description: Some("Those who store".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: HELD_FOR,
        max_ack_pending: PULLED,
        ..pull::Config::default()
    }
}

#[async_trait]
impl Bus for Nats {
    async fn last(&self, stream: &StreamId) -> Result<Option<Last>, BusError> {
        let subject = subject(stream);
        let asked = self.stream.get_last_raw_message_by_subject(&subject);
        let found = match timeout(ANSWER, asked).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                return Ok(None);
            }
            Ok(Err(error)) => return Err(BusError::Unreachable(error.to_string())),
            Err(late) => return Err(BusError::Unreachable(late.to_string())),
        };
        let sequence = number(&found.headers, SEQUENCE, 10)
            .ok_or_else(|| BusError::Refused(format!("message {} is none of Sensor's", found.sequence)))?;
        Ok(Some(Last {
            sequence,
            mark: Mark(found.sequence),
        }))
    }

    async fn publish(&self, parcel: &Parcel, after: Mark) -> Result<Mark, BusError> {
        let Parcel {
            stream: StreamId { host, epoch },
            sequence,
            body,
        } = parcel;
        let message = PublishMessage::build()
            .payload(body.clone())
            .expected_last_subject_sequence(after.0)
            .message_id(format!("{host}/{epoch:016x}/{sequence}"))
            .header(HOST, host.as_str())
            .header(EPOCH, format!("{epoch:016x}"))
            .header(SEQUENCE, sequence.to_string());
        let sent = async {
            self.context
                .send_publish(subject(&parcel.stream), message)
                .await?
                .await
        };
        match sent.await {
            Ok(ack) => Ok(Mark(ack.sequence)),
            Err(error) => Err(self.failure(&error, body.len())),
        }
    }

    async fn pull(&self, most: usize, within: Duration) -> Result<Vec<Pulled>, BusError> {
        let until = Instant::now() + within + ANSWER;
        let unreachable = |error: &dyn std::fmt::Display| BusError::Unreachable(error.to_string());
        let asked = self.consumer.batch().max_messages(most).expires(within);
        let mut messages = match timeout_at(until, asked.messages()).await {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => return Err(unreachable(&error)),
            Err(late) => return Err(unreachable(&late)),
        };
        let mut pulled = Vec::new();
        loop {
            match timeout_at(until, messages.next()).await {
                Ok(Some(Ok(message))) => pulled.push(received(message)),
                Ok(None) => return Ok(pulled),
                // What has come, has come.
                Ok(Some(Err(_))) | Err(_) if !pulled.is_empty() => return Ok(pulled),
                Ok(Some(Err(error))) => return Err(unreachable(&error)),
                Err(late) => return Err(unreachable(&late)),
            }
        }
    }

    async fn waiting(&self) -> Result<u64, BusError> {
        let state = self.context.client().connection_state();
        if state != State::Connected {
            return Err(BusError::Unreachable(format!("the connection is {state}")));
        }
        let info = timeout(ANSWER, self.stream.get_info()).await;
        match info {
            Ok(Ok(info)) => Ok(info.state.messages),
            Ok(Err(error)) => Err(BusError::Unreachable(error.to_string())),
            Err(late) => Err(BusError::Unreachable(late.to_string())),
        }
    }
}

impl Nats {
    fn failure(&self, error: &PublishError, bytes: usize) -> BusError {
        match error.kind() {
            PublishErrorKind::WrongLastSequence => BusError::Overtaken,
            PublishErrorKind::MaxPayloadExceeded => BusError::Long {
                bytes,
                allowed: self.context.client().server_info().max_payload,
            },
            // Whatever the server says of the batch itself: no room, no right.
            PublishErrorKind::Other if is_refusal(error) => BusError::Refused(causes(error)),
            _ => BusError::Unreachable(causes(error)),
        }
    }
}

/// Whether the server has judged; 503 is that it could not, as while its servers choose a leader.
fn is_refusal(error: &PublishError) -> bool {
    let said = std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
    said.is_some_and(|said| said.code() != 503 || said.to_string().contains("maximum"))
}

fn causes(error: &PublishError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn received(message: jetstream::Message) -> Pulled {
    let (arrived_ns, again) = match message.info() {
        Ok(info) => (
            i64::try_from(info.published.unix_timestamp_nanos()).unwrap_or_default(),
            info.delivered > 1,
        ),
        Err(_) => (0, false),
    };
    let (message, acker) = message.split();
    Pulled {
        parcel: parcel(message.headers.as_ref(), &message.payload),
        arrived_ns,
        again,
        receipt: Box::new(Acker(acker)),
    }
}

fn parcel(headers: Option<&HeaderMap>, body: &Bytes) -> Result<Parcel, (String, Bytes)> {
    let read = || {
        let headers = headers?;
        Some(Parcel {
            stream: StreamId {
                host: headers.get(HOST)?.as_str().to_owned(),
                epoch: number(headers, EPOCH, 16)?,
            },
            sequence: number(headers, SEQUENCE, 10)?,
            body: body.clone(),
        })
    };
    read().ok_or_else(|| {
        let cause = format!("it has no headers {HOST}, {EPOCH} and {SEQUENCE} that say which batch it is");
        (cause, body.clone())
    })
}

fn number(headers: &HeaderMap, name: &str, radix: u32) -> Option<u64> {
    u64::from_str_radix(headers.get(name)?.as_str(), radix).ok()
}

fn subject(stream: &StreamId) -> String {
    let mut subject = format!("{SUBJECTS}.");
    for byte in stream.host.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => subject.push(char::from(byte)),
            other => subject.push_str(&format!("_{other:02x}")),
        }
    }
    subject.push_str(&format!(".{:016x}", stream.epoch));
    subject
}

struct Acker(jetstream::message::Acker);

impl std::fmt::Debug for Acker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acker").finish_non_exhaustive()
    }
}

impl Acker {
    async fn say(&self, kind: AckKind) -> Result<(), BusError> {
        let said = self.0.ack_with(kind).await;
        said.map_err(|error| BusError::Unreachable(error.to_string()))
    }
}

#[async_trait]
impl Receipt for Acker {
    async fn done(&self) -> Result<(), BusError> {
        self.say(AckKind::Ack).await
    }

    async fn hold(&self) -> Result<(), BusError> {
        self.say(AckKind::Progress).await
    }

    async fn give_back(&self) -> Result<(), BusError> {
        self.say(AckKind::Nak(None)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_of_a_host_is_one_token() {
        let subject_of = |host: &str| {
            subject(&StreamId {
                host: host.to_owned(),
                epoch: 7,
            })
        };
        assert_eq!(subject_of("web-1"), "sensor.batches.web-1.0000000000000007");
        assert_eq!(
            subject_of("a.b *>_ü"),
            "sensor.batches.a_2eb_20_2a_3e_5f_c3_bc.0000000000000007"
        );
    }

    #[test]
    fn passwords_are_not_said() {
        assert_eq!(harmless("nats://me:secret@a:1,tls://b:2"), "nats://a:1,tls://b:2");
        assert_eq!(harmless("token@a:1"), "a:1");
    }

    #[test]
    fn a_message_says_which_batch_it_is_or_is_none() {
        let body = Bytes::from_static(b"x");
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "web1");
        headers.insert(EPOCH, "ffffffffffffffff");
        let error = parcel(Some(&headers), &body).expect_err("has no number");
        assert!(error.0.contains(SEQUENCE), "{}", error.0);
        headers.insert(SEQUENCE, "3");
        let parcel = parcel(Some(&headers), &body).expect("is one");
        assert_eq!((parcel.stream.epoch, parcel.sequence), (u64::MAX, 3));
    }

    #[test]
    fn a_stream_that_may_lose_something_is_not_used() {
        let ours = stream_config(&Config {
            urls: String::new(),
            credentials: None,
            authority: None,
            identity: None,
            stream: "SENSOR".to_owned(),
            replicas: 3,
            bytes: 1 << 30,
        });
        assert_eq!(check(&ours), Ok(()));
        let wrong: [fn(&mut stream::Config); 4] = [
            |config| config.retention = RetentionPolicy::Limits,
            |config| config.discard = DiscardPolicy::Old,
            |config| config.max_age = Duration::from_secs(1),
            |config| config.storage = StorageType::Memory,
        ];
        for change in wrong {
            let mut theirs = ours.clone();
            change(&mut theirs);
            check(&theirs).expect_err("is not used");
        }
    }
}
