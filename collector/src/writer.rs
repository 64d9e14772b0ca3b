//! The one thread that writes. It commits everything that has queued up in one transaction: with one `fsync`
//! for many batches of many agents, durability costs little when it matters most.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use sensor_proto::{
    fanout::Fanout,
    v1::{Approval, Batch, Entry, HostIncident, Incident, ListApprovalsRequest, ListFleetIncidentsRequest},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::{
    session::{StreamId, TakenBatch},
    store::{Change, KnownHost, Position, Store, StoreError, Stored, Writing},
};

/// Jobs that wait for the writer. When it is full, connections wait, and their agents with them.
const QUEUE: usize = 256;

/// Most jobs in one transaction: bounds the memory it holds and the time until the first of them is answered.
const GROUP: usize = 256;

/// Bytes of batches that wait for the writer or are being written, at most: beside them, it holds what they say.
const WAITING: usize = 32 << 20;

/// Something to write or to read, with the place for its answer.
#[derive(Debug)]
enum Job {
    Greet {
        stream: Arc<StreamId>,
        agent_version: String,
        reply: oneshot::Sender<Result<u64, WriteError>>,
    },
    Store {
        stream: Arc<StreamId>,
        batch: TakenBatch,
        /// For its bytes, until it is written.
        room: OwnedSemaphorePermit,
        reply: mpsc::UnboundedSender<Result<u64, WriteError>>,
    },
    Hosts {
        reply: oneshot::Sender<Result<Vec<KnownHost>, WriteError>>,
    },
    Stopped {
        host: String,
        reply: oneshot::Sender<Result<(), WriteError>>,
    },
    Tell {
        host: String,
        incident: Box<Incident>,
        reply: oneshot::Sender<Result<(), WriteError>>,
    },
    Incidents {
        request: ListFleetIncidentsRequest,
        reply: oneshot::Sender<Result<Vec<HostIncident>, WriteError>>,
    },
    Approvals {
        request: ListApprovalsRequest,
        reply: oneshot::Sender<Result<Vec<Approval>, WriteError>>,
    },
    Probe {
        reply: oneshot::Sender<Result<(), WriteError>>,
    },
    Lake {
        change: Change,
        reply: oneshot::Sender<Result<(), WriteError>>,
    },
}

/// Why something was not written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The batch does not continue what is stored.
    #[error("{0}")]
    Gap(String),
    /// The store failed. It may work again, as when a full disk has room.
    #[error("the collector cannot store: {0}")]
    Store(String),
    /// The collector is stopping.
    #[error("the collector is stopping")]
    Stopping,
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Gap { .. } => Self::Gap(error.to_string()),
            error => Self::Store(error.to_string()),
        }
    }
}

/// An entry that is on disk.
#[derive(Debug)]
pub struct Placed {
    /// Its position.
    pub position: Position,
    /// It, complete.
    pub entry: Entry,
}

/// Tells those who follow what has become durable.
#[derive(Clone, Debug)]
pub struct Published {
    /// The entries themselves, for those who follow from now on.
    pub entries: Fanout<Arc<Placed>>,
    /// Position after the last of them, for those who read them from disk.
    pub next: watch::Sender<Position>,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            entries: Fanout::default(),
            next: watch::Sender::new(Position(0)),
        }
    }
}

impl Published {
    fn publish(&self, first: Position, host: &str, batch: Batch) {
        let past = Position(first.0 + batch.entries.len() as u64);
        if self.entries.readers() > 0 {
            let placed = (first.0..)
                .zip(batch.into_complete(host))
                .map(|(position, entry)| Placed {
                    position: Position(position),
                    entry,
                });
            self.entries.publish(&placed.map(Arc::new).collect::<Vec<_>>());
        }
        self.next.send_replace(past);
    }
}

/// Sends jobs to the writer. The writer ends when the last of these is dropped.
#[derive(Clone, Debug)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    tally: Arc<Tally>,
}

/// What the writer has done, for metrics.
#[derive(Debug, Default)]
pub struct Tally {
    /// Entries made durable.
    pub entries: AtomicU64,
    /// Batches made durable.
    pub batches: AtomicU64,
    /// Batches that were stored already.
    pub duplicates: AtomicU64,
    /// Transactions.
    pub commits: AtomicU64,
    /// Transactions that failed.
    pub failures: AtomicU64,
    /// Files of the lake that could not be read any more, and were taken off the list.
    pub damaged: AtomicU64,
}

