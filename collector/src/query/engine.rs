//! Answers questions, within limits.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use datafusion::{
    common::DataFusionError,
    execution::{
        SendableRecordBatchStream, SessionStateBuilder,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::FairSpillPool,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::{SQLOptions, SessionConfig, SessionContext},
    sql::sqlparser::{
        dialect::GenericDialect,
        tokenizer::{Token, Tokenizer},
    },
};
use parquet::errors::ParquetError;
use tokio::{
    runtime::{self, Runtime},
    sync::{Semaphore, mpsc},
    time::{Instant, timeout_at},
};
use tokio_stream::StreamExt as _;

use super::{
    Snapshot,
    answer::{Piece, Pieces},
    events::Events,
};
use crate::{
    lake::{
        damage, folder,
        lease::Leases,
        make_folder, scan,
        shared::{Catalogue, PlaceError},
    },
    priority::give_way,
    store::{LakeFile, Position, StoreError},
    writer::Writer,
};

/// Longest question in bytes.
pub const SQL_BYTES_MAX: usize = 64 << 10;

/// What questions may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for one question, from asking to the last row, waiting for others included.
    pub time: Duration,
    /// Rows of an answer.
    pub rows: u64,
    /// Bytes of memory for all questions together, as far as DataFusion keeps count: what is sorted, grouped and joined.
    pub memory: usize,
    /// Bytes on disk for what does not fit there.
    pub disk: u64,
    /// Questions at a time; others wait.
    pub together: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            rows: 1_000_000,
            memory: 256 << 20,
            disk: 4 << 30,
            together: 4,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The question is too long.
    #[error("the query has {0} bytes, more than {SQL_BYTES_MAX}")]
    TooLong(usize),
    /// It took too long.
    #[error("the query took longer than {0:?}; ask about fewer days or classes, or fewer hosts")]
    Time(Duration),
    /// It needed too much memory.
    #[error(
        "the query needs more memory than it may have ({0}); ask about fewer days or classes, or group by less"
    )]
    Memory(String),
    /// It is wrong, or asks for what is not allowed.
    #[error("{0}")]
    Wrong(String),
    /// It could not be answered.
    #[error("the query failed: {0}")]
    Failed(String),
    /// What it is about could not be read.
    #[error("the query failed: {0}")]
    Unreadable(String),
    /// What is stored cannot be looked at.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be told what a shared lake consists of.
    #[error(transparent)]
    Lake(#[from] PlaceError),
    /// The collector is stopping.
    #[error("the collector is stopping")]
    Stopping,
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        let message = error.strip_backtrace();
        match error.find_root() {
            DataFusionError::ResourcesExhausted(cause) => Self::Memory(cause.clone()),
            DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Diagnostic(..) => Self::Wrong(message),
            root if is_of_file(root) => Self::Unreadable(message),
            _ => Self::Failed(message),
        }
    }
}

/// Whether it is a file that could not be read, not what was asked of its rows.
fn is_of_file(root: &DataFusionError) -> bool {
    match root {
        DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
            true
        }
        DataFusionError::ArrowError(error, _) => matches!(
            **error,
            ArrowError::ParquetError(_) | ArrowError::IoError(..) | ArrowError::ExternalError(_)
        ),
        DataFusionError::External(error) => error.is::<ParquetError>() || error.is::<object_store::Error>(),
        _ => false,
    }
}

/// Stack of the threads that plan, in bytes: for as many [`TOKENS_MAX`] as may lie within each other. Only what is used of it takes memory.
const STACK: usize = 64 << 20;

/// Words, numbers and signs of a question. Each may be a level of its own, as in `1+1+1`, and what works on levels calls itself.
const TOKENS_MAX: usize = 8_192;

fn check_depth(sql: &str) -> Result<(), QueryError> {
    // What is no SQL is said so, and where, by whoever parses it.
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize()
        .unwrap_or_default();
    let count = tokens
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .count();
    if count > TOKENS_MAX {
        return Err(QueryError::Wrong(format!(
            "the query has {count} words and signs, more than {TOKENS_MAX}; a list of values is better joined from VALUES or asked for in parts"
        )));
    }
    Ok(())
}

/// An answer, piece by piece.
#[derive(Debug)]
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows, then its end.
    pub pieces: Pieces,
}

/// Answers questions. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

/// What is asked about.
#[derive(Debug)]
enum Source {
    /// A data directory.
    Here {
        data: PathBuf,
        leases: Leases,
        writer: Mutex<Option<Writer>>,
    },
    /// A lake that several collectors share.
    Shared(Arc<Catalogue>),
}

#[derive(Debug)]
struct Inner {
    source: Source,
    limits: Limits,
    places: Semaphore,
    searching: Arc<Semaphore>,
    environment: Arc<RuntimeEnv>,
    /// Threads of its own. `None` only while it is dropped.
    threads: Option<Runtime>,
}

