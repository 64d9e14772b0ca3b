//! From the hub's queue to the spool: entries are converted and gathered into batches, each of one [`Class`], and compressed.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
    time::Duration,
};

use sensor_proto::{BATCH_BYTES, BATCH_ENTRIES_MAX, Compressor, ENTRY_BYTES_MAX, fanout::Reader, v1};
use tokio::time::timeout;

use super::{
    Shared,
    frames::{add_entry, add_process},
};
use crate::{
    export::{
        Converter, Entry,
        spool::{Class, Keeper, KeeperError, Names, Package, reason},
    },
    host::{Event, Process},
};

/// How long an entry may wait for others to share a batch, and a wake-up, with.
const GATHER: Duration = Duration::from_millis(100);

/// Entries at which nothing waits for others any more.
const ENOUGH: usize = 4 * BATCH_ENTRIES_MAX;

/// Gathers entries.
pub(super) struct Packer {
    converter: Converter,
    keeper: Keeper,
    shared: Arc<Shared>,
    /// Made with the first batch.
    compressor: Option<Compressor>,
    open: [Open; Class::ALL.len()],
}

/// A batch that is being gathered.
#[derive(Default)]
struct Open {
    names: Names,
    entries: usize,
    body: Vec<u8>,
    /// Position of each process in the batch, by what it is and who its parent is.
    positions: HashMap<[usize; 2], u32>,
    /// Keeps the addresses in `positions` taken.
    held: Vec<Arc<Event>>,
}

impl Open {
    fn is_full(&self) -> bool {
        self.entries >= BATCH_ENTRIES_MAX || self.body.len() >= BATCH_BYTES
    }
}

impl Packer {
    pub(super) fn new(converter: Converter, keeper: Keeper, shared: Arc<Shared>) -> Self {
        Self {
            converter,
            keeper,
            shared,
            compressor: None,
            open: Default::default(),
        }
    }

    /// Packs until the hub is closed and nothing is left.
    pub(super) async fn run(mut self, mut reader: Reader<Entry>) {
        if self.pack(&mut reader).await.is_err() {
            tracing::error!("nothing is delivered any more: {KeeperError}");
        }
        self.shared.packed.send_replace(true);
        self.keeper.nudge();
    }

    async fn pack(&mut self, reader: &mut Reader<Entry>) -> Result<(), KeeperError> {
        let mut items = Vec::with_capacity(BATCH_ENTRIES_MAX);
        loop {
            reader.filled(1).await;
            let _ = timeout(GATHER, reader.filled(ENOUGH)).await;
            let dropped = reader.take_dropped();
            if dropped > 0 {
                self.keeper.lose("", reason::FULL, dropped).await?;
            }
            let mut taken = 0;
            while reader.take(&mut items, BATCH_ENTRIES_MAX) > 0 {
                taken += items.len();
                for item in items.drain(..) {
                    self.add(&item).await?;
                }
            }
            self.close_all().await?;
            if taken == 0 {
                return self.keeper.flush().await;
            }
        }
    }

    async fn add(&mut self, item: &Entry) -> Result<(), KeeperError> {
        let class = Class::of(item);
        let entry = match item {
            Entry::Event(event) => self.event(event, class),
            item => self.converter.entry(item),
        };
        // The host is that of the stream, whatever this one is called when it is sent.
        let host = String::new();
        let entry = v1::Entry { host, ..entry };
        let open = &mut self.open[class as usize];
        let before = open.body.len();
        add_entry(&entry, &mut open.body);
        if open.body.len() - before > ENTRY_BYTES_MAX {
            // The collector would refuse the message that holds it.
            open.body.truncate(before);
            return self.keeper.lose(item.name(), reason::LONG, 1).await;
        }
        open.entries += 1;
        *open.names.entry(item.name()).or_default() += 1;
        if open.is_full() {
            self.close_all().await?;
        }
        Ok(())
    }

    /// Hands on what is gathered, of all classes, what matters least first: what a process did is with the collector before its end is.
    async fn close_all(&mut self) -> Result<(), KeeperError> {
        for class in Class::ALL {
            self.close(class).await?;
        }
        Ok(())
    }

    /// An event that refers to its process; what the batch does not have yet is added to it.
    fn event(&mut self, event: &Arc<Event>, class: Class) -> v1::Entry {
        let Some(process) = &event.process else {
            return self.converter.event_in_batch(event, 0);
        };
        let address = |process: &Arc<Process>| Arc::as_ptr(process).addr();
        let key = [address(process), event.parent.as_ref().map_or(0, address)];
        let Open {
            body,
            positions,
            held,
            ..
        } = &mut self.open[class as usize];
        let next = positions.len() as u32 + 1;
        let position = match positions.entry(key) {
            hash_map::Entry::Occupied(known) => *known.get(),
            hash_map::Entry::Vacant(place) => {
                let process = self.converter.process_of(process, event.parent.as_deref());
                add_process(&process, body);
                held.push(Arc::clone(event));
                *place.insert(next)
            }
        };
        self.converter.event_in_batch(event, position)
    }

    /// Hands the open batch of a class to the spool.
    async fn close(&mut self, class: Class) -> Result<(), KeeperError> {
        let Open {
            names, body, entries, ..
        } = std::mem::take(&mut self.open[class as usize]);
        if entries == 0 {
            return Ok(());
        }
        let Ok(body) = self.compress(&body) else {
            for (name, count) in names {
                self.keeper
                    .lose(name, "there was no memory to compress it", count)
                    .await?;
            }
            return Ok(());
        };
        self.keeper.append(Package { class, names, body }).await
    }

    fn compress(&mut self, body: &[u8]) -> std::io::Result<prost::bytes::Bytes> {
        let compressor = match self.compressor.take() {
            Some(compressor) => compressor,
            None => Compressor::new()?,
        };
        self.compressor.insert(compressor).compress(body)
    }
}