impl Writer {
    /// Starts the thread. What it has made durable it publishes to `consumers`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(store: Store, consumers: Published) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let tally = Arc::<Tally>::default();
        let counts = Arc::clone(&tally);
        let thread = thread::Builder::new()
            .name("writer".into())
            .spawn(move || run(store, &consumers, &counts, queue))?;
        let writer = Self {
            jobs,
            room: Arc::new(Semaphore::new(WAITING)),
            tally,
        };
        Ok((writer, thread))
    }

    /// What it has done so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Makes something durable that changes nothing.
    ///
    /// # Errors
    /// If that does not work.
    pub async fn probe(&self) -> Result<(), WriteError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Probe { reply }).await?;
        answer.await.map_err(|_| WriteError::Stopping)?
    }

    /// Notes that an agent is there, and returns the highest sequence that is stored of its numbering.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn greet(&self, stream: Arc<StreamId>, agent_version: String) -> Result<u64, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Greet {
            stream,
            agent_version,
            reply,
        })
        .await?;
        answer.await.map_err(|_| WriteError::Stopping)?
    }

    /// Queues a batch. When it is durable, or cannot be, `reply` gets the highest sequence stored, or why not.
    ///
    /// # Errors
    /// If the writer has ended.
    pub async fn store(
        &self,
        stream: Arc<StreamId>,
        batch: TakenBatch,
        reply: mpsc::UnboundedSender<Result<u64, WriteError>>,
    ) -> Result<(), WriteError> {
        let bytes = batch.encoded.len().min(WAITING) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        self.send(Job::Store {
            stream,
            batch,
            room: room.map_err(|_| WriteError::Stopping)?,
            reply,
        })
        .await
    }

    /// Every host that ever reported.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn hosts(&self) -> Result<Vec<KnownHost>, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Hosts { reply }).await?;
        answer.await.map_err(|_| WriteError::Stopping)?
    }

    /// Notes that the agent of `host` has ended in order.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn stopped(&self, host: String) -> Result<(), WriteError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Stopped { host, reply }).await?;
        answer.await.map_err(|_| WriteError::Stopping)?
    }

    /// Stores, and publishes, an incident that the collector found about `host`.
    ///
    /// # Errors
    /// If the store fails, or does not know the host.
    pub async fn tell(&self, host: String, incident: Incident) -> Result<(), WriteError> {
        let (reply, answer) = oneshot::channel();
        let incident = Box::new(incident);
        self.send(Job::Tell {
            host,
            incident,
            reply,
        })
        .await?;
        answer.await.map_err(|_| WriteError::Stopping)?
    }

    /// Incidents of all hosts, the latest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn incidents(
        &self,
        request: ListFleetIncidentsRequest,
    ) -> Result<Vec<HostIncident>, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Incidents { request, reply }).await?;
        answer.await.map_err(|_| WriteError::Stopping)?
    }

    /// What waits for a person on hosts, the latest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn approvals(&self, request: ListApprovalsRequest) -> Result<Vec<Approval>, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Approvals { request, reply }).await?;
        answer.await.map_err(|_| WriteError::Stopping)?
    }

    /// Lists files of the lake, and what becomes of those that were listed. Waits until that is durable; not to be called from a task.
    ///
    /// # Errors
    /// If the store fails, or the writer has ended.
    pub fn change_lake(&self, change: Change) -> Result<(), WriteError> {
        let (reply, answer) = oneshot::channel();
        self.jobs
            .blocking_send(Job::Lake { change, reply })
            .map_err(|_| WriteError::Stopping)?;
        answer.blocking_recv().map_err(|_| WriteError::Stopping)?
    }

    async fn send(&self, job: Job) -> Result<(), WriteError> {
        self.jobs.send(job).await.map_err(|_| WriteError::Stopping)
    }
}

