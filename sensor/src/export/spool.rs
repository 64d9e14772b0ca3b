//! What waits for the collector, on disk, so that it outlives the agent, the line, and the host's power.
//!
//! ```text
//! packer ─▶ queue ─▶ thread: room? ─▶ memory ─▶ SQLite (one commit for all that came) ─▶ sender ─▶ collector
//!                              │                     ▲                                       │
//!                              └─ shed, counted ─────┘◀───────────── acknowledged ◀──────────┘
//! ```
//!
//! # Numbers
//! A batch has a *position*, which only grows, and a *sequence*, by which the collector knows it within its *epoch*. Each run of an agent
//! draws an epoch of its own at random, and what it appends belongs to it; so a sequence never means two things, however a disk was set
//! back, a directory copied or a host cloned: two copies of a batch have the same epoch, and the collector takes one.
//!
//! A sequence is given to a batch only shortly before it is sent, [`WINDOW`] batches ahead, in the same commit as everything else. A batch
//! that has one (is *bound*) may be on the way, and is neither shed nor changed. One that has none can be let go without a gap.
//!
//! # Room
//! When there is none for what comes, the newest batch of the lowest [`Class`] below it is let go; if there is none, what comes is. So
//! noise pushes out neither what matters more nor the beginning of an outage. What was let go is counted by signal, in the same commit,
//! and said as [`Loss`](super::Loss) once there is room again.
//!
//! # Trouble
//! What cannot be written to disk stays in memory, within [`MEMORY`], and is written when that works again; until then it is sent from
//! memory, and the status says so. A database that is damaged is set aside under another name.

mod class;
mod disk;
mod index;
mod keeper;
mod losses;
mod package;

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sensor_proto::{BATCH_ENTRIES_MAX, Compressor};

pub use class::Class;
pub use keeper::{Gauge, Keeper, KeeperError, Keeping};
pub use package::{Names, Numbered, Package};

use self::{
    disk::{Changes, Contents, Disk, ReadError},
    index::{Index, Numbering, Slot, span},
    losses::Losses,
};
pub(super) use losses::reason;

/// Name of the database in the agent's state directory.
pub const FILE: &str = "spool.db";

/// Batches that have their sequence before they are sent: several times as many as may be on the way.
pub const WINDOW: usize = 256;

/// What may wait in memory as long as the disk cannot be written, in bytes.
pub const MEMORY: u64 = 8 << 20;

/// How long the disk is left alone after it failed.
const RETRY: Duration = Duration::from_secs(1);

/// Acknowledged batches that are worth a commit of their own.
const WORTH_A_COMMIT: usize = 64;

/// Room that is made for what is said of losses.
const SAYING: u64 = 8 << 10;

/// How full a spool is, and how well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Batches that wait.
    pub batches: u64,
    /// What they take, in bytes.
    pub bytes: u64,
    /// What they may take, in bytes.
    pub limit: u64,
    /// Batches that were acknowledged since it was opened.
    pub acknowledged: u64,
    /// Entries that were let go since it was opened, by name.
    pub shed: Names,
    /// Where it is; `None` in memory.
    pub place: Option<PathBuf>,
    /// Why it is in memory, though it was to be on disk.
    pub trouble: Option<String>,
}

impl Usage {
    /// Entries that were let go since it was opened.
    #[must_use]
    pub fn shed_entries(&self) -> u64 {
        self.shed.values().sum()
    }
}

/// Keeps batches, numbered, until the collector has them. Bounded in bytes. Calls of it may wait for the disk.
#[derive(Debug)]
pub struct Spool {
    place: Option<PathBuf>,
    machine: String,
    limit: u64,
    disk: Option<Disk>,
    /// Why the disk is not used, and since when.
    trouble: Option<(String, Instant)>,
    index: Index,
    /// Of what waits, the oldest first; the last one is this run's.
    numberings: VecDeque<Numbering>,
    /// What the database does not have yet.
    fresh: BTreeMap<u64, Package>,
    fresh_bytes: u64,
    /// What the database has and should not.
    gone: Vec<u64>,
    next: u64,
    losses: Losses,
    losses_changed: bool,
    compressor: Option<Compressor>,
    acknowledged: u64,
    shed: Names,
}

