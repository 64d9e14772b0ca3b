//! Runs put together: for each class one file of many, in the same order, without ever holding more than a part of each.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use datafusion::{
    common::DataFusionError,
    config::TableParquetOptions,
    execution::{SendableRecordBatchStream, TaskContext, runtime_env::RuntimeEnv},
    physical_expr::{LexOrdering, PhysicalSortExpr, expressions::Column},
    physical_plan::{execute_stream, sorts::sort_preserving_merge::SortPreservingMergeExec},
};
use parquet::errors::ParquetError;
use prost::bytes::Bytes;
use tokio::runtime::{self, Runtime};
use tokio_stream::StreamExt as _;

use super::{
    Class, Day,
    file::{FileError, FileWriter, MemoryFile, Naming},
    scan::{self, Scan},
};
use crate::store::{LakeFile, Run};

/// Why runs cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] DataFusionError),
    /// The new file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The new file cannot be made.
    #[error("small files cannot be put together: {0}")]
    Make(#[from] ParquetError),
}

/// Puts runs together.
#[derive(Debug)]
pub(super) struct Merger {
    runtime: Runtime,
    context: Arc<TaskContext>,
    environment: Arc<RuntimeEnv>,
}

impl Merger {
    pub(super) fn new() -> io::Result<Self> {
        let environment = Arc::<RuntimeEnv>::default();
        let context = TaskContext::default().with_runtime(Arc::clone(&environment));
        Ok(Self {
            runtime: runtime::Builder::new_current_thread().enable_all().build()?,
            context: Arc::new(context),
            environment,
        })
    }

    /// One run of several that follow each other; nothing if `stopping` became true meanwhile.
    pub(super) fn merge(
        &self,
        lake: &Path,
        runs: &[Run],
        stopping: &AtomicBool,
    ) -> Result<Option<Run>, MergeError> {
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
            return Ok(None);
        };
        scan::register(&self.environment, lake)?;
        let mut new = Run {
            first: first.first,
            past: last.past,
            day: first.day,
            level: first.level + 1,
            files: Vec::new(),
        };
        for class in Class::ALL {
            let files = runs
                .iter()
                .flat_map(|run| &run.files)
                .filter(|file| file.class == class);
            let files: Vec<_> = files.cloned().collect();
            if files.is_empty() {
                continue;
            }
            let naming = Naming {
                class,
                day: new.day,
                first: new.first,
                past: new.past,
                level: new.level,
            };
            match self
                .runtime
                .block_on(self.merge_class(lake, &naming, files, stopping))?
            {
                Some(file) => new.files.push(file),
                None => return Ok(None),
            }
        }
        Ok(Some(new))
    }

    async fn merge_class(
        &self,
        lake: &Path,
        naming: &Naming,
        files: Vec<LakeFile>,
        stopping: &AtomicBool,
    ) -> Result<Option<LakeFile>, MergeError> {
        let mut rows = in_order(Arc::clone(&self.context), naming.class, naming.day, files)?;
        let mut file = FileWriter::create(lake, naming, rows.schema())?;
        while let Some(batch) = rows.next().await {
            if stopping.load(Ordering::Relaxed) {
                return Ok(None);
            }
            file.write(&batch?)?;
        }
        Ok(Some(file.finish()?))
    }
}

/// One file of several of a class and day, wherever the lake is that `context` knows; and how many rows it has.
pub(crate) async fn merged_in_memory(
    context: Arc<TaskContext>,
    class: Class,
    day: Day,
    files: Vec<LakeFile>,
) -> Result<(u64, Bytes), MergeError> {
    let mut rows = in_order(context, class, day, files)?;
    let mut file = MemoryFile::create(rows.schema(), 1)?;
    while let Some(batch) = rows.next().await {
        file.write(&batch?)?;
    }
    Ok(file.finish()?)
}

/// The rows of files in the order that each of them has.
fn in_order(
    context: Arc<TaskContext>,
    class: Class,
    day: Day,
    files: Vec<LakeFile>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let places = scan::places(class);
    let ordering = ordering(&places)?;
    let scan = Scan {
        groups: files.into_iter().map(|file| vec![(file, day)]).collect(),
        projection: Some(places),
        predicate: None,
        ordering: Some(ordering_in_files()?),
        limit: None,
    };
    let plan = scan.plan(&TableParquetOptions::default())?;
    execute_stream(Arc::new(SortPreservingMergeExec::new(ordering, plan)), context)
}

/// By host and time, of columns that are at these places.
fn ordering(places: &[usize]) -> Result<LexOrdering, DataFusionError> {
    let by = |name: &str| {
        let place = scan::place(name).and_then(|place| places.iter().position(|other| *other == place));
        PhysicalSortExpr::new_default(Arc::new(Column::new(name, place.unwrap_or_default())))
    };
    LexOrdering::new([by("host"), by("time")]).ok_or_else(|| DataFusionError::Internal("no order".into()))
}

fn ordering_in_files() -> Result<LexOrdering, DataFusionError> {
    let all: Vec<usize> = (0..super::COLUMNS.len()).collect();
    ordering(&all)
}
