//! One state of all that is stored, for as long as a question takes.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    lake::lease::{Lease, Leases},
    store::{Extent, LakeFile, Position, Reader, Run, StoreError, StoredBatch},
};

/// Entries that are taken out of the database at once.
const CHUNK: u64 = 8 << 10;

/// What was stored at one moment.
#[derive(Debug)]
pub struct Snapshot {
    reader: Mutex<Reader>,
    runs: Vec<Run>,
    lake: PathBuf,
    /// Given back last: the files of `runs` stay until then.
    _lease: Lease,
}

impl Snapshot {
    /// What is stored now in the data directory.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn take(data: &Path, leases: &Leases) -> Result<Self, StoreError> {
        // Before the list is read, so that no file of it is removed in between.
        let lease = leases.take();
        let reader = Reader::open(data)?;
        reader.hold()?;
        Ok(Self {
            runs: reader.runs()?,
            reader: Mutex::new(reader),
            lake: crate::lake::folder(data),
            _lease: lease,
        })
    }

    /// The runs of the lake.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Where what was stored begins and ends.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn extent(&self) -> Result<Extent, StoreError> {
        self.reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extent()
    }

    /// Leaves out files that cannot be read.
    pub fn leave_out(&mut self, damaged: &[LakeFile]) {
        for run in &mut self.runs {
            run.files.retain(|file| !damaged.contains(file));
        }
    }

    /// The lake's folder.
    #[must_use]
    pub fn lake(&self) -> &Path {
        &self.lake
    }

    /// The next fresh batches with entries at or after `from`; none if there are no more.
    ///
    /// Several parts of a question may read, in turn: none holds the database while it waits for others.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn fresh(&self, from: Position) -> Result<Vec<StoredBatch>, StoreError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batches: Vec<StoredBatch> = Vec::new();
        let mut entries = 0;
        reader.batches(from, |batch| {
            entries += batch.entries;
            batches.push(batch);
            if entries >= CHUNK {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        })?;
        Ok(batches)
    }
}