impl Spool {
    /// The spool at `path`, with room for `limit` bytes. Where the disk cannot be used, it is in memory, and says why.
    #[must_use]
    pub fn open(path: &Path, limit: u64) -> Self {
        let mut spool = Self::empty(limit);
        spool.place = Some(path.to_owned());
        spool.machine = machine();
        spool.attach(true);
        spool
    }

    /// One that is forgotten with the agent.
    #[must_use]
    pub fn in_memory(limit: u64) -> Self {
        let mut spool = Self::empty(limit);
        spool.begin_numbering();
        spool
    }

    fn empty(limit: u64) -> Self {
        Self {
            place: None,
            machine: String::new(),
            limit,
            disk: None,
            trouble: None,
            index: Index::default(),
            numberings: VecDeque::new(),
            fresh: BTreeMap::new(),
            fresh_bytes: 0,
            gone: Vec::new(),
            next: 1,
            losses: Losses::default(),
            losses_changed: false,
            compressor: Compressor::new().ok(),
            acknowledged: 0,
            shed: Names::new(),
        }
    }

    /// Takes a package, or lets it go, or another for it.
    pub fn append(&mut self, package: Package) {
        let charge = slot(&package).charge();
        if self.make_room(package.class, charge) {
            self.insert(package);
        } else {
            self.count(&package.names, reason::FULL);
        }
    }

    /// Entries of `name` (`""`: any) never came this far.
    pub fn lose(&mut self, name: &'static str, why: &'static str, count: u64) {
        if count > 0 {
            self.count(&Names::from([(name, count)]), why);
        }
    }

    /// Whether enough has changed for a [`commit`](Self::commit).
    #[must_use]
    pub fn is_due(&self) -> bool {
        let unwritten = !self.fresh.is_empty() || self.losses_changed;
        unwritten || self.gone.len() >= WORTH_A_COMMIT || self.may_say() || self.wants_binding()
    }

    /// Writes what has changed. What cannot be written stays in memory.
    pub fn commit(&mut self) {
        if self.may_say() {
            self.say();
        }
        self.bind();
        self.write();
    }

