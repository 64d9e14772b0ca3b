//! The thread that keeps the lake: makes runs of fresh batches, larger runs of small ones, and takes the oldest when their time has come
//! or there is no room.
//!
//! It reads beside the writer and changes nothing itself: what it has made it hands to the writer, who lists it. When it fails (a full disk), it says so
//! and tries again; meanwhile batches stay where they are, in SQLite, and can be asked for all the same.

use std::{
    io,
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Day, damage,
    file::{FileError, FileWriter, Naming, folder, remove_unlisted},
    lease::Leases,
    merge,
    rows::{Builder, Layout},
};
use crate::{
    store::{Change, Position, Reader, Run, StoreError, StoredBatch},
    writer::{WriteError, Writer},
};

/// A run is made when there are so many fresh entries…
pub const RUN_ENTRIES: u64 = 128 << 10;

/// …or, counted as they were stored, when one would have so many bytes. Both bound the memory that making it takes: some hundred MiB at most.
const RUN_BYTES: usize = 32 << 20;

/// Runs that become one.
const WIDTH: usize = 8;

/// A run of as many entries is not put together any further.
const MERGED_ENTRIES: u64 = 8 << 20;

/// How often the keeper looks whether there is something to do.
const PAUSE: Duration = Duration::from_millis(250);

/// How long the keeper waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// A run is made when its first entry has been here so long, even if it is small.
    pub fresh_for: Duration,
    /// Days after which entries are taken, counted from their arrival; none for never.
    pub days: Option<u32>,
    /// Bytes that the lake may have; none for no limit.
    pub bytes: Option<u64>,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            fresh_for: Duration::from_secs(60),
            days: None,
            bytes: None,
        }
    }
}

/// Why the lake could not be kept.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("a batch at position {position} cannot be set aside as {}: {cause}", path.display())]
    Aside {
        position: Position,
        path: PathBuf,
        cause: io::Error,
    },
    #[error("cannot put runs together: {0}")]
    Merge(#[from] merge::MergeError),
}

/// What the keeper has done, for metrics.
#[derive(Debug, Default)]
pub struct Tally {
    /// Runs that were made of batches.
    pub made: AtomicU64,
    /// Runs that were put together from smaller ones.
    pub merged: AtomicU64,
    /// Entries that retention has taken.
    pub taken: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
}

/// The thread. Dropping this lets it end soon; [`stop`](Self::stop) waits for that.
#[derive(Debug)]
pub struct Keeper {
    stopping: Arc<AtomicBool>,
    tally: Arc<Tally>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Keeper {
    /// Removes what a crash has left, and starts the thread.
    ///
    /// # Errors
    /// If the lake cannot be read, or no thread can be started.
    pub fn start(
        data: PathBuf,
        reader: Reader,
        writer: Writer,
        leases: Leases,
        keeping: Keeping,
    ) -> Result<Self, StartError> {
        let runs = reader.runs()?;
        let names = runs
            .iter()
            .flat_map(|run| &run.files)
            .map(|file| file.name.as_str());
        let removed = remove_unlisted(&folder(&data), names)?;
        if removed > 0 {
            tracing::info!(
                "{removed} files of the lake were not finished when the collector last ended; they are removed"
            );
        }
        let stopping = Arc::<AtomicBool>::default();
        let tally = Arc::<Tally>::default();
        let work = Work {
            data,
            reader,
            writer,
            leases,
            keeping,
            stopping: Arc::clone(&stopping),
            tally: Arc::clone(&tally),
            merger: merge::Merger::new().map_err(StartError::Thread)?,
        };
        let thread = thread::Builder::new()
            .name("lake".into())
            .spawn(move || work.run())
            .map_err(StartError::Thread)?;
        Ok(Self {
            stopping,
            tally,
            thread: Some(thread),
        })
    }

    /// What it has done so far.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Lets it finish or give up what it is at, and waits for that.
    pub fn stop(mut self) {
        let thread = self.thread.take();
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = thread {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the keeper of the lake panicked; nothing that was stored is affected");
            }
        }
    }
}

/// Why the keeper cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The list of runs cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake's folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// No thread.
    #[error("cannot start the thread that keeps the lake: {0}; there may be too many processes on this host")]
    Thread(io::Error),
}

struct Work {
    data: PathBuf,
    reader: Reader,
    writer: Writer,
    leases: Leases,
    keeping: Keeping,
    stopping: Arc<AtomicBool>,
    tally: Arc<Tally>,
    merger: merge::Merger,
}

impl Work {
    fn run(mut self) {
        crate::priority::give_way();
        while !self.stopping.load(Ordering::Relaxed) {
            let pause = match self.turn() {
                Ok(true) => continue,
                Ok(false) => PAUSE,
                Err(KeepError::Write(WriteError::Stopping)) => return,
                Err(error) => {
                    self.tally.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(
                        "{error}; the lake is left as it is, and tried again in {AFTER_FAILURE:?}"
                    );
                    AFTER_FAILURE
                }
            };
            thread::park_timeout(pause);
        }
    }

