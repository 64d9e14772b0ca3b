//! The thread that keeps the spool: what the disk makes it wait for, nobody else waits for.
//!
//! It takes all that has come meanwhile at once, makes it durable by one commit, and answers then: the slower the disk, the more batches
//! share a commit.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::{Notify, mpsc, oneshot};

use super::{Numbered, Package, Spool, Usage};
use crate::priority::DELIVERY;

/// Commands that wait. When there are more, whoever packs waits, and what comes waits for them in the hub's queue.
const QUEUE: usize = 32;

/// Why the spool does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the thread that keeps the spool has ended")]
pub struct KeeperError;

/// Something to do.
enum Command {
    Append(Package),
    Lose(&'static str, &'static str, u64),
    Flush(oneshot::Sender<()>),
    Epoch(oneshot::Sender<u64>),
    Batches {
        epoch: u64,
        sequence: u64,
        count: usize,
        reply: oneshot::Sender<Vec<Numbered>>,
    },
    Acknowledge {
        epoch: u64,
        sequence: u64,
    },
    Refuse {
        epoch: u64,
        sequence: u64,
    },
    Resume {
        epoch: u64,
        stored: u64,
        reply: oneshot::Sender<bool>,
    },
}

/// An answer that is due after the commit.
enum Due {
    Flushed(oneshot::Sender<()>),
    Epoch(oneshot::Sender<u64>),
    Batches {
        epoch: u64,
        sequence: u64,
        count: usize,
        reply: oneshot::Sender<Vec<Numbered>>,
    },
}

/// Talks to the thread. Cloning gives another handle to the same; the thread ends when the last of them is dropped.
#[derive(Clone, Debug)]
pub struct Keeper {
    commands: mpsc::Sender<Command>,
    seen: Gauge,
}

/// What the thread last said. It does not keep the thread.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    usage: Arc<Mutex<Usage>>,
    changed: Arc<Notify>,
}

/// The thread.
#[derive(Debug)]
pub struct Keeping {
    thread: JoinHandle<Usage>,
}

impl Keeping {
    /// Waits until it has ended, which it does when no [`Keeper`] is left, and returns what is kept for the next agent. May wait for the disk.
    #[must_use]
    pub fn finish(self) -> Usage {
        self.thread.join().unwrap_or_else(|_| {
            tracing::error!("the thread that keeps the spool has ended in a panic");
            Usage::default()
        })
    }
}

impl Keeper {
    /// Starts the thread, which opens the spool first: what waits in it may take a while to be read.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn start(open: impl FnOnce() -> Spool + Send + 'static) -> io::Result<(Self, Keeping)> {
        let (commands, queue) = mpsc::channel(QUEUE);
        let seen = Gauge::default();
        let telling = seen.clone();
        let thread = std::thread::Builder::new().name("spool".to_owned());
        let thread = thread.spawn(move || {
            DELIVERY.join();
            let spool = open();
            telling.tell(&spool);
            run(spool, queue, &telling)
        })?;
        Ok((Self { commands, seen }, Keeping { thread }))
    }

    /// Takes a package, which is shed if there is no room for it.
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn append(&self, package: Package) -> Result<(), KeeperError> {
        self.send(Command::Append(package)).await
    }

    /// Entries of `name` (`""`: any) never came this far.
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn lose(&self, name: &'static str, why: &'static str, count: u64) -> Result<(), KeeperError> {
        self.send(Command::Lose(name, why, count)).await
    }

    /// Returns when all that came so far is durable, or known not to be.
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn flush(&self) -> Result<(), KeeperError> {
        self.ask(Command::Flush).await
    }

    /// See [`Spool::epoch`].
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn epoch(&self) -> Result<u64, KeeperError> {
        self.ask(Command::Epoch).await
    }

    /// See [`Spool::batches`].
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn batches(
        &self,
        epoch: u64,
        sequence: u64,
        count: usize,
    ) -> Result<Vec<Numbered>, KeeperError> {
        let command = |reply| Command::Batches {
            epoch,
            sequence,
            count,
            reply,
        };
        self.ask(command).await
    }

    /// See [`Spool::acknowledge`].
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn acknowledge(&self, epoch: u64, sequence: u64) -> Result<(), KeeperError> {
        self.send(Command::Acknowledge { epoch, sequence }).await
    }

    /// See [`Spool::refuse`].
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn refuse(&self, epoch: u64, sequence: u64) -> Result<(), KeeperError> {
        self.send(Command::Refuse { epoch, sequence }).await
    }

    /// See [`Spool::resume`].
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn resume(&self, epoch: u64, stored: u64) -> Result<bool, KeeperError> {
        let command = |reply| Command::Resume { epoch, stored, reply };
        self.ask(command).await
    }

    /// Reads how full the spool is, while the thread runs and after.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        self.seen.clone()
    }

    /// Returns when it has changed since the last time. For one task only.
    pub async fn changed(&self) {
        self.seen.changed.notified().await;
    }

    /// Says that something else has changed of which whoever waits for [`changed`](Self::changed) should know.
    pub fn nudge(&self) {
        self.seen.changed.notify_one();
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, KeeperError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| KeeperError)
    }

    async fn send(&self, command: Command) -> Result<(), KeeperError> {
        self.commands.send(command).await.map_err(|_| KeeperError)
    }
}

impl Gauge {
    /// How full the spool was when it last changed.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, spool: &Spool) {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = spool.usage();
    }
}

fn run(mut spool: Spool, mut queue: mpsc::Receiver<Command>, seen: &Gauge) -> Usage {
    let (mut commands, mut due) = (Vec::with_capacity(QUEUE), Vec::new());
    while queue.blocking_recv_many(&mut commands, QUEUE) > 0 {
        let mut is_changed = false;
        for command in commands.drain(..) {
            is_changed |= !matches!(command, Command::Batches { .. } | Command::Epoch(_));
            due.extend(perform(&mut spool, command));
        }
        if spool.is_due() {
            spool.commit();
        }
        // Whoever is answered sees what the answer is about.
        if is_changed {
            seen.tell(&spool);
            seen.changed.notify_one();
        }
        due.drain(..).for_each(|due| answer(&mut spool, due));
    }
    spool.end()
}

fn perform(spool: &mut Spool, command: Command) -> Option<Due> {
    match command {
        Command::Append(package) => spool.append(package),
        Command::Lose(name, why, count) => spool.lose(name, why, count),
        Command::Acknowledge { epoch, sequence } => spool.acknowledge(epoch, sequence),
        Command::Refuse { epoch, sequence } => spool.refuse(epoch, sequence),
        // Nobody to hear it is no reason not to have done it.
        Command::Resume { epoch, stored, reply } => _ = reply.send(spool.resume(epoch, stored)),
        Command::Flush(reply) => return Some(Due::Flushed(reply)),
        Command::Epoch(reply) => return Some(Due::Epoch(reply)),
        Command::Batches {
            epoch,
            sequence,
            count,
            reply,
        } => {
            return Some(Due::Batches {
                epoch,
                sequence,
                count,
                reply,
            });
        }
    }
    None
}

fn answer(spool: &mut Spool, due: Due) {
    match due {
        Due::Flushed(reply) => _ = reply.send(()),
        Due::Epoch(reply) => _ = reply.send(spool.epoch()),
        Due::Batches {
            epoch,
            sequence,
            count,
            reply,
        } => _ = reply.send(spool.batches(epoch, sequence, count)),
    }
}