    /// The epoch of what is to be sent first.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        let first = self.index.first().unwrap_or(u64::MAX);
        let at = self
            .numberings
            .iter()
            .rposition(|numbering| numbering.first <= first);
        at.map_or(0, |at| self.numberings[at].epoch)
    }

    /// Up to `count` batches of `epoch` behind `sequence`, that are safe on disk or cannot be: about [`BYTES_AT_ONCE`](Self::BYTES_AT_ONCE)
    /// at most.
    pub fn batches(&mut self, epoch: u64, sequence: u64, count: usize) -> Vec<Numbered> {
        let Some(at) = self.find(epoch) else {
            return Vec::new();
        };
        let numbering = &self.numberings[at];
        let Some(skipped) = sequence.checked_sub(numbering.acknowledged) else {
            return Vec::new();
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let bound = self
            .index
            .range(span(&self.numberings, at))
            .take(numbering.waiting());
        let positions: Vec<u64> = bound
            .skip(skipped)
            .take(count)
            .map(|(position, _)| position)
            .collect();
        let (mut batches, mut bytes) = (Vec::new(), 0);
        for (sequence, position) in (sequence + 1..).zip(positions) {
            let Some(body) = self.body(position) else {
                break;
            };
            bytes += body.len();
            batches.push(Numbered { sequence, body });
            if bytes >= Self::BYTES_AT_ONCE {
                break;
            }
        }
        batches
    }

    /// See [`batches`](Self::batches).
    pub const BYTES_AT_ONCE: usize = 4 << 20;

    /// The collector has everything of `epoch` up to `sequence`, and it is let go here.
    pub fn acknowledge(&mut self, epoch: u64, sequence: u64) {
        let Some(at) = self.find(epoch) else { return };
        let sequence = sequence.min(self.numberings[at].bound);
        let count = sequence.saturating_sub(self.numberings[at].acknowledged);
        self.let_go(at, count);
    }

    /// The collector will not have batch `sequence` of `epoch`, which is the next that it could take: it is told so in its place, and gets
    /// what comes after it.
    pub fn refuse(&mut self, epoch: u64, sequence: u64) {
        let Some(at) = self.find(epoch) else { return };
        let waiting = self.index.range(span(&self.numberings, at));
        let skipped = sequence.saturating_sub(self.numberings[at].acknowledged + 1);
        let position = waiting
            .skip(skipped as usize)
            .map(|(position, _)| position)
            .next();
        if let Some(position) = position {
            self.substitute(position, reason::REFUSED);
        }
    }

    /// The collector says that it has everything of `epoch` up to `stored`. Returns false where that cannot be continued from here, as after
    /// it lost its data: then what waits of it has got a new epoch, and is sent again.
    pub fn resume(&mut self, epoch: u64, stored: u64) -> bool {
        let Some(at) = self.find(epoch) else {
            return false;
        };
        let is_own = at + 1 == self.numberings.len();
        let numbering = &self.numberings[at];
        if stored < numbering.acknowledged || (is_own && stored > numbering.bound) {
            self.renumber(at);
            return false;
        }
        // A former run had given more sequences than was written of it here, as in a copy of its directory: to these batches, in this order.
        self.let_go(at, stored - self.numberings[at].acknowledged);
        true
    }

    /// Says that the agent ends, and what of it is kept.
    pub fn end(mut self) -> Usage {
        self.trouble = None;
        self.commit();
        let usage = self.usage();
        if let Some(disk) = self.disk.take()
            && let Err(error) = disk.end(&self.machine)
        {
            tracing::debug!("the spool was not closed: {error}");
        }
        usage
    }

    /// How full it is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            batches: self.index.len() as u64,
            bytes: self.index.bytes(),
            limit: self.limit,
            acknowledged: self.acknowledged,
            shed: self.shed.clone(),
            place: self.place.clone().filter(|_| self.trouble.is_none()),
            trouble: self.trouble.as_ref().map(|(why, _)| why.clone()),
        }
    }

    fn find(&self, epoch: u64) -> Option<usize> {
        self.numberings
            .iter()
            .rposition(|numbering| numbering.epoch == epoch)
    }

    fn insert(&mut self, package: Package) {
        self.index.insert(self.next, slot(&package));
        self.fresh_bytes += slot(&package).charge();
        self.fresh.insert(self.next, package);
        self.next += 1;
    }

    /// Removes the first `count` batches of a numbering: they have the sequences after the last that was acknowledged.
    fn let_go(&mut self, at: usize, count: u64) {
        let positions = self.index.range(span(&self.numberings, at));
        let taken = usize::try_from(count).unwrap_or(usize::MAX);
        let positions: Vec<u64> = positions.take(taken).map(|(position, _)| position).collect();
        self.acknowledged += positions.len() as u64;
        positions.into_iter().for_each(|position| self.remove(position));
        let numbering = &mut self.numberings[at];
        numbering.acknowledged += count;
        numbering.bound = numbering.bound.max(numbering.acknowledged);
        numbering.changed = true;
        while self.numberings.len() > 1 && self.index.range(span(&self.numberings, 0)).next().is_none() {
            self.numberings.pop_front();
        }
    }

    fn remove(&mut self, position: u64) {
        self.index.remove(position);
        match self.fresh.remove(&position) {
            Some(package) => self.fresh_bytes -= slot(&package).charge(),
            None => self.gone.push(position),
        }
    }

    /// Begins a numbering for what comes.
    fn begin_numbering(&mut self) {
        self.numberings.push_back(Numbering::new(self.next, draw()));
    }

    /// What waits of a numbering gets a new epoch, in which nothing has a sequence yet.
    fn renumber(&mut self, at: usize) {
        let numbering = &mut self.numberings[at];
        *numbering = Numbering::new(numbering.first, draw());
    }

    /// Lets go of what is worth less, until there is room. False if there is not.
    fn make_room(&mut self, class: Class, charge: u64) -> bool {
        loop {
            let is_full = self.index.bytes() + charge > self.limit;
            let is_crowded = self.is_failing() && self.fresh_bytes + charge > self.memory();
            if !is_full && !is_crowded {
                return true;
            }
            let mut from = self.last_bound() + 1;
            if is_crowded {
                from = from.max(
                    self.fresh
                        .first_key_value()
                        .map_or(u64::MAX, |(position, _)| *position),
                );
            }
            let Some(position) = self.index.victim(class, from) else {
                return false;
            };
            self.shed(position);
        }
    }

    /// What may wait in memory though it should be on disk.
    fn memory(&self) -> u64 {
        self.limit.min(MEMORY)
    }

    /// The last batch that has a sequence.
    fn last_bound(&self) -> u64 {
        let last = |at: usize| {
            let bound = self
                .index
                .range(span(&self.numberings, at))
                .take(self.numberings[at].waiting());
            bound.last()
        };
        let last = (0..self.numberings.len()).rev().find_map(last);
        last.map_or(0, |(position, _)| position)
    }

    fn shed(&mut self, position: u64) {
        let names = match self.fresh.get(&position) {
            Some(package) => Some(package.names.clone()),
            None => self
                .disk
                .as_ref()
                .and_then(|disk| package::names(&disk.body(position).ok()?)),
        };
        let entries = self.index.get(position).map_or(0, |slot| u64::from(slot.entries));
        self.remove(position);
        self.count(
            &names.unwrap_or_else(|| Names::from([("", entries)])),
            reason::FULL,
        );
    }

    fn count(&mut self, names: &Names, why: &'static str) {
        for (name, count) in names {
            *self.shed.entry(name).or_default() += count;
        }
        self.losses.add_all(names, why);
        self.losses_changed = true;
    }

    /// A spool that is full, because the collector is away, has better use for its room.
    fn may_say(&self) -> bool {
        let has_room = |bytes: u64, limit: u64| bytes + SAYING <= limit / 8 * 7;
        let has_memory = !self.is_failing() || has_room(self.fresh_bytes, self.memory());
        !self.losses.is_empty() && has_room(self.index.bytes(), self.limit) && has_memory
    }

    /// What should be on disk is not.
    fn is_failing(&self) -> bool {
        self.place.is_some() && (self.disk.is_none() || self.trouble.is_some())
    }

    fn say(&mut self) {
        if let Some(package) = self.loss_package(&self.losses.clone()) {
            self.insert(package);
            self.losses.clear();
            self.losses_changed = true;
        }
    }

    fn loss_package(&mut self, losses: &Losses) -> Option<Package> {
        let (body, entries) = losses.to_body();
        debug_assert!(entries <= BATCH_ENTRIES_MAX as u64, "kinds of loss are bounded");
        let body = self.compressor.as_mut()?.compress(&body).ok()?;
        Some(Package {
            class: Class::Important,
            names: Names::from([("loss", entries)]),
            body,
        })
    }

    /// Whether a batch could be given a sequence.
    fn wants_binding(&self) -> bool {
        let waiting: usize = self.numberings.iter().map(Numbering::waiting).sum();
        waiting == 0 && self.index.len() > 0
    }

    /// Gives sequences to the first batches, as far as the window goes, and not to more than a quarter of the room.
    fn bind(&mut self) {
        let (mut room, mut count) = (self.limit / 4, WINDOW);
        for at in 0..self.numberings.len() {
            let waiting = self.numberings[at].waiting();
            let mut bound = 0;
            for (_, slot) in self.index.range(span(&self.numberings, at)) {
                if count == 0 || (room == 0 && bound >= waiting) {
                    break;
                }
                (room, count) = (room.saturating_sub(slot.charge()), count - 1);
                bound += 1;
            }
            if bound > waiting {
                let numbering = &mut self.numberings[at];
                numbering.bound += (bound - waiting) as u64;
                numbering.changed = true;
            }
        }
    }

    fn write(&mut self) {
        let Some(place) = self.place.clone() else {
            self.gone.clear();
            return;
        };
        if self
            .trouble
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() < RETRY)
        {
            return;
        }
        if self.disk.is_none() {
            self.attach(true);
        }
        let has_room = self.fresh.is_empty() || disk::has_room(&place);
        let Some(disk) = &mut self.disk else { return };
        // What is gone makes room.
        let put = self.fresh.iter().take(if has_room { usize::MAX } else { 0 });
        let mut put = put.map(|(position, package)| (*position, package));
        let written = disk.write(&mut Changes {
            gone: &self.gone,
            put: &mut put,
            numberings: &self.numberings,
            losses: self.losses_changed.then_some(&self.losses),
        });
        match written {
            Ok(()) if has_room => self.written(),
            Ok(()) => {
                self.gone.clear();
                self.complain(format!(
                    "less than {} MiB are free on its file system",
                    disk::LEFT_FREE >> 20
                ));
            }
            Err(error) if sensor_storage::is_damaged(&error) => self.replace(&error.to_string()),
            Err(error) => {
                let nothing_is_on_disk = self.index.len() == self.fresh.len();
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) && nothing_is_on_disk {
                    self.begin_anew(&place);
                }
                self.complain(error.to_string());
            }
        }
    }

    /// On a disk that has no room to delete in.
    fn begin_anew(&mut self, place: &Path) {
        self.disk = None;
        self.gone.clear();
        self.losses_changed = true;
        disk::remove(place);
    }

    fn written(&mut self) {
        self.fresh.clear();
        self.fresh_bytes = 0;
        self.gone.clear();
        self.losses_changed = false;
        self.numberings
            .iter_mut()
            .for_each(|numbering| numbering.changed = false);
        if self.trouble.take().is_some() {
            tracing::info!("the spool {} can be written again", self.shown());
        }
    }

    fn complain(&mut self, why: String) {
        if self.trouble.is_none() {
            tracing::warn!(
                "cannot write to the spool {}: {why}; what waits for the collector waits in memory, {} MiB at most",
                self.shown(),
                self.memory() >> 20
            );
        }
        self.trouble = Some((why, Instant::now()));
    }

    fn shown(&self) -> String {
        self.place
            .as_ref()
            .map_or_else(String::new, |place| place.display().to_string())
    }

    fn body(&mut self, position: u64) -> Option<prost::bytes::Bytes> {
        if let Some(package) = self.fresh.get(&position) {
            return Some(package.body.clone());
        }
        match self.disk.as_ref()?.body(position) {
            Ok(body) => Some(body),
            Err(ReadError::Database(error)) if sensor_storage::is_damaged(&error) => {
                self.replace(&error.to_string());
                None
            }
            Err(ReadError::Changed | ReadError::Database(rusqlite::Error::QueryReturnedNoRows)) => {
                self.substitute(position, reason::DAMAGED)
            }
            Err(ReadError::Database(error)) => {
                self.complain(error.to_string());
                None
            }
        }
    }

    /// In the place of a batch that cannot be delivered, why it is not: its number must be sent.
    fn substitute(&mut self, position: u64, why: &'static str) -> Option<prost::bytes::Bytes> {
        let entries = self.index.get(position).map_or(0, |slot| u64::from(slot.entries));
        let mut losses = Losses::default();
        losses.add("", why, entries);
        let package = self.loss_package(&losses)?;
        *self.shed.entry("").or_default() += entries;
        tracing::warn!("{entries} entries in the spool {} are lost: {why}", self.shown());
        let body = package.body.clone();
        self.index.insert(position, slot(&package));
        self.fresh_bytes += slot(&package).charge();
        if let Some(former) = self.fresh.insert(position, package) {
            self.fresh_bytes -= slot(&former).charge();
        }
        Some(body)
    }
}

