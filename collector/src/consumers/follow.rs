//! For a consumer that says where it was: everything since then, then what comes.
//!
//! It is read from disk, from the lake, then from what is not in the lake yet, then as it is stored. So a slow consumer is behind, and nothing
//! else. A step reads from one snapshot; the next begins where it ended, whatever has become a run meanwhile.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::UInt64Type;
use sensor_proto::{
    Entries, RESPONSE_ENTRIES,
    v1::{Batch, Entry, SubscribeResponse},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{sleep, timeout},
};
use tonic::Status;

use super::wanted::Wanted;
use crate::{
    lake::{entry::put_together, lease::Leases},
    query::{Engine, Snapshot},
    store::{Extent, Position, StoredBatch},
};

/// A consumer that takes nothing for so long is cut off while it holds what others wait for. It can go on where it was.
const PATIENCE: Duration = Duration::from_secs(60);

/// Consumers that read the lake at a time; others wait for their turn, one run each.
pub(super) const READING: usize = 2;

/// How long to wait for more when there is something new.
const TOGETHER: Duration = Duration::from_millis(10);

/// A consumer that wants very little is told at least every so many entries how far it is.
const TOLD_EVERY: u64 = 64 << 10;

/// Reads for one consumer.
pub(super) struct Follower {
    pub(super) data: PathBuf,
    pub(super) leases: Leases,
    pub(super) engine: Engine,
    pub(super) reading: Arc<Semaphore>,
    pub(super) wanted: Arc<Wanted>,
    pub(super) stored: watch::Receiver<Position>,
    pub(super) responses: mpsc::Sender<Result<SubscribeResponse, Status>>,
    /// The position that is next.
    pub(super) next: Position,
    /// Position up to which the consumer was told.
    pub(super) told: Position,
    pub(super) entries: Entries,
    pub(super) waiting: usize,
    pub(super) taken: u64,
}

/// Why following ended.
enum End {
    /// The consumer is gone.
    Gone,
    /// Something that it is told.
    Told(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Told(status)
    }
}

/// What is to be read next.
enum Step {
    /// A run, which has entries up to this position.
    Run(Arc<Snapshot>, Position),
    /// Fresh batches.
    Batches(Vec<StoredBatch>),
    /// Nothing is there yet.
    Wait,
}

impl Follower {
    /// Until the consumer is gone or the collector stops.
    pub(super) async fn run(mut self) {
        if let Err(End::Told(status)) = self.follow().await {
            let _ = self.responses.send(Err(status)).await;
        }
    }

    async fn follow(&mut self) -> Result<(), End> {
        loop {
            // Seen before looking, so that what is stored while looking is not waited for.
            self.stored.mark_unchanged();
            match self.step()? {
                Step::Run(snapshot, past) => self.read_run(snapshot, past).await?,
                Step::Batches(batches) => self.read_batches(batches).await?,
                Step::Wait => {
                    self.tell().await?;
                    tokio::select! {
                        changed = self.stored.changed() => match changed {
                            // What comes in the same moment is read together.
                            Ok(()) => sleep(TOGETHER).await,
                            Err(_) => return Ok(()),
                        },
                        () = self.responses.closed() => return Err(End::Gone),
                    }
                }
            }
        }
    }

    fn step(&mut self) -> Result<Step, Status> {
        let failed = |error: crate::store::StoreError| Status::unavailable(error.to_string());
        let snapshot = Snapshot::take(&self.data, &self.leases).map_err(failed)?;
        let Extent { floor, next } = snapshot.extent().map_err(failed)?;
        if self.next > next {
            let message = format!(
                "position {} is not reached yet, {next} is next; the collector may have begun anew",
                self.next
            );
            return Err(Status::out_of_range(message));
        }
        if self.next < floor {
            self.taken += floor.0 - self.next.0;
            self.reach(floor);
        }
        if let Some(run) = snapshot.runs().iter().find(|run| run.past > self.next) {
            let past = run.past;
            return Ok(Step::Run(Arc::new(snapshot), past));
        }
        let batches = snapshot.fresh(self.next).map_err(failed)?;
        if batches.is_empty() {
            return Ok(Step::Wait);
        }
        Ok(Step::Batches(batches))
    }

    async fn read_run(&mut self, snapshot: Arc<Snapshot>, past: Position) -> Result<(), End> {
        let turn = Arc::clone(&self.reading).acquire_owned().await;
        let _turn = turn.map_err(|_| Status::unavailable("the collector is stopping"))?;
        let mut rows = self
            .engine
            .replay(snapshot, self.next, past)
            .await
            .map_err(Status::from)?;
        while let Some(batch) = rows.recv().await {
            for (position, entry) in entries(&batch.map_err(Status::from)?)? {
                self.offer(position, &entry).await?;
            }
        }
        // The last entries of a run may have been lost with a damaged file.
        self.reach(past);
        Ok(())
    }

    async fn read_batches(&mut self, batches: Vec<StoredBatch>) -> Result<(), End> {
        for stored in batches {
            let past = stored.past();
            match prost::Message::decode(&*stored.body) {
                Ok(batch) => {
                    let batch: Batch = batch;
                    for (position, entry) in (stored.position.0..).zip(batch.into_complete(&stored.host)) {
                        if position >= self.next.0 {
                            self.offer(Position(position), &entry).await?;
                        }
                    }
                }
                Err(error) => {
                    tracing::error!("a batch at position {} cannot be read: {error}", stored.position)
                }
            }
            self.reach(past);
        }
        Ok(())
    }

    async fn offer(&mut self, position: Position, entry: &Entry) -> Result<(), End> {
        if self.wanted.matches(entry) {
            self.entries.push(entry);
            self.waiting += 1;
        }
        self.reach(Position(position.0 + 1));
        let far = self.next.0 - self.told.0 >= TOLD_EVERY;
        if far || self.waiting >= RESPONSE_ENTRIES || self.entries.is_full() {
            self.tell().await?;
        }
        Ok(())
    }

    fn reach(&mut self, next: Position) {
        self.next = next;
        self.entries.reach(next.0 - 1);
    }

    /// Sends what waits, if there is any news.
    async fn tell(&mut self) -> Result<(), End> {
        if self.waiting == 0 && self.taken == 0 && self.told == self.next {
            return Ok(());
        }
        let response = SubscribeResponse {
            taken: std::mem::take(&mut self.taken),
            ..self.entries.take(0)
        };
        self.waiting = 0;
        self.told = self.next;
        match timeout(PATIENCE, self.responses.send(Ok(response))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Told(Status::deadline_exceeded(
                "nothing was taken for a minute; go on after the last position",
            ))),
        }
    }
}

/// The entries of rows that [`Engine::replay`] gave.
fn entries(rows: &RecordBatch) -> Result<Vec<(Position, Entry)>, Status> {
    let broken =
        |what: &str| Status::data_loss(format!("an entry of the lake is not as it was written: {what}"));
    let column = |name: &str| rows.column_by_name(name).ok_or_else(|| broken(name));
    let positions = column("position")?.as_primitive::<UInt64Type>();
    let hosts = column("host")?.as_string_view();
    let encoded = column("entry")?.as_binary_view();
    let processes = column("entry_process")?.as_binary_view();
    let row = |row: usize| {
        let process = (!processes.is_null(row)).then(|| processes.value(row));
        // Only an event has its process apart; for others it is there for queries.
        let entry = put_together(hosts.value(row), encoded.value(row), process);
        entry
            .map(|entry| (Position(positions.value(row)), entry))
            .map_err(|error| broken(&error.to_string()))
    };
    (0..rows.num_rows()).map(row).collect()
}
