//! Files of the lake that cannot be read any more: found, set aside, and taken off the list, so that the rest can be asked for.

use std::{fs, fs::File, path::Path};

use parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, errors::ParquetError};

use super::Snapshot;
use crate::{
    store::{Change, LakeFile},
    writer::Writer,
};

/// Reads every file of the snapshot, and returns those that cannot be read. They get a name that nobody takes for a file of the lake.
///
/// A shared lake is left as it is: that its store does not answer is no damage.
pub(super) fn set_aside(snapshot: &Snapshot, writer: Option<&Writer>) -> Vec<LakeFile> {
    let Some(lake) = snapshot.lake() else {
        return Vec::new();
    };
    let files = snapshot.runs().iter().flat_map(|run| &run.files);
    let mut damaged = Vec::new();
    for file in files {
        let path = lake.join(&file.name);
        let Err(error) = read(&path) else { continue };
        let aside = path.with_extension("parquet.damaged");
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
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| error.to_string()),
    }
}

/// Reads all of a file.
fn read(path: &Path) -> Result<(), ParquetError> {
    let file = File::open(path)?;
    for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
        batch?;
    }
    Ok(())
}