    /// Does what is due, one thing of each kind in turn: a flood that makes runs all the time does not keep them from being put
    /// together. False if nothing was.
    fn turn(&mut self) -> Result<bool, KeepError> {
        let retained = self.retain()?;
        let made = self.make()?;
        let merged = self.merge()?;
        Ok(retained || made || merged)
    }

    /// Makes a run of the oldest batches, if they are many or old enough.
    fn make(&mut self) -> Result<bool, KeepError> {
        let Some((entries, since)) = self.reader.backlog()? else {
            return Ok(false);
        };
        let age = now_ns().saturating_sub(since);
        // A clock that was set back makes no entry wait for ever.
        let old = age < 0 || u128::from(age.unsigned_abs()) >= self.keeping.fresh_for.as_nanos();
        if entries < RUN_ENTRIES && !old {
            return Ok(false);
        }
        let Some(batches) = self.gather()? else {
            return Ok(false);
        };
        let run = self.write(batches)?;
        let entries = run.entries();
        self.writer.change_lake(Change::Add(run))?;
        self.tally.made.fetch_add(1, Ordering::Relaxed);
        tracing::debug!("{entries} entries have become a run of the lake");
        Ok(true)
    }

    /// Rows of the oldest batches, as many as a run may have, all of one day.
    fn gather(&self) -> Result<Option<Gathered>, KeepError> {
        let mut gathered: Option<Gathered> = None;
        let mut unreadable = Vec::new();
        self.reader.batches(Position(0), |batch| {
            let run = gathered.get_or_insert_with(|| Gathered::new(&batch));
            let full = run.past.0 - run.first.0 >= RUN_ENTRIES || run.bytes >= RUN_BYTES;
            if full || run.day != batch.day() {
                return ControlFlow::Break(());
            }
            run.past = batch.past();
            run.bytes += batch.body.len();
            if let Err(error) = run.rows.push(&batch, batch.position) {
                unreadable.push((batch, error));
            }
            ControlFlow::Continue(())
        })?;
        for (batch, error) in unreadable {
            self.set_aside(&batch, &error.to_string())?;
        }
        Ok(gathered)
    }

    /// A batch was read when it arrived, so that it cannot be now is damage of the disk. It must not hold up all that come after it.
    fn set_aside(&self, batch: &StoredBatch, error: &str) -> Result<(), KeepError> {
        let path = self.data.join(format!("batch-{}.unreadable", batch.position));
        tracing::error!(
            "{} entries of {} from position {} on cannot be read any more ({error}): set aside as {}",
            batch.entries,
            batch.host,
            batch.position,
            path.display()
        );
        std::fs::write(&path, &batch.body).map_err(|cause| KeepError::Aside {
            position: batch.position,
            path,
            cause,
        })
    }

    fn write(&self, gathered: Gathered) -> Result<Run, KeepError> {
        let lake = folder(&self.data);
        let Gathered {
            first,
            past,
            day,
            rows,
            ..
        } = gathered;
        let mut files = Vec::new();
        for table in rows.finish().map_err(FileError::Rows)? {
            let Some(class) = table.class else { continue };
            let naming = Naming {
                class,
                day,
                first,
                past,
                level: 0,
            };
            let mut file = FileWriter::create(&lake, &naming, table.rows.schema())?;
            file.write(&table.rows)?;
            files.push(file.finish()?);
        }
        Ok(Run {
            first,
            past,
            day,
            level: 0,
            files,
        })
    }

    /// Puts runs together that follow each other, if there are enough of a size.
    fn merge(&mut self) -> Result<bool, KeepError> {
        let runs = self.reader.runs()?;
        let Some(group) = due(&runs, Day::of(now_ns())) else {
            return Ok(false);
        };
        let lake = folder(&self.data);
        let new = match self.merger.merge(&lake, group, &self.stopping) {
            Ok(Some(new)) => new,
            Ok(None) => return Ok(false),
            Err(error @ merge::MergeError::Read(_)) => {
                // One that cannot be read would be in the way of all that come after it, for ever. The others are put together at once,
                // if it could be taken off the list.
                let files = group.iter().flat_map(|run| &run.files);
                damage::set_aside(&lake, files, Some(&self.writer));
                return if self.reader.runs()? == runs {
                    Err(error.into())
                } else {
                    Ok(true)
                };
            }
            Err(error) => return Err(error.into()),
        };
        let old: Vec<_> = group.iter().map(|run| run.first).collect();
        let entries = new.entries();
        self.writer.change_lake(Change::Replace { old, new })?;
        self.remove(group);
        self.tally.merged.fetch_add(1, Ordering::Relaxed);
        tracing::debug!("{} runs of {entries} entries have become one", group.len());
        Ok(true)
    }

    /// Takes the oldest runs, if they are too old or too much.
    fn retain(&mut self) -> Result<bool, KeepError> {
        if self.keeping.days.is_none() && self.keeping.bytes.is_none() {
            return Ok(false);
        }
        let runs = self.reader.runs()?;
        let count = excess(&runs, &self.keeping, Day::of(now_ns()));
        let Some(last) = count.checked_sub(1).and_then(|last| runs.get(last)) else {
            return Ok(false);
        };
        self.writer.change_lake(Change::Take(last.past))?;
        self.remove(&runs[..count]);
        let entries: u64 = runs[..count].iter().map(Run::entries).sum();
        self.tally.taken.fetch_add(entries, Ordering::Relaxed);
        tracing::info!(
            "{entries} entries up to {} were kept for their time and are taken; position {} is the first that is left",
            last.day,
            last.past
        );
        Ok(true)
    }

