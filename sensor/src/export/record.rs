//! The stream of events as a recording, for whoever asks for one.
//!
//! What runs already is asked for after the subscription has begun, so that nothing is missed between the two. Who reads too slowly loses events, as
//! every subscriber does, and the recording says how many.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sensor_proto::{
    fanout::Reader,
    v1::{Filter, RecordResponse},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Entry, Hub};
use crate::{
    orders::Orders,
    recording::{About, Writer},
    time::{BootTime, WallTime},
};

/// Entries that are taken at once, and how long a block waits for more of them.
const TURN: usize = 1_024;
const PATIENCE: Duration = Duration::from_millis(500);

/// Messages that wait for the reader.
const WAITING: usize = 16;

/// A recording that has begun.
pub(super) struct Recorder {
    reader: Reader<Entry>,
    writer: Writer,
}

impl Recorder {
    /// `None` if the pipeline does not answer.
    pub(super) async fn begin(hub: &Hub, orders: &Orders, host: &str) -> Option<Self> {
        let reader = hub.subscribe(Arc::new(Filter::default()));
        let mut writer = Writer::new(About {
            host: host.to_owned(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            began: WallTime::now(),
            began_boot: BootTime::now(),
        });
        let running = orders
            .examine(|_, processes| processes.iter().cloned().collect::<Vec<_>>())
            .await?;
        running.iter().for_each(|process| writer.running(process));
        Some(Self { reader, writer })
    }

    /// Its bytes as they come, until nobody wants them any more or the agent ends.
    pub(super) fn stream(self) -> ReceiverStream<Result<RecordResponse, Status>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(self.work(sender));
        ReceiverStream::new(receiver)
    }

    async fn work(mut self, sender: mpsc::Sender<Result<RecordResponse, Status>>) {
        // What a recording begins with is sent at once: without it a short one would say nothing.
        let data = self.writer.take(true);
        if sender.send(Ok(RecordResponse { data })).await.is_err() {
            return;
        }
        let mut entries = Vec::new();
        let mut flushed = Instant::now();
        loop {
            let read = timeout(PATIENCE, self.reader.next(&mut entries, TURN)).await;
            for entry in entries.drain(..) {
                match entry {
                    Entry::Event(event) => self.writer.event(&event),
                    Entry::Loss(loss) => self.writer.lost(loss.count),
                    Entry::Signal(_) | Entry::Incident(_) | Entry::Outcome(_) => {}
                }
            }
            let lost = self.reader.take_dropped();
            if lost > 0 {
                self.writer.lost(lost);
            }
            if read == Ok(0) {
                let data = self.writer.finish();
                let _ = sender.send(Ok(RecordResponse { data })).await;
                return;
            }
            let due = flushed.elapsed() >= PATIENCE;
            if due {
                flushed = Instant::now();
            }
            let data = self.writer.take(due);
            let gone = if data.is_empty() {
                sender.is_closed()
            } else {
                sender.send(Ok(RecordResponse { data })).await.is_err()
            };
            if gone {
                return;
            }
        }
    }
}
