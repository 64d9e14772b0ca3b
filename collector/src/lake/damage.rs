//! Files of the lake that cannot be read any more: found, set aside, and taken off the list, so that the rest can be asked for, followed
//! and put together.

use std::{
    fs,
    fs::File,
    io::{self, ErrorKind},
    path::Path,
};

use parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, errors::ParquetError};

use super::aside;
use crate::{
    store::{Change, LakeFile},
    writer::Writer,
};

/// Reads every one of these files, and returns those that cannot be read. They get a name that nobody takes for a file of the lake.
pub(crate) fn set_aside<'a>(
    lake: &Path,
    files: impl IntoIterator<Item = &'a LakeFile>,
    writer: Option<&Writer>,
) -> Vec<LakeFile> {
    let mut damaged = Vec::new();
    for file in files {
        let path = lake.join(&file.name);
        // What is said twice is no accident.
        let Some(error) = damage(&path).and_then(|_| damage(&path)) else {
            continue;
        };
        let aside = aside(&path);
        tracing::error!(
            "{} cannot be read ({error}): {} entries of class {} are lost with it; it is set aside as {}",
            path.display(),
            file.rows,
            file.class.name(),
            aside.display()
        );
        if let Some(writer) = writer {
            let listed = writer.change_lake(Change::Damaged(file.name.clone()));
            if let Err(error) = listed
                .map_err(|error| error.to_string())
                .and_then(|()| rename(&path, &aside))
            {
                tracing::error!("{} stays where it is: {error}", path.display());
            }
        }
        damaged.push(file.clone());
    }
    damaged
}

fn rename(path: &Path, aside: &Path) -> Result<(), String> {
    match fs::rename(path, aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| error.to_string()),
    }
}

/// What is wrong with a file, having read all of it: with it, not with whoever reads it, who may lack a right, a descriptor or memory.
fn damage(path: &Path) -> Option<String> {
    let read = || -> Result<(), ParquetError> {
        let file = File::open(path)?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            batch?;
        }
        Ok(())
    };
    let error = read().err()?;
    let is_its_own = match cause(&error) {
        Some(cause) => {
            matches!(
                cause.kind(),
                ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData
            ) || is_of_disk(cause)
        }
        None => true,
    };
    is_its_own.then(|| error.to_string())
}

fn is_of_disk(cause: &io::Error) -> bool {
    const EIO: i32 = 5;
    cause.raw_os_error() == Some(EIO)
}

/// What the system said, if it is that.
fn cause(error: &ParquetError) -> Option<&io::Error> {
    let mut next: Option<&dyn std::error::Error> = match error {
        ParquetError::External(inner) => Some(&**inner),
        _ => None,
    };
    while let Some(error) = next {
        if let Some(cause) = error.downcast_ref() {
            return Some(cause);
        }
        next = error.source();
    }
    None
}