    fn remove(&self, runs: &[Run]) {
        let lake = folder(&self.data);
        let files = runs.iter().flat_map(|run| &run.files);
        self.leases.remove(files.map(|file| lake.join(&file.name)));
    }
}

/// Batches that become a run.
#[derive(Debug)]
struct Gathered {
    first: Position,
    past: Position,
    day: Day,
    bytes: usize,
    rows: Builder,
}

impl Gathered {
    fn new(batch: &StoredBatch) -> Self {
        Self {
            first: batch.position,
            past: batch.position,
            day: batch.day(),
            bytes: 0,
            rows: Builder::new(Layout::ByClass),
        }
    }
}

/// The first [`WIDTH`] runs of one day and level that follow each other; of a day that is over, fewer are enough.
fn due(runs: &[Run], today: Day) -> Option<&[Run]> {
    let mut start = 0;
    for end in 1..=runs.len() {
        let group = &runs[start..end];
        let large = |run: &Run| run.entries() >= MERGED_ENTRIES;
        let ends = large(&group[0])
            || runs
                .get(end)
                .is_none_or(|next| next.day != group[0].day || next.level != group[0].level || large(next));
        let entries: u64 = group.iter().map(Run::entries).sum();
        let enough = group.len() >= WIDTH || entries >= MERGED_ENTRIES || (ends && group[0].day < today);
        if group.len() > 1 && enough {
            return Some(group);
        }
        if ends || enough {
            start = end;
        }
    }
    None
}

/// How many runs, from the oldest on, are not to be kept.
fn excess(runs: &[Run], keeping: &Keeping, today: Day) -> usize {
    let too_old = keeping.days.map_or(0, |days| {
        let since = today.before(days);
        runs.iter().take_while(|run| run.day < since).count()
    });
    let too_much = keeping.bytes.map_or(0, |limit| {
        let mut bytes: u64 = runs.iter().map(Run::bytes).sum();
        let over = |run: &&Run| {
            let over = bytes > limit;
            bytes -= run.bytes();
            over
        };
        runs.iter().take_while(over).count()
    });
    too_old.max(too_much)
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lake::Class, store::LakeFile};

    /// Runs of so many entries, a byte each, of these days and levels.
    fn runs(what: &[(i32, u32, u64)]) -> Vec<Run> {
        let mut next = 1;
        what.iter()
            .map(|(day, level, entries)| {
                let first = Position(next);
                next += entries;
                let file = LakeFile {
                    class: Class::Process,
                    name: next.to_string(),
                    rows: *entries,
                    bytes: *entries,
                };
                Run {
                    first,
                    past: Position(next),
                    day: Day(*day),
                    level: *level,
                    files: vec![file],
                }
            })
            .collect()
    }

    fn due_of(what: &[(i32, u32, u64)], today: i32) -> Option<(u64, usize)> {
        let runs = runs(what);
        due(&runs, Day(today)).map(|group| (group[0].first.0, group.len()))
    }

    #[test]
    fn runs_of_a_level_and_a_day_are_put_together() {
        assert_eq!(due_of(&[(5, 0, 10); 7], 5), None);
        assert_eq!(due_of(&[(5, 0, 10); 9], 5), Some((1, 8)));
        assert_eq!(due_of(&[(5, 0, 10); 3], 6), Some((1, 3)), "the day is over");
        assert_eq!(due_of(&[(5, 0, 10)], 6), None, "one is one");
        assert_eq!(due_of(&[], 6), None);
        let mut mixed = vec![(5, 1, 80)];
        mixed.extend([(5, 0, 10); 8]);
        assert_eq!(due_of(&mixed, 5), Some((81, 8)));
        assert_eq!(due_of(&[(4, 0, 10), (5, 0, 10)], 6), None, "days stay apart");
        assert_eq!(due_of(&[(5, 0, MERGED_ENTRIES); 8], 5), None, "large ones stay");
    }

    #[test]
    fn the_oldest_go_first_and_no_more_than_must() {
        let all = runs(&[(1, 0, 10), (2, 0, 20), (3, 0, 30)]);
        let excess_of = |days, bytes| {
            let keeping = Keeping {
                days,
                bytes,
                ..Keeping::default()
            };
            excess(&all, &keeping, Day(3))
        };
        assert_eq!(excess_of(None, None), 0);
        assert_eq!(excess_of(Some(1), None), 1);
        assert_eq!(excess_of(Some(0), None), 2);
        assert_eq!(excess_of(None, Some(60)), 0);
        assert_eq!(excess_of(None, Some(59)), 1);
        assert_eq!(excess_of(None, Some(49)), 2);
        assert_eq!(excess_of(Some(1), Some(49)), 2);
    }
}
