//! From the hub's queue to the spool: entries are converted and gathered into batches.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
    time::Duration,
};

use sensor_proto::{BATCH_BYTES, BATCH_ENTRIES_MAX, ENTRY_BYTES_MAX, fanout::Reader, v1};
use tokio::time::timeout;

use super::{
    Shared,
    frames::{add_entry, add_process},
};
use crate::{
    export::{Converter, Entry, Loss, convert::convert_loss, spool::Package},
    host::{Event, Process},
    time::WallTime,
};

/// How long an entry may wait for others to share a batch, and a wake-up, with.
const GATHER: Duration = Duration::from_millis(100);

/// Entries at which nothing waits for others any more.
const ENOUGH: usize = 4 * BATCH_ENTRIES_MAX;

/// Gathers entries.
pub(super) struct Packer {
    converter: Converter,
    shared: Arc<Shared>,
    open: Open,
    lost: Lost,
}

/// The batch that is being gathered.
#[derive(Default)]
struct Open {
    entries: usize,
    body: Vec<u8>,
    important: bool,
    /// Position of each process in the batch, by what it is and who its parent is.
    positions: HashMap<[usize; 2], u32>,
    /// Keeps the addresses in `positions` taken.
    held: Vec<Arc<Event>>,
}

/// What was lost and not yet said to be.
#[derive(Default)]
struct Lost {
    count: u64,
    from: WallTime,
}

impl Packer {
    pub(super) fn new(converter: Converter, shared: Arc<Shared>) -> Self {
        Self {
            converter,
            shared,
            open: Open::default(),
            lost: Lost::default(),
        }
    }

    /// Packs until the hub is closed and nothing is left.
    pub(super) async fn run(mut self, mut reader: Reader<Entry>) {
        let mut items = Vec::with_capacity(BATCH_ENTRIES_MAX);
        loop {
            reader.filled(1).await;
            let _ = timeout(GATHER, reader.filled(ENOUGH)).await;
            self.lose(reader.take_dropped());
            let mut taken = 0;
            while reader.take(&mut items, BATCH_ENTRIES_MAX) > 0 {
                taken += items.len();
                items.drain(..).for_each(|item| self.add(&item));
            }
            self.close();
            if taken == 0 {
                break;
            }
        }
        self.shared.packed.send_replace(true);
        self.shared.changed.notify_one();
    }

    fn add(&mut self, item: &Entry) {
        let entry = match item {
            Entry::Event(event) => self.event(event),
            item => self.converter.entry(item),
        };
        let before = self.open.body.len();
        self.put(&entry);
        if self.open.body.len() - before > ENTRY_BYTES_MAX {
            // The collector would refuse the message that holds it.
            self.open.body.truncate(before);
            self.open.entries -= 1;
            self.lose(1);
            return;
        }
        self.open.important |= matches!(item, Entry::Signal(_) | Entry::Incident(_) | Entry::Outcome(_));
        // One place is left for what was lost.
        if self.open.entries >= BATCH_ENTRIES_MAX - 1 || self.open.body.len() >= BATCH_BYTES {
            self.close();
        }
    }

    /// An event that refers to its process; what the batch does not have yet is added to it.
    fn event(&mut self, event: &Arc<Event>) -> v1::Entry {
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
        } = &mut self.open;
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

    fn put(&mut self, entry: &v1::Entry) {
        add_entry(entry, &mut self.open.body);
        self.open.entries += 1;
    }

    /// Hands the open batch to the spool, with what was lost before it.
    fn close(&mut self) {
        let said = std::mem::take(&mut self.lost);
        if said.count > 0 {
            let loss = loss(&said);
            let body = v1::entry::Body::Loss(convert_loss(&loss));
            self.put(&v1::Entry {
                host: self.converter.host().to_owned(),
                body: Some(body),
            });
        }
        let Open {
            entries,
            body,
            important,
            ..
        } = std::mem::take(&mut self.open);
        if entries == 0 {
            return;
        }
        let appended = self.shared.spool().append(Package {
            body: body.into(),
            important,
        });
        match appended {
            Ok(()) => self.shared.changed.notify_one(),
            // The loss that could not be said is still to be said, and what was shed with it.
            Err(error) => {
                tracing::debug!("{error}");
                let own = usize::from(said.count > 0);
                let shed = (entries - own) as u64;
                self.lost = said;
                self.lose(shed);
            }
        }
    }

    fn lose(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        self.shared.link().shed += count;
        if self.lost.count == 0 {
            self.lost.from = WallTime::now();
        }
        self.lost.count += count;
    }
}

fn loss(lost: &Lost) -> Loss {
    Loss {
        stage: "uplink",
        signal: None,
        count: lost.count,
        reason: "the collector was slower than this host, or away, and there was no room to wait",
        from: lost.from,
        to: WallTime::now(),
    }
}
