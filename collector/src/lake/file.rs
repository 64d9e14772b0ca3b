//! Files of the lake: written so that a crash leaves a whole file or none.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File},
    io,
    ops::Range,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::SortingColumn,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};
use prost::bytes::Bytes;

use jiff::civil;

use super::{Class, Day};
use crate::store::{LakeFile, Position};

/// Rows in a row group: what is read or left out as a whole. Fewer would be more to look through, more would have to be held while writing.
const ROW_GROUP: usize = 128 << 10;

/// Columns that are looked up by value, among very many values.
const LOOKED_UP: [&str; 4] = ["process", "parent", "executable", "remote_address"];

/// Columns by which single pages are left out.
const PAGED: [&str; 4] = ["host", "time", "position", "process"];

/// Distinct values that the filter of a row group is made for. More make it less useful, nothing else.
const DISTINCT: u64 = 8 << 10;

/// Why a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("cannot write {} into the lake: {cause}; see that the disk has room", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file cannot be made or read.
    #[error("{} in the lake: {cause}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: ParquetError,
    },
    /// Rows cannot be made.
    #[error("cannot make rows of entries: {0}")]
    Rows(#[from] ArrowError),
}

/// The lake's folder in a data directory.
#[must_use]
pub fn folder(data: &Path) -> PathBuf {
    data.join("lake")
}

/// Makes a folder that is for its owner only, and those that it is in.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A file while it is written. Dropped before [`finish`](Self::finish), nothing of it stays.
#[derive(Debug)]
pub(super) struct FileWriter {
    writer: Option<ArrowWriter<File>>,
    partial: PathBuf,
    path: PathBuf,
    class: Class,
    name: String,
    rows: u64,
}

/// What the name of a file says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming {
    pub(super) class: Class,
    pub(super) day: Day,
    pub(super) first: Position,
    pub(super) past: Position,
    pub(super) level: u32,
}

impl Naming {
    /// What the name of a file in the lake says; nothing of what is none of ours.
    pub(super) fn of(lake: &Path, path: &Path) -> Option<Self> {
        let name = path.strip_prefix(lake).ok()?.to_str()?;
        let mut parts = name.split('/');
        let class = Class::named(parts.next()?.strip_prefix("class=")?)?;
        let day: civil::Date = parts.next()?.strip_prefix("day=")?.parse().ok()?;
        let mut numbers = parts.next()?.strip_suffix(".parquet")?.split('-');
        let mut number = || numbers.next()?.parse::<u64>().ok();
        let naming = Self {
            class,
            day: Day::of_date(day)?,
            first: Position(number()?),
            past: Position(number()?.checked_add(1)?),
            level: u32::try_from(number()?).ok()?,
        };
        // Written as we write it.
        (naming.first < naming.past && naming.name() == name).then_some(naming)
    }

    pub(super) fn name(&self) -> String {
        let Self {
            class,
            day,
            first,
            past,
            level,
        } = self;
        let last = past.0 - 1;
        format!(
            "class={}/day={day}/{first:020}-{last:020}-{level}.parquet",
            class.name(),
            first = first.0
        )
    }
}

impl FileWriter {
    pub(super) fn create(lake: &Path, naming: &Naming, schema: SchemaRef) -> Result<Self, FileError> {
        let name = naming.name();
        let path = lake.join(&name);
        let partial = path.with_extension("parquet.partial");
        let refused = |cause| FileError::Write {
            path: partial.clone(),
            cause,
        };
        if let Some(folder) = path.parent() {
            make_folder(folder).map_err(refused)?;
        }
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&partial)
            .map_err(refused)?;
        let writer =
            ArrowWriter::try_new_with_options(file, schema, options(naming.level)).map_err(|cause| {
                FileError::Parquet {
                    path: partial.clone(),
                    cause,
                }
            })?;
        Ok(Self {
            writer: Some(writer),
            partial,
            path,
            class: naming.class,
            name,
            rows: 0,
        })
    }

    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<(), FileError> {
        self.rows += rows.num_rows() as u64;
        match &mut self.writer {
            Some(writer) => writer.write(rows).map_err(|cause| self.failed(cause)),
            None => Ok(()),
        }
    }

    /// Makes it durable under its name.
    pub(super) fn finish(mut self) -> Result<LakeFile, FileError> {
        let writer = self.writer.take();
        let file = match writer.map(ArrowWriter::into_inner) {
            Some(Ok(file)) => file,
            Some(Err(cause)) => return Err(self.failed(cause)),
            None => File::open(&self.partial).map_err(|cause| self.refused(cause))?,
        };
        let settle = || -> io::Result<u64> {
            let bytes = file.metadata()?.len();
            file.sync_all()?;
            fs::rename(&self.partial, &self.path)?;
            sync_folders(&self.path)?;
            Ok(bytes)
        };
        let bytes = settle().map_err(|cause| self.refused(cause))?;
        Ok(LakeFile {
            class: self.class,
            name: self.name.clone(),
            rows: self.rows,
            bytes,
        })
    }

    fn failed(&self, cause: ParquetError) -> FileError {
        FileError::Parquet {
            path: self.partial.clone(),
            cause,
        }
    }

    fn refused(&self, cause: io::Error) -> FileError {
        FileError::Write {
            path: self.partial.clone(),
            cause,
        }
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        // After `finish` it has another name.
        let _ = fs::remove_file(&self.partial);
    }
}