/// Opening the database, and beginning another.
impl Spool {
    /// Opens the database and takes over what waits in it, before what waits in memory. One that is damaged is replaced, once.
    fn attach(&mut self, may_replace: bool) {
        let Some(place) = self.place.clone() else { return };
        let opened = Disk::open(&place, self.limit).and_then(|(disk, aside)| {
            disk.contents()
                .map(|contents| (disk, contents, aside))
                .map_err(|cause| sensor_storage::StorageError::Database {
                    path: place.clone(),
                    cause,
                })
        });
        match opened {
            Ok((disk, contents, aside)) => {
                if let Some(aside) = aside {
                    self.tell_of(&aside);
                }
                self.disk = Some(disk);
                self.take_over(contents);
            }
            Err(error) if error.is_damage() && may_replace => self.replace(&error.to_string()),
            Err(error) => {
                if self.numberings.is_empty() {
                    self.begin_numbering();
                }
                self.complain(error.to_string());
            }
        }
    }

    fn take_over(&mut self, contents: Contents) {
        let is_known = !contents.machine.is_empty() && !self.machine.is_empty();
        if is_known && contents.machine != self.machine {
            self.refuse_foreign(&contents);
            return;
        }
        if !contents.ended {
            self.losses.add("", reason::UNFINISHED, 0);
        }
        for (kind, tally) in contents.losses.iter() {
            self.losses.merge(kind.clone(), *tally);
        }
        self.losses_changed = true;
        let newest = contents.numberings.back().map_or(0, |numbering| numbering.first);
        let next = newest.max(contents.index.last().unwrap_or(0)) + 1;
        let own = self.numberings.pop_back();
        self.index = contents.index;
        self.numberings = contents.numberings;
        self.drop_finished();
        // What is in memory already, because the disk could not be used so far, comes behind what is on it, with the sequences it has.
        let fresh = std::mem::take(&mut self.fresh);
        self.fresh_bytes = 0;
        self.next = next;
        self.begin_numbering();
        if let (Some(own), Some(last)) = (own, self.numberings.back_mut()) {
            *last = Numbering {
                first: last.first,
                changed: true,
                ..own
            };
        }
        fresh.into_values().for_each(|package| self.insert(package));
        self.sign();
    }

