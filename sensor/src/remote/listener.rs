//! The connection on which it is asked, and what becomes of it when that breaks.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sensor_proto::{
    MESSAGE_BYTES_MAX,
    v1::{
        Command, CommandAnswer, ListenHello, ListenRequest, control_client::ControlClient,
        listen_request::Frame,
    },
};
use sensor_trust::{DialError, dial};
use tokio::{
    sync::{Semaphore, mpsc},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::Remote;

/// First and longest time between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The collector does not know of commands: when to ask again.
const OLD: Duration = Duration::from_secs(600);

/// Commands that are done at once; bundles take long.
const AT_ONCE: usize = 8;

/// Answers on the way.
const ANSWERS: usize = 64;

#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{}", _0.message())]
    Refused(#[from] Status),
    #[error("it ended the stream")]
    Ended,
}

/// What is being done, and where its answer goes.
#[derive(Clone)]
struct Desk {
    answers: Arc<Mutex<Option<mpsc::Sender<ListenRequest>>>>,
    busy: Arc<Mutex<HashSet<String>>>,
    room: Arc<Semaphore>,
}

impl Remote {
    /// Listens without end, over TLS only: without it nobody knows who asks.
    pub async fn run(self: Arc<Self>) {
        if !self.address.is_secure() {
            tracing::info!("without TLS nothing is done that the collector asks");
            return;
        }
        let desk = Desk {
            answers: Arc::default(),
            busy: Arc::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        };
        let mut wait = BACKOFF.0;
        let mut last = String::new();
        loop {
            let Err(error) = self.listen(&desk, &mut wait).await;
            if matches!(&error, ListenError::Refused(status) if status.code() == Code::Unimplemented) {
                tracing::info!("the collector knows nothing of commands; it may be older than this agent");
                wait = OLD;
            }
            let message = error.to_string();
            if message != last {
                tracing::debug!("not listening to what the collector asks: {message}; trying again");
                last = message;
            }
            sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    async fn listen(
        self: &Arc<Self>,
        desk: &Desk,
        wait: &mut Duration,
    ) -> Result<std::convert::Infallible, ListenError> {
        let channel = dial(&self.address, &self.security, &self.on_connecting).await?;
        let (answers, stream) = mpsc::channel(ANSWERS);
        let hello = ListenHello {
            host: self.service.converter.host().to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            allowed: self.allow.iter().map(ToString::to_string).collect(),
        };
        // It cannot be full or closed yet.
        let _ = answers.try_send(ListenRequest {
            frame: Some(Frame::Hello(hello)),
        });
        let mut client = ControlClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut commands = client.listen(ReceiverStream::new(stream)).await?.into_inner();
        desk.open(answers);
        *wait = BACKOFF.0;
        tokio::spawn({
            let (remote, channel) = (Arc::clone(self), channel.clone());
            async move { remote.send_bundles(channel).await }
        });
        while let Some(response) = commands.message().await? {
            if let Some(command) = response.command {
                let (remote, channel) = (Arc::clone(self), channel.clone());
                desk.take(command, move |command| async move {
                    let answer = remote.perform(command).await;
                    if !answer.bundle.is_empty() {
                        tokio::spawn(async move { remote.send_bundles(channel).await });
                    }
                    answer
                });
            }
        }
        Err(ListenError::Ended)
    }
}

impl Desk {
    fn open(&self, answers: mpsc::Sender<ListenRequest>) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(answers);
    }

    /// Has it done, unless that is being done: then its answer goes to whoever is connected at the end.
    fn take<F>(&self, command: Command, perform: impl FnOnce(Command) -> F + Send + 'static)
    where
        F: Future<Output = CommandAnswer> + Send,
    {
        let id = command.id.clone();
        if !self
            .busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone())
        {
            return;
        }
        let desk = self.clone();
        tokio::spawn(async move {
            // It is never closed.
            let _room = desk.room.acquire().await;
            let answer = perform(command).await;
            desk.busy
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
            let to = desk
                .answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if let Some(to) = to {
                // Nobody is connected: the collector asks again, and the journal has the answer.
                let _ = to
                    .send(ListenRequest {
                        frame: Some(Frame::Answer(answer)),
                    })
                    .await;
            }
        });
    }
}
