//! For a consumer that says where it was: everything since then, then what comes.
//!
//! It is read from disk, from the lake, then from what is not in the lake yet, then as it is stored. So a slow consumer is behind, and nothing
//! else. A step reads from one snapshot; the next begins where it ended, whatever has become a run meanwhile.
//!
//! Positions are without gaps when they are stored. So a gap is what cannot be read any more, and the consumer is told how large it is.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

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
    query::{Engine, QueryError, Snapshot},
    store::{Extent, LakeFile, Position, StoreError, StoredBatch},
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
    pub(super) damaged: u64,
    /// Files that were found to be damaged, should they still be on the list.
    pub(super) left_out: Vec<LakeFile>,
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
    /// What follows is not there yet: this position is next.
    Early(Position),
    /// Retention has taken everything before this position.
    Taken(Position),
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
            match self.step().await? {
                Step::Early(reached) => {
                    let message = format!(
                        "position {} is not reached yet, {reached} is next; the collector may have begun anew",
                        self.next
                    );
                    return Err(Status::out_of_range(message).into());
                }
                Step::Taken(floor) => {
                    self.taken += floor.0 - self.next.0;
                    self.reach(floor);
                }
                Step::Run(snapshot, _) => {
                    drop(snapshot);
                    self.read_run().await?;
                }
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

    async fn step(&self) -> Result<Step, Status> {
        let (data, leases, next) = (self.data.clone(), self.leases.clone(), self.next);
        let left_out = self.left_out.clone();
        // The database is opened and read, which may wait for the disk.
        let look = tokio::task::spawn_blocking(move || Step::after(&data, &leases, next, &left_out));
        let looked = look.await.map_err(|error| Status::internal(error.to_string()))?;
        looked.map_err(|error| Status::unavailable(error.to_string()))
    }

    /// Reads a run when it is its turn. What there is is looked up only then: whoever waits keeps no file.
    async fn read_run(&mut self) -> Result<(), End> {
        let turn = tokio::select! {
            turn = Arc::clone(&self.reading).acquire_owned() => turn,
            () = self.responses.closed() => return Err(End::Gone),
        };
        let turn = turn.map_err(|_| Status::unavailable("the collector is stopping"))?;
        let Step::Run(snapshot, past) = self.step().await? else {
            return Ok(());
        };
        let Some(error) = self.pass_on(Arc::clone(&snapshot), past).await? else {
            // The last entries of a run may have been lost.
            self.miss(past);
            self.reach(past);
            return Ok(());
        };
        // Looking for damage may take long, and others wait for it as well.
        drop(turn);
        if let QueryError::Unreadable(_) = error {
            let damaged = self.engine.set_aside(&snapshot, past).await;
            if !damaged.is_empty() {
                // The next step goes on in the same run, without them.
                self.left_out.extend(damaged);
                return Ok(());
            }
        }
        Err(Status::from(error).into())
    }

    /// Passes on what a run has from the next position on; or returns why not all of it can be read.
    async fn pass_on(&mut self, snapshot: Arc<Snapshot>, past: Position) -> Result<Option<QueryError>, End> {
        let mut rows = match self.engine.replay(snapshot, self.next, past).await {
            Ok(rows) => rows,
            Err(error) => return Ok(Some(error)),
        };
        while let Some(batch) = rows.recv().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Ok(Some(error)),
            };
            for (position, entry) in entries(&batch)? {
                self.offer(position, &entry).await?;
            }
        }
        Ok(None)
    }

    /// What is between the last entry and `next` is not there any more: every position has an entry when it is stored.
    fn miss(&mut self, next: Position) {
        self.damaged += next.0.saturating_sub(self.next.0);
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
                    tracing::error!("a batch at position {} cannot be read: {error}", stored.position);
                }
            }
            self.miss(past);
            self.reach(past);
        }
        Ok(())
    }

    async fn offer(&mut self, position: Position, entry: &Entry) -> Result<(), End> {
        self.miss(position);
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
        if self.waiting == 0 && self.taken == 0 && self.damaged == 0 && self.told == self.next {
            return Ok(());
        }
        let response = SubscribeResponse {
            taken: std::mem::take(&mut self.taken),
            damaged: std::mem::take(&mut self.damaged),
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

impl Step {
    /// What there is to be read from `next` on.
    fn after(
        data: &Path,
        leases: &Leases,
        next: Position,
        left_out: &[LakeFile],
    ) -> Result<Self, StoreError> {
        let mut snapshot = Snapshot::take(data, leases)?;
        let extent: Extent = snapshot.extent()?;
        if next > extent.next {
            return Ok(Self::Early(extent.next));
        }
        if next < extent.floor {
            return Ok(Self::Taken(extent.floor));
        }
        if let Some(past) = snapshot
            .runs()
            .iter()
            .map(|run| run.past)
            .find(|past| *past > next)
        {
            snapshot.leave_out(left_out);
            return Ok(Self::Run(Arc::new(snapshot), past));
        }
        let batches = snapshot.fresh(next)?;
        Ok(if batches.is_empty() {
            Self::Wait
        } else {
            Self::Batches(batches)
        })
    }
}

/// The entries of rows that [`Engine::replay`] gave. What is no entry any more is left out: its position is missing.
fn entries(rows: &RecordBatch) -> Result<Vec<(Position, Entry)>, Status> {
    let column = |name: &str| {
        let missing = || {
            Status::internal(format!(
                "the lake has no column {name}: a defect of this collector"
            ))
        };
        rows.column_by_name(name).ok_or_else(missing)
    };
    let positions = column("position")?.as_primitive::<UInt64Type>();
    let hosts = column("host")?.as_string_view();
    let encoded = column("entry")?.as_binary_view();
    let processes = column("entry_process")?.as_binary_view();
    let row = |row: usize| {
        let process = (!processes.is_null(row)).then(|| processes.value(row));
        let position = Position(positions.value(row));
        // Only an event has its process apart; for others it is there for queries.
        match put_together(hosts.value(row), encoded.value(row), process) {
            Ok(entry) => Some((position, entry)),
            Err(error) => {
                tracing::error!("the entry at position {position} is not as it was written: {error}");
                None
            }
        }
    };
    Ok((0..rows.num_rows()).filter_map(row).collect())
}