impl Engine {
    /// For the data directory `data`. Where there is a writer, damaged files are taken off its list.
    ///
    /// # Errors
    /// If the folder for what does not fit in memory cannot be made, or threads not be started.
    pub fn new(
        data: &Path,
        leases: Leases,
        writer: Option<Writer>,
        limits: Limits,
    ) -> Result<Self, QueryError> {
        let environment = environment(&data.join("query"), limits)?;
        scan::register(&environment, &folder(data))?;
        let source = Source::Here {
            data: data.to_owned(),
            leases,
            writer: Mutex::new(writer),
        };
        Self::start(source, environment, limits)
    }

    /// For a lake that several collectors share. What does not fit in memory goes to the folder `spill`.
    ///
    /// # Errors
    /// If that folder cannot be made, or threads not be started.
    pub fn of_shared(catalogue: Arc<Catalogue>, spill: &Path, limits: Limits) -> Result<Self, QueryError> {
        let environment = environment(spill, limits)?;
        scan::register_store(&environment, catalogue.place().store())?;
        Self::start(Source::Shared(catalogue), environment, limits)
    }

    fn start(source: Source, environment: Arc<RuntimeEnv>, limits: Limits) -> Result<Self, QueryError> {
        let threads = runtime::Builder::new_multi_thread()
            .thread_name("query")
            // What is planned is as deep as the question is nested.
            .thread_stack_size(STACK)
            .on_thread_start(give_way)
            .enable_all()
            .build()
            .map_err(|error| QueryError::Failed(error.to_string()))?;
        Ok(Self(Arc::new(Inner {
            source,
            places: Semaphore::new(limits.together),
            searching: Arc::new(Semaphore::new(1)),
            limits,
            environment,
            threads: Some(threads),
        })))
    }

    /// Lets go of the writer: questions go on, but damaged files stay on the list.
    pub fn release(&self) {
        if let Source::Here { writer, .. } = &self.0.source {
            writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Asks. Dropping the answer ends the work on it.
    ///
    /// # Errors
    /// If the question is wrong, or nothing could be read.
    pub async fn ask(&self, sql: String, rows_max: u64) -> Result<Answer, QueryError> {
        if sql.len() > SQL_BYTES_MAX {
            return Err(QueryError::TooLong(sql.len()));
        }
        check_depth(&sql)?;
        let rows = match rows_max {
            0 => self.0.limits.rows,
            rows => rows.min(self.0.limits.rows),
        };
        let (pieces, mut answer) = mpsc::channel(2);
        let inner = Arc::clone(&self.0);
        let Some(threads) = &self.0.threads else {
            return Err(QueryError::Stopping);
        };
        threads.spawn(async move {
            let limit = inner.limits.time;
            let question = Question {
                sql,
                rows,
                deadline: Instant::now() + limit,
                pieces: pieces.clone(),
            };
            let gone = pieces.clone();
            let result = tokio::select! {
                result = timeout_at(question.deadline, inner.answer(&question)) => result.unwrap_or(Err(QueryError::Time(limit))),
                () = gone.closed() => return,
            };
            if let Err(error) = result {
                let _ = pieces.send(Err(error)).await;
            }
        });
        match answer.recv().await {
            Some(Ok(Piece::Schema(schema))) => Ok(Answer {
                schema,
                pieces: answer,
            }),
            Some(Err(error)) => Err(error),
            _ => Err(QueryError::Stopping),
        }
    }
}

impl Engine {
    /// The entries of the run of `snapshot` that ends before `past`, from `next` on, in the order of their positions: `position`, `host`,
    /// `entry` and `entry_process`. What does not fit in memory is sorted on disk. Dropping the receiver ends the work on it.
    ///
    /// # Errors
    /// If it cannot be planned.
    pub async fn replay(
        &self,
        snapshot: Arc<Snapshot>,
        next: Position,
        past: Position,
    ) -> Result<mpsc::Receiver<Result<RecordBatch, QueryError>>, QueryError> {
        let Some(threads) = &self.0.threads else {
            return Err(QueryError::Stopping);
        };
        let inner = Arc::clone(&self.0);
        let (sender, receiver) = mpsc::channel(2);
        threads.spawn(async move {
            let work = async {
                let sql = format!(
                    "SELECT position, host, entry, entry_process FROM events WHERE position >= {next} ORDER BY position"
                );
                let mut rows = inner.plan(&sql, Events::of_run(snapshot, past)).await?;
                while let Some(batch) = rows.next().await {
                    if sender.send(Ok(batch?)).await.is_err() {
                        break;
                    }
                }
                Ok::<_, QueryError>(())
            };
            if let Err(error) = work.await {
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(receiver)
    }

    /// Files of the run of `snapshot` that ends before `past` which cannot be read: set aside and taken off the list, so that another
    /// snapshot is without them.
    pub async fn set_aside(&self, snapshot: &Arc<Snapshot>, past: Position) -> Vec<LakeFile> {
        let run = snapshot.runs().iter().filter(|run| run.past == past);
        let files = run.flat_map(|run| &run.files).cloned().collect();
        self.0.look_for_damage(snapshot, files).await
    }
}

impl Source {
    async fn snapshot(&self) -> Result<Snapshot, QueryError> {
        match self {
            Self::Here { data, leases, .. } => Ok(Snapshot::take(data, leases)?),
            Self::Shared(catalogue) => Ok(Snapshot::of_files(catalogue.runs().await?)),
        }
    }

    fn writer(&self) -> Option<Writer> {
        match self {
            Self::Here { writer, .. } => writer.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Self::Shared(_) => None,
        }
    }
}

/// What all questions share: memory, and a folder for what does not fit there.
fn environment(spill: &Path, limits: Limits) -> Result<Arc<RuntimeEnv>, QueryError> {
    // What a former process left there is of no use.
    let _ = std::fs::remove_dir_all(spill);
    let failed = |error: std::io::Error| QueryError::Failed(format!("{}: {error}", spill.display()));
    make_folder(spill).map_err(failed)?;
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill.to_owned()]))
        .with_max_temp_directory_size(limits.disk);
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory)))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    Ok(environment)
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // It may be dropped by a task, which must not wait.
            threads.shutdown_background();
        }
    }
}

