//! One state of all that is stored, for as long as a question takes.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
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
    runs: Vec<Run>,
    /// Where they are of a data directory; a shared lake has nothing else than files.
    here: Option<Here>,
}

#[derive(Debug)]
struct Here {
    reader: Mutex<Reader>,
    lake: PathBuf,
    /// Given back last: the files stay until then.
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
            here: Some(Here {
                reader: Mutex::new(reader),
                lake: crate::lake::folder(data),
                _lease: lease,
            }),
        })
    }

    /// These files of a shared lake.
    #[must_use]
    pub fn of_files(runs: Vec<Run>) -> Self {
        Self { runs, here: None }
    }

    /// The runs of the lake.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Where what was stored begins and ends. In a shared lake nothing can be followed, as if nothing was there.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn extent(&self) -> Result<Extent, StoreError> {
        match &self.here {
            Some(here) => here.reader().extent(),
            None => Ok(Extent {
                floor: Position(1),
                next: Position(1),
            }),
        }
    }

    /// Leaves out files that cannot be read.
    pub fn leave_out(&mut self, damaged: &[LakeFile]) {
        for run in &mut self.runs {
            run.files.retain(|file| !damaged.contains(file));
        }
    }

    /// The lake's folder, where it is of a data directory.
    #[must_use]
    pub fn lake(&self) -> Option<&Path> {
        self.here.as_ref().map(|here| here.lake.as_path())
    }

    /// The next fresh batches with entries at or after `from`; none if there are no more.
    ///
    /// Several parts of a question may read, in turn: none holds the database while it waits for others.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn fresh(&self, from: Position) -> Result<Vec<StoredBatch>, StoreError> {
        let Some(here) = &self.here else {
            return Ok(Vec::new());
        };
        let reader = here.reader();
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

impl Here {
    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