    /// Runs of which nothing waits any more.
    fn drop_finished(&mut self) {
        let is_empty = |at: usize| self.index.range(span(&self.numberings, at)).next().is_none();
        let empty: Vec<bool> = (0..self.numberings.len()).map(is_empty).collect();
        let mut empty = empty.into_iter();
        self.numberings.retain(|_| !empty.next().unwrap_or(false));
        // What is before all of them is of a run whose row is lost.
        if let Some(first) = self.index.first()
            && self
                .numberings
                .front()
                .is_none_or(|numbering| first < numbering.first)
        {
            self.numberings.push_front(Numbering::new(first, draw()));
        }
    }

    fn sign(&mut self) {
        if let Some(disk) = &self.disk
            && let Err(error) = disk.sign(&self.machine, false)
        {
            self.complain(error.to_string());
        }
    }

    /// The directory was copied from another machine, which still has what waits in it.
    fn refuse_foreign(&mut self, contents: &Contents) {
        let count = contents
            .index
            .range(0..u64::MAX)
            .map(|(_, slot)| u64::from(slot.entries))
            .sum();
        self.disk = None;
        let aside = self
            .place
            .as_ref()
            .and_then(|place| sensor_storage::set_aside(place, "foreign").ok());
        let Some(aside) = aside else {
            if self.numberings.is_empty() {
                self.begin_numbering();
            }
            self.complain("it is another machine's, and cannot be moved away".to_owned());
            return;
        };
        tracing::warn!(
            "the spool {} was written on another machine: it is kept as {}, and a new one is begun",
            self.shown(),
            aside.display()
        );
        self.losses.add("", reason::FOREIGN, count);
        self.attach(false);
    }