struct Question {
    sql: String,
    rows: u64,
    deadline: Instant,
    pieces: mpsc::Sender<Result<Piece, QueryError>>,
}

impl Inner {
    async fn answer(&self, question: &Question) -> Result<(), QueryError> {
        let _place = self.places.acquire().await.map_err(|_| QueryError::Stopping)?;
        let mut damaged = Vec::new();
        loop {
            let mut snapshot = self.source.snapshot().await?;
            snapshot.leave_out(&damaged);
            let snapshot = Arc::new(snapshot);
            let mut told = Told::default();
            match self
                .attempt(question, Arc::clone(&snapshot), &damaged, &mut told)
                .await
            {
                Err(QueryError::Unreadable(message)) => {
                    let files = snapshot.runs().iter().flat_map(|run| &run.files);
                    let found = self.look_for_damage(&snapshot, files.cloned().collect()).await;
                    if found.is_empty() || told.schema {
                        return Err(QueryError::Unreadable(message));
                    }
                    damaged.extend(found);
                }
                result => return result,
            }
        }
    }

    async fn attempt(
        &self,
        question: &Question,
        snapshot: Arc<Snapshot>,
        damaged: &[LakeFile],
        told: &mut Told,
    ) -> Result<(), QueryError> {
        let mut rows = self.plan(&question.sql, Events::new(snapshot)).await?;
        let schema = rows.schema();
        // The first rows come before the schema is told: until then everything can begin again.
        let mut next = rows.next().await.transpose()?;
        told.schema = true;
        let gone = |_| QueryError::Stopping;
        question
            .pieces
            .send(Ok(Piece::Schema(schema)))
            .await
            .map_err(gone)?;
        let mut left = question.rows;
        let mut cut = false;
        while let Some(batch) = next {
            let batch = limited(batch, left, &mut cut);
            left -= batch.num_rows() as u64;
            if batch.num_rows() > 0 {
                question.pieces.send(Ok(Piece::Rows(batch))).await.map_err(gone)?;
            }
            if cut {
                break;
            }
            next = rows.next().await.transpose()?;
        }
        let end = Piece::End {
            rows: question.rows - left,
            cut,
            damaged: damaged.iter().map(|file| file.name.clone()).collect(),
        };
        question.pieces.send(Ok(end)).await.map_err(gone)
    }

    async fn plan(&self, sql: &str, events: Events) -> Result<SendableRecordBatchStream, QueryError> {
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .with_parquet_bloom_filter_pruning(true);
        let parquet = &mut config.options_mut().execution.parquet;
        // What a filter does not need is decoded for the rows that pass it only.
        parquet.pushdown_filters = true;
        parquet.reorder_filters = true;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(&self.environment))
            .with_default_features()
            .build();
        let context = SessionContext::new_with_state(state);
        context.register_table("events", Arc::new(events))?;
        let nothing_changes = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let frame = context.sql_with_options(sql, nothing_changes).await?;
        Ok(frame.execute_stream().await?)
    }

    /// Finds those of these files of a snapshot that cannot be read, sets them aside and takes them off the list.
    ///
    /// A shared lake is left as it is: that its store does not answer is no damage.
    async fn look_for_damage(&self, snapshot: &Arc<Snapshot>, files: Vec<LakeFile>) -> Vec<LakeFile> {
        // It reads all of them: one at a time, also of those whose question nobody waits for any more.
        let Ok(alone) = Arc::clone(&self.searching).acquire_owned().await else {
            return Vec::new();
        };
        let snapshot = Arc::clone(snapshot);
        let writer = self.source.writer();
        let look = tokio::task::spawn_blocking(move || {
            let found = snapshot
                .lake()
                .map(|lake| damage::set_aside(lake, &files, writer.as_ref()))
                .unwrap_or_default();
            drop(alone);
            found
        });
        look.await.unwrap_or_default()
    }
}

#[derive(Default)]
struct Told {
    schema: bool,
}

/// At most `left` rows of a table; says so if there are more.
fn limited(batch: RecordBatch, left: u64, cut: &mut bool) -> RecordBatch {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    if batch.num_rows() <= left {
        return batch;
    }
    *cut = true;
    batch.slice(0, left)
}
