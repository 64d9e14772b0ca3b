//! From the bus to the lake: pulls batches, gathers them until there are enough for files, commits these, and settles the batches.
//!
//! Any number of loaders may run, without knowing of each other. Each batch goes to one of them, and to another if that one does not settle it. What both have
//! then, who commits second leaves out ([`Catalogue`]). A loader that is killed leaves files that are not listed, or batches that come again and are found in the
//! lake; neither is lost, nor there twice.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::bytes::Bytes;
use sensor_proto::{
    decode,
    v1::{Batch, CompressedBatch},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

#[cfg(test)]
mod tests;

use crate::{
    bus::{Bus, Parcel, Pulled, Receipt},
    ingest::stopped,
    lake::{
        Day, file_in_memory,
        rows::{Builder, Layout},
        shared::{Catalogue, Commit, Coverage, Covered, Listed, Outcome, PlaceError, unique},
    },
    session::StreamId,
    store::{Position, StoredBatch},
};

/// Messages that are asked for at once, and how long one waits for them.
const PULL: usize = 64;
const PULL_WITHIN: Duration = Duration::from_millis(500);

/// Batches that are gathered at most: the bus is told of each again and again.
const BATCHES: usize = 8192;

/// How often the bus is told that what is gathered is still being worked on. It waits three times as long.
const HOLD: Duration = Duration::from_secs(3);

/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// When files are made.
#[derive(Clone, Copy, Debug)]
pub struct Gathering {
    /// With so many entries…
    pub entries: u64,
    /// …or so many bytes of batches, not compressed…
    pub bytes: usize,
    /// …or when the first has waited so long.
    pub within: Duration,
}

impl Default for Gathering {
    fn default() -> Self {
        Self {
            entries: 128 << 10,
            bytes: 32 << 20,
            within: Duration::from_secs(60),
        }
    }
}

/// What was done so far, for metrics.
#[derive(Debug, Default)]
pub struct Tally {
    /// Batches pulled.
    pub pulled: AtomicU64,
    /// Those that had been pulled before.
    pub redelivered: AtomicU64,
    /// Those that were in the lake already.
    pub duplicates: AtomicU64,
    /// Messages that were no batches.
    pub aside: AtomicU64,
    /// Entries committed.
    pub entries: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
}

/// A batch that is in nobody's lake yet, as far as is known.
#[derive(Debug)]
struct Held {
    stream: StreamId,
    sequence: u64,
    entries: u64,
    arrived_ns: i64,
    encoded: Bytes,
}

/// What is gathered, and what to say when it is done.
#[derive(Debug, Default)]
struct Gathered {
    batches: Arc<Vec<Held>>,
    receipts: Vec<Box<dyn Receipt>>,
    entries: u64,
    bytes: usize,
}

/// Takes batches from the bus to the lake.
#[derive(Debug)]
pub struct Loader {
    bus: Arc<dyn Bus>,
    catalogue: Arc<Catalogue>,
    gathering: Gathering,
    tally: Arc<Tally>,
    /// Positions that are taken and not used.
    positions: std::ops::Range<u64>,
}

impl Loader {
    /// From `bus` to the lake of `catalogue`.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, catalogue: Arc<Catalogue>, gathering: Gathering) -> Self {
        Self {
            bus,
            catalogue,
            gathering,
            tally: Arc::default(),
            positions: 0..0,
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Works until it is to stop; then what is gathered is committed, if that works at once, and otherwise given back.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        while !*stopping.borrow() {
            let gathered = self.gather(&mut stopping).await;
            if gathered.receipts.is_empty() {
                continue;
            }
            let done = self.settle(&gathered, &mut stopping).await;
            for receipt in &gathered.receipts {
                // It comes again then, which changes nothing.
                let _ = if done {
                    receipt.done().await
                } else {
                    receipt.give_back().await
                };
            }
        }
    }

    /// Pulls until there is enough, or time is up.
    async fn gather(&self, stopping: &mut watch::Receiver<bool>) -> Gathered {
        let mut gathered = Gathered::default();
        let mut batches = Vec::new();
        let mut since: Option<Instant> = None;
        let mut told = Instant::now();
        let limit = self.gathering;
        while gathered.entries < limit.entries
            && gathered.bytes < limit.bytes
            && batches.len() < BATCHES
            && since.is_none_or(|since| since.elapsed() < limit.within)
        {
            let pulled = tokio::select! {
                pulled = self.bus.pull(PULL, PULL_WITHIN) => pulled,
                () = stopped(stopping) => break,
            };
            match pulled {
                Ok(pulled) => {
                    for pulled in pulled {
                        // Small messages may have much in them.
                        if gathered.bytes >= limit.bytes {
                            let _ = pulled.receipt.give_back().await;
                            continue;
                        }
                        self.take(pulled, &mut gathered, &mut batches).await;
                    }
                }
                Err(error) => {
                    self.tally.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!("{error}; nothing is pulled, and tried again");
                    sleep(PAUSE).await;
                }
            }
            if !batches.is_empty() {
                since.get_or_insert_with(Instant::now);
            }
            if told.elapsed() >= HOLD {
                hold(&gathered.receipts).await;
                told = Instant::now();
            }
        }
        gathered.batches = Arc::new(batches);
        gathered
    }

    async fn take(&self, pulled: Pulled, gathered: &mut Gathered, batches: &mut Vec<Held>) {
        let Pulled {
            parcel,
            arrived_ns,
            again,
            receipt,
        } = pulled;
        self.tally.pulled.fetch_add(1, Ordering::Relaxed);
        self.tally.redelivered.fetch_add(again.into(), Ordering::Relaxed);
        match parcel.and_then(|parcel| open(parcel, arrived_ns)) {
            Ok(held) => {
                gathered.entries += held.entries;
                gathered.bytes += held.encoded.len();
                gathered.receipts.push(receipt);
                batches.push(held);
            }
            Err((cause, body)) => self.put_aside(&cause, body, receipt).await,
        }
    }

    /// What is no batch must not come again and again, nor be gone.
    async fn put_aside(&self, cause: &str, body: Bytes, receipt: Box<dyn Receipt>) {
        let name = format!("aside/{}", unique());
        let place = self.catalogue.place();
        let result = place.put(&name, body).await;
        match result {
            Ok(()) => {
                self.tally.aside.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    "a message on the bus is no batch: {cause}; it is put aside as {name} in the lake"
                );
                let _ = receipt.done().await;
            }
            Err(error) => {
                tracing::error!("a message on the bus is no batch: {cause}; it stays there: {error}");
            }
        }
    }

    /// Makes all of it part of the lake, however often that takes; false if it is to stop before.
    async fn settle(&mut self, gathered: &Gathered, stopping: &mut watch::Receiver<bool>) -> bool {
        loop {
            let batches = Arc::clone(&gathered.batches);
            let stored = while_holding(&gathered.receipts, self.store(batches)).await;
            let Err(error) = stored else { return true };
            self.tally.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                "{error}; {} batches stay on the bus meanwhile",
                gathered.receipts.len()
            );
            if *stopping.borrow() {
                return false;
            }
            let pause = async {
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = stopped(stopping) => {}
                }
            };
            while_holding(&gathered.receipts, pause).await;
        }
    }

    async fn store(&mut self, batches: Arc<Vec<Held>>) -> Result<(), PlaceError> {
        let mut made: Option<(Vec<bool>, Commit)> = None;
        loop {
            self.catalogue.refresh().await?;
            let missing = self.missing(&batches).await;
            if !missing.contains(&true) {
                self.count(&batches, &missing);
                return Ok(());
            }
            let (of, commit) = match made.take() {
                Some((of, commit)) if of == missing => (of, commit),
                // Others have some of it by now: files with these in them are never listed.
                _ => {
                    let commit = self.make(&batches, &missing).await?;
                    (missing, commit)
                }
            };
            if self.catalogue.commit(&commit).await? == Outcome::Made {
                self.count(&batches, &of);
                return Ok(());
            }
            made = Some((of, commit));
        }
    }

    /// Which batches are to be stored: those that are not in the lake, each once.
    async fn missing(&self, batches: &[Held]) -> Vec<bool> {
        let keys = batches.iter().map(|held| (&held.stream, held.sequence));
        let mut missing = self.catalogue.missing(keys).await;
        let mut seen = HashSet::new();
        for (missing, held) in missing.iter_mut().zip(batches) {
            *missing &= seen.insert((&held.stream, held.sequence));
        }
        missing
    }

    fn count(&self, batches: &[Held], stored: &[bool]) {
        for (held, stored) in batches.iter().zip(stored) {
            if *stored {
                self.tally.entries.fetch_add(held.entries, Ordering::Relaxed);
            } else {
                self.tally.duplicates.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Files of the batches that are missing, durable, and the commit that will list them.
    async fn make(&mut self, batches: &Arc<Vec<Held>>, missing: &[bool]) -> Result<Commit, PlaceError> {
        let chosen = batches.iter().zip(missing).filter(|(_, missing)| **missing);
        let entries: u64 = chosen.map(|(held, _)| held.entries).sum();
        if self.positions.end - self.positions.start < entries {
            let (first, count) = self.catalogue.reserve(entries).await?;
            self.positions = first.0..first.0 + count;
        }
        let first = Position(self.positions.start);
        self.positions.start += entries;
        let (work, of) = (Arc::clone(batches), missing.to_vec());
        let encoding = tokio::task::spawn_blocking(move || encode(&work, &of, first));
        let place = self.catalogue.place();
        let encoded = encoding.await.map_err(|error| place.work(error))?;
        let mut commit = Commit {
            streams: covered(batches, missing),
            ..Commit::new()
        };
        for (listed, body) in encoded.map_err(|error| place.work(error))? {
            place.put(&listed.name, body).await?;
            commit.add.push(listed);
        }
        Ok(commit)
    }
}

/// A batch that keeps the rules, or why it is none.
fn open(parcel: Parcel, arrived_ns: i64) -> Result<Held, (String, Bytes)> {
    let Parcel {
        stream,
        sequence,
        body,
    } = parcel;
    let compressed = CompressedBatch { sequence, body };
    let read = || -> Result<(Bytes, u64), String> {
        let encoded = compressed.open().map_err(|error| error.to_string())?;
        let batch: Batch = decode(encoded.clone()).map_err(|error| error.to_string())?;
        batch.check().map_err(|error| error.to_string())?;
        Ok((encoded, batch.entries.len() as u64))
    };
    match read() {
        Ok((encoded, entries)) => Ok(Held {
            stream,
            sequence,
            entries,
            arrived_ns,
            encoded,
        }),
        Err(cause) => {
            let cause = format!("batch {sequence} of {:?}: {cause}", stream.host);
            Err((cause, compressed.body))
        }
    }
}

/// Files with the chosen batches, those of each day of arrival and class in one.
fn encode(batches: &[Held], chosen: &[bool], first: Position) -> Result<Vec<(Listed, Bytes)>, String> {
    let mut days: BTreeMap<Day, (Builder, Position, Position)> = BTreeMap::new();
    let mut next = first;
    for (held, _) in batches.iter().zip(chosen).filter(|(_, chosen)| **chosen) {
        let stored = StoredBatch {
            position: next,
            host: held.stream.host.clone(),
            received_ns: held.arrived_ns,
            entries: held.entries,
            body: held.encoded.to_vec(),
        };
        next = stored.past();
        let (rows, _, past) = days
            .entry(stored.day())
            .or_insert_with(|| (Builder::new(Layout::ByClass), stored.position, next));
        *past = next;
        rows.push(&stored, stored.position)
            .map_err(|error| error.to_string())?;
    }
    let mut files = Vec::new();
    for (day, (rows, first, past)) in days {
        for table in rows.finish().map_err(|error| error.to_string())? {
            let Some(class) = table.class else { continue };
            let (name, body) =
                file_in_memory(class, day, first..past, &table.rows).map_err(|error| error.to_string())?;
            let listed = Listed {
                name,
                class: class.name().to_owned(),
                day: day.0,
                rows: table.rows.num_rows() as u64,
                bytes: body.len() as u64,
            };
            files.push((listed, body));
        }
    }
    Ok(files)
}

/// The sequences of the chosen batches, as a commit says them.
fn covered(batches: &[Held], chosen: &[bool]) -> Vec<Covered> {
    let mut streams: BTreeMap<(&str, u64), Coverage> = BTreeMap::new();
    for (held, _) in batches.iter().zip(chosen).filter(|(_, chosen)| **chosen) {
        let StreamId { host, epoch } = &held.stream;
        let stored = streams.entry((host, *epoch)).or_default();
        stored.insert(held.sequence, held.sequence);
    }
    let streams = streams.iter().flat_map(|((host, epoch), stored)| {
        stored.intervals().iter().map(|(from, to)| Covered {
            host: (*host).to_owned(),
            epoch: *epoch,
            from: *from,
            to: *to,
        })
    });
    streams.collect()
}

async fn hold(receipts: &[Box<dyn Receipt>]) {
    for receipt in receipts {
        // Then another gets it, and who of the two commits second leaves it out.
        let _ = receipt.hold().await;
    }
}

/// Does the work, and tells the bus again and again that it is not done yet.
async fn while_holding<T>(receipts: &[Box<dyn Receipt>], work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = sleep(HOLD) => hold(receipts).await,
        }
    }
}