/// A new file is found after a crash only if its folder was synced, and a new folder only if the one it is in was.
fn sync_folders(path: &Path) -> io::Result<()> {
    path.ancestors()
        .skip(1)
        .take(4)
        .try_for_each(|folder| File::open(folder)?.sync_all())
}

/// The rows of one class, day and stretch of positions as a file that is put somewhere else, and its name there.
pub(crate) fn file_in_memory(
    class: Class,
    day: Day,
    positions: Range<Position>,
    rows: &RecordBatch,
) -> Result<(String, Bytes), ParquetError> {
    let naming = Naming {
        class,
        day,
        first: positions.start,
        past: positions.end,
        level: 0,
    };
    let mut file = MemoryFile::create(rows.schema(), naming.level)?;
    file.write(rows)?;
    let (_, body) = file.finish()?;
    Ok((naming.name(), body))
}

/// A file that is put somewhere else, while it is made.
pub(crate) struct MemoryFile {
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
}

impl MemoryFile {
    /// `level` is 0 for what is new, more for what was put together.
    pub(crate) fn create(schema: SchemaRef, level: u32) -> Result<Self, ParquetError> {
        Ok(Self {
            writer: ArrowWriter::try_new_with_options(Vec::new(), schema, options(level))?,
            rows: 0,
        })
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.rows += rows.num_rows() as u64;
        self.writer.write(rows)
    }

    /// How many rows it has, and the whole of it.
    pub(crate) fn finish(self) -> Result<(u64, Bytes), ParquetError> {
        Ok((self.rows, self.writer.into_inner()?.into()))
    }
}

fn options(level: u32) -> ArrowWriterOptions {
    ArrowWriterOptions::new()
        .with_properties(properties(level))
        // Types of Arrow mean nothing to other tools, and ours are known anyway.
        .with_skip_arrow_metadata(true)
}

fn properties(level: u32) -> WriterProperties {
    // The first time has to be quick; what is put together stays.
    let zstd = ZstdLevel::try_new(if level == 0 { 1 } else { 3 }).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("sensor-collector ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(zstd))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_sorting_columns(Some(sorting()));
    for column in PAGED {
        properties =
            properties.set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::Page);
    }
    for column in LOOKED_UP {
        properties = properties
            .set_column_bloom_filter_enabled(ColumnPath::from(column), true)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(column), DISTINCT);
    }
    for column in ["entry", "position"] {
        // No two are the same.
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    properties
        .set_column_statistics_enabled(ColumnPath::from("entry"), EnabledStatistics::None)
        .set_column_statistics_enabled(ColumnPath::from("entry_process"), EnabledStatistics::None)
        .build()
}

/// By host (column 1), then by time (column 2), as every file has them.
fn sorting() -> Vec<SortingColumn> {
    let by = |column_idx| SortingColumn {
        column_idx,
        descending: false,
        nulls_first: true,
    };
    vec![by(1), by(2)]
}

/// The name of a file that cannot be read: nobody takes it for a file of the lake, or removes it.
pub(crate) fn aside(path: &Path) -> PathBuf {
    path.with_extension("parquet.damaged")
}

/// The files of the lake that are whole, in no order.
pub(super) fn files(lake: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    for class in folders(lake)? {
        for day in folders(&class)? {
            let whole = entries(&day)?.into_iter();
            files.extend(whole.filter(|path| path.extension().is_some_and(|ending| ending == "parquet")));
        }
    }
    Ok(files)
}

/// Removes what a crash has left in the lake: every file that is not in `listed`. Returns how many there were.
///
/// # Errors
/// If the system refuses.
pub fn remove_unlisted<'a>(lake: &Path, listed: impl Iterator<Item = &'a str>) -> Result<u64, FileError> {
    let listed: HashSet<PathBuf> = listed.map(|name| lake.join(name)).collect();
    let mut removed = 0;
    for class in folders(lake)? {
        for day in folders(&class)? {
            for path in entries(&day)? {
                if is_ours(&path) && !listed.contains(&path) {
                    fs::remove_file(&path).map_err(|cause| FileError::Write { path, cause })?;
                    removed += 1;
                }
            }
            // Fails where something is left in it, which is as it should be.
            let _ = fs::remove_dir(&day);
        }
    }
    Ok(removed)
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".parquet") || name.ends_with(".parquet.partial")
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut entries = entries(folder)?;
    entries.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_dir() && (name.starts_with("class=") || name.starts_with("day="))
    });
    Ok(entries)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let list =
        || -> io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(|cause| FileError::Write {
            path: folder.to_owned(),
            cause,
        }),
    }
}
