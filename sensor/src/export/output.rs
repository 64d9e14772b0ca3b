//! Other ways out than the collector: files, and other people's protocols.
//!
//! Each is by itself: it has its own queue from the hub, its own count of what was lost and its own state, and waits for its own receiver. What does
//! not fit into the queue is lost and said so, in the output itself. Nothing is kept on disk for them: what must not be lost goes to the collector.

mod dial;
mod file;
mod otlp;
mod syslog;
mod tls;
mod webhook;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sensor_proto::{fanout::Reader, v1};
use sensor_trust::causes;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::{file::FileSink, otlp::OtlpSink, syslog::SyslogSink, webhook::WebhookSink};
use super::{Converter, Entry, Hub, Loss, backoff::Backoff, format::Format, uplink::OnConnecting};
use crate::{
    config::{Output, OutputKind},
    time::WallTime,
};

/// Entries that are written at once.
const TURN: usize = 256;

/// How long a receiver may take for them.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the agent's end may be held up by a receiver.
const FLUSH: Duration = Duration::from_secs(1);

/// Why an output cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Not an address.
    #[error("\"{url}\" is not an address to write to: {problem}; see docs/delivery.md")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of keys or certificates cannot be used.
    #[error("cannot use {}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Why a receiver did not take something.
#[derive(Debug, thiserror::Error)]
enum SinkError {
    #[error("{}", causes(_0))]
    Io(#[from] io::Error),
    #[error("{}", causes(_0))]
    Connect(#[from] tonic::transport::Error),
    #[error("the receiver says: {}", _0.message())]
    Status(#[from] tonic::Status),
    #[error("{}", causes(_0))]
    Http(#[from] hyper::Error),
    #[error("the receiver answered {0}")]
    Answer(hyper::StatusCode),
    #[error("it was not taken within {PATIENCE:?}")]
    Slow,
}

/// An entry in the words of a format.
struct Line {
    entry: v1::Entry,
    text: String,
}

/// What came of sending some lines.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    taken: usize,
    /// They would never be taken.
    refused: usize,
}

/// Whoever takes lines.
enum Sink {
    File(FileSink),
    Otlp(Box<OtlpSink>),
    Syslog(SyslogSink),
    Webhook(WebhookSink),
}

impl Sink {
    fn new(
        config: &Output,
        converter: &Converter,
        on_connecting: &OnConnecting,
    ) -> Result<Self, OutputError> {
        Ok(match config.kind {
            OutputKind::File => Self::File(FileSink::new(&config.path, config.max_bytes, config.max_files)),
            OutputKind::Otlp => Self::Otlp(Box::new(OtlpSink::new(config, converter.host(), on_connecting)?)),
            OutputKind::Syslog => Self::Syslog(SyslogSink::new(config, on_connecting)?),
            OutputKind::Webhook => Self::Webhook(WebhookSink::new(config, on_connecting)?),
        })
    }

    /// Sends some of `lines`, at least one, the first ones.
    async fn send(&mut self, lines: &[Line]) -> Result<Sent, SinkError> {
        match self {
            Self::File(sink) => sink.send(lines).await,
            Self::Otlp(sink) => sink.send(lines).await,
            Self::Syslog(sink) => sink.send(lines).await,
            Self::Webhook(sink) => sink.send(lines).await,
        }
    }
}

/// All other ways out.
#[derive(Debug, Default)]
pub struct Outputs {
    running: Vec<JoinHandle<()>>,
    states: Vec<Arc<State>>,
}

/// Reads how they are.
#[derive(Clone, Debug, Default)]
pub struct OutputMonitor(Vec<Arc<State>>);

#[derive(Debug)]
struct State(Mutex<v1::OutputStatus>);

impl State {
    fn lock(&self) -> MutexGuard<'_, v1::OutputStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outputs {
    /// Starts them; they get what is published from now on. `on_connecting` is told of each connection before it is attempted.
    ///
    /// # Errors
    /// If an address, a key or a certificate cannot be used. What fails later is logged and tried again.
    pub fn start(
        configs: &[Output],
        hub: &Hub,
        converter: &Converter,
        seed: u64,
        on_connecting: &OnConnecting,
    ) -> Result<Self, OutputError> {
        let sinks = configs
            .iter()
            .map(|config| Sink::new(config, converter, on_connecting));
        let sinks: Vec<_> = sinks.collect::<Result<_, _>>()?;
        let mut outputs = Self::default();
        for (config, sink) in configs.iter().zip(sinks) {
            let state = Arc::new(State(Mutex::new(v1::OutputStatus {
                kind: config.kind.name().to_owned(),
                target: config.target(),
                format: config.format.name().to_owned(),
                ..v1::OutputStatus::default()
            })));
            let worker = Worker {
                converter: converter.clone(),
                format: config.format,
                sink,
                backoff: Backoff::new(seed ^ outputs.states.len() as u64),
                state: Arc::clone(&state),
                hub: hub.clone(),
            };
            outputs.states.push(state);
            let reader = hub.output(config.queue, config.choice());
            outputs.running.push(tokio::spawn(worker.run(reader)));
        }
        Ok(outputs)
    }

    /// Reads how they are, while they run and after.
    #[must_use]
    pub fn monitor(&self) -> OutputMonitor {
        OutputMonitor(self.states.clone())
    }

    /// Waits until each has written what it has, or the time for it is over. The hub must be closed.
    pub async fn finish(self) {
        for running in self.running {
            if running.await.is_err() {
                tracing::error!("an output has ended in a panic");
            }
        }
    }
}

impl OutputMonitor {
    /// How each of them is, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<v1::OutputStatus> {
        self.0.iter().map(|state| state.lock().clone()).collect()
    }
}

/// Writes what is published to one of them.
struct Worker {
    converter: Converter,
    format: Format,
    sink: Sink,
    backoff: Backoff,
    state: Arc<State>,
    hub: Hub,
}

impl Worker {
    async fn run(mut self, mut reader: Reader<Entry>) {
        let mut entries = Vec::with_capacity(TURN);
        let hub = self.hub.clone();
        let is_over = async {
            hub.closed().await;
            sleep(FLUSH).await;
        };
        tokio::pin!(is_over);
        let mut is_late = false;
        while reader.next(&mut entries, TURN).await > 0 {
            let lines = self.lines(&mut entries, reader.take_dropped());
            if is_late {
                self.lose(lines.len() as u64);
                continue;
            }
            let mut done = 0;
            tokio::select! {
                () = self.deliver(&lines, &mut done) => {}
                () = &mut is_over => is_late = true,
            }
            self.lose((lines.len() - done) as u64);
        }
    }

    /// What came, and what did not, in the words of the format.
    fn lines(&mut self, entries: &mut Vec<Entry>, dropped: u64) -> Vec<Line> {
        if dropped > 0 {
            self.lose(dropped);
            let now = WallTime::now();
            entries.push(Entry::Loss(Loss {
                stage: "output",
                signal: None,
                count: dropped,
                reason: "the receiver was slower than this host, or away, and there was no room to wait",
                from: now,
                to: now,
            }));
        }
        let line = |entry: Entry| {
            let entry = self.converter.entry(&entry);
            let text = self.format.line(&entry);
            Line { entry, text }
        };
        entries.drain(..).map(line).collect()
    }

    /// Until all are taken or refused. `done` is how many are, at any point at which this is given up.
    async fn deliver(&mut self, lines: &[Line], done: &mut usize) {
        while *done < lines.len() {
            let sent = timeout(PATIENCE, self.sink.send(&lines[*done..])).await;
            match sent.unwrap_or(Err(SinkError::Slow)) {
                Ok(Sent { taken, refused }) => {
                    *done += taken + refused;
                    self.backoff.reset();
                    self.took(taken as u64, refused as u64);
                }
                Err(error) => {
                    self.note(&error.to_string());
                    sleep(self.backoff.next()).await;
                }
            }
        }
    }

    fn took(&self, taken: u64, refused: u64) {
        let mut state = self.state.lock();
        state.delivered += taken;
        state.refused += refused;
        if taken > 0 {
            state.last_error.clear();
        }
    }

    fn note(&self, message: &str) {
        let mut state = self.state.lock();
        if state.last_error != message {
            tracing::warn!(
                "cannot write to the {} {}: {message}; trying again",
                state.kind,
                state.target
            );
            message.clone_into(&mut state.last_error);
        }
    }

    fn lose(&self, count: u64) {
        self.state.lock().lost += count;
    }
}