    /// Sets a damaged database aside and begins another. What waited in it is lost, and counted.
    fn replace(&mut self, why: &str) {
        self.disk = None;
        let Some(place) = self.place.clone() else { return };
        let on_disk: Vec<_> = self
            .index
            .range(0..u64::MAX)
            .map(|(position, slot)| (position, slot.entries))
            .collect();
        for (position, entries) in on_disk {
            if !self.fresh.contains_key(&position) {
                self.index.remove(position);
                self.count(&Names::from([("", u64::from(entries))]), reason::DAMAGED);
            }
        }
        self.gone.clear();
        self.numberings.clear();
        self.begin_numbering_of_all();
        match sensor_storage::set_aside(&place, sensor_storage::CORRUPT) {
            Ok(aside) => {
                self.tell_of(&format!("{} ({why})", aside.display()));
                self.attach(false);
            }
            Err(error) => self.complain(error.to_string()),
        }
    }

    /// What is in memory gets a numbering of its own.
    fn begin_numbering_of_all(&mut self) {
        let first = self.index.first().unwrap_or(self.next);
        self.numberings.push_back(Numbering::new(first, draw()));
    }

    fn tell_of(&mut self, aside: &str) {
        tracing::warn!(
            "the spool {} is damaged: it is kept as {aside}, and a new one is begun",
            self.shown()
        );
        self.losses.add("", reason::ASIDE, 0);
        self.losses_changed = true;
    }
}

fn slot(package: &Package) -> Slot {
    Slot {
        class: package.class,
        entries: package.entries() as u32,
        length: package.body.len() as u32,
    }
}

/// An epoch that was never used.
fn draw() -> u64 {
    let bytes = crate::state::random().unwrap_or_else(|_| {
        let now = crate::time::WallTime::now().0.to_ne_bytes();
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&now);
        bytes
    });
    let (first, _) = bytes.split_at(8);
    first.try_into().map_or(0, u64::from_ne_bytes)
}

/// Which machine this is: the same after a restart, another for a copy that systemd has given an id of its own. "" where nobody says.
fn machine() -> String {
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    id.trim().chars().take(64).collect()
}

#[cfg(test)]
mod tests;