fn run(mut store: Store, consumers: &Published, tally: &Tally, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(GROUP);
    while queue.blocking_recv_many(&mut jobs, GROUP) > 0 {
        let done = store.commit(|writing| jobs.iter().map(|job| perform(writing, job)).collect::<Vec<_>>());
        match done {
            Ok(results) => {
                tally.count(&jobs, &results);
                for (job, result) in jobs.drain(..).zip(results) {
                    answer(&store, consumers, job, result.map_err(WriteError::from));
                }
            }
            Err(error) => {
                tally.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!("{error}; agents keep what they have and try again");
                let error = WriteError::from(error);
                jobs.drain(..)
                    .for_each(|job| answer(&store, consumers, job, Err(error.clone())));
            }
        }
    }
}

impl Tally {
    fn count(&self, jobs: &[Job], results: &[Result<Done, StoreError>]) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        for (job, result) in jobs.iter().zip(results) {
            match (job, result) {
                (Job::Store { batch, .. }, Ok(Done::Stored(Stored::New(_)))) => {
                    self.batches.fetch_add(1, Ordering::Relaxed);
                    self.entries
                        .fetch_add(batch.batch.entries.len() as u64, Ordering::Relaxed);
                }
                (Job::Store { .. }, Ok(Done::Stored(Stored::Already(_)))) => {
                    self.duplicates.fetch_add(1, Ordering::Relaxed);
                }
                (
                    Job::Lake {
                        change: Change::Damaged(_),
                        ..
                    },
                    Ok(Done::Listed(true)),
                ) => {
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }
}

/// What a job did, before it is durable.
enum Done {
    Greeted(u64),
    Stored(Stored),
    Told(Position, Batch),
    Listed(bool),
    Nothing,
}

fn perform(writing: &Writing<'_>, job: &Job) -> Result<Done, StoreError> {
    match job {
        Job::Greet {
            stream,
            agent_version,
            ..
        } => writing.greet(stream, agent_version).map(Done::Greeted),
        Job::Store { stream, batch, .. } => writing.store(stream, batch).map(Done::Stored),
        Job::Lake { change, .. } => writing.change_lake(change).map(Done::Listed),
        Job::Probe { .. } => writing.probe().map(|()| Done::Nothing),
        Job::Stopped { host, .. } => writing.stopped(host).map(|()| Done::Nothing),
        Job::Tell { host, incident, .. } => {
            let told = writing.tell(host, (**incident).clone());
            told.map(|(position, batch)| Done::Told(position, batch))
        }
        Job::Hosts { .. } | Job::Incidents { .. } | Job::Approvals { .. } => Ok(Done::Nothing),
    }
}

/// Tells who asked. That they may be gone by now changes nothing.
fn answer(store: &Store, consumers: &Published, job: Job, result: Result<Done, WriteError>) {
    match job {
        Job::Greet { reply, .. } => {
            let stored = result.map(|done| {
                if let Done::Greeted(stored) = done {
                    stored
                } else {
                    0
                }
            });
            let _ = reply.send(stored);
        }
        Job::Store {
            stream,
            batch,
            room,
            reply,
        } => {
            drop(room);
            let TakenBatch { batch, .. } = batch;
            let sequence = batch.sequence;
            let stored = result.map(|done| match done {
                Done::Stored(Stored::Already(stored)) => stored,
                Done::Stored(Stored::New(first)) => {
                    consumers.publish(first, &stream.host, batch);
                    sequence
                }
                Done::Greeted(_) | Done::Told(..) | Done::Listed(_) | Done::Nothing => sequence,
            });
            let _ = reply.send(stored);
        }
        Job::Lake { reply, .. } | Job::Stopped { reply, .. } | Job::Probe { reply } => {
            let _ = reply.send(result.map(|_| ()));
        }
        Job::Tell { host, reply, .. } => {
            let told = result.map(|done| {
                if let Done::Told(position, batch) = done {
                    consumers.publish(position, &host, batch);
                }
            });
            let _ = reply.send(told);
        }
        Job::Incidents { request, reply } => {
            let _ = reply.send(result.and_then(|_| Ok(store.incidents(&request)?)));
        }
        Job::Approvals { request, reply } => {
            let _ = reply.send(result.and_then(|_| Ok(store.approvals(&request)?)));
        }
        Job::Hosts { reply } => {
            let _ = reply.send(result.and_then(|_| Ok(store.hosts()?)));
        }
    }
}
