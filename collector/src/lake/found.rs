//! Runs as the files themselves tell them, for when the database knows less: it was damaged and begun anew, or is an older copy.
//!
//! A file is written under its name once it is whole, and its name says what is in it: class, day, first and last position, and how often it was put
//! together. So nothing is lost with the list but what was not in files yet.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::file::{FileError, Naming, aside, files};
use crate::store::{LakeFile, Position, Run};

/// Runs of the lake with entries at `from` or later, the oldest first, none of them a part of another.
///
/// # Errors
/// If the lake's folders cannot be read. A file that cannot be read is told of and set aside: what is not listed would be removed.
pub(crate) fn runs(lake: &Path, from: Position) -> Result<Vec<Run>, FileError> {
    let mut runs: BTreeMap<(u64, u64), Run> = BTreeMap::new();
    for path in files(lake)? {
        let Some(naming) = Naming::of(lake, &path).filter(|naming| naming.past > from) else {
            continue;
        };
        let (rows, bytes) = match measure(&path) {
            Ok(found) => found,
            Err(error) => {
                let aside = aside(&path);
                tracing::error!(
                    "{} cannot be read ({error}): it is set aside as {}",
                    path.display(),
                    aside.display()
                );
                fs::rename(&path, aside).map_err(|cause| FileError::Write { path, cause })?;
                continue;
            }
        };
        let key = (naming.first.0, naming.past.0);
        let run = runs.entry(key).or_insert_with(|| Run {
            first: naming.first,
            past: naming.past,
            day: naming.day,
            level: naming.level,
            files: Vec::new(),
        });
        run.files.push(LakeFile {
            class: naming.class,
            name: naming.name(),
            rows,
            bytes,
        });
    }
    Ok(without_parts(runs.into_values().collect()))
}

fn measure(path: &Path) -> Result<(u64, u64), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let file = File::open(path).map_err(|error| text(&error))?;
    let bytes = file.metadata().map_err(|error| text(&error))?.len();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| text(&error))?;
    let rows = reader.metadata().file_metadata().num_rows();
    Ok((rows.max(0).cast_unsigned(), bytes))
}

/// What was put together is there beside its parts if the collector ended in between. Whichever has more of it is taken.
fn without_parts(mut runs: Vec<Run>) -> Vec<Run> {
    let rows = |run: &Run| run.files.iter().map(|file| file.rows).sum::<u64>();
    // The larger first.
    runs.sort_by_key(|run| std::cmp::Reverse(run.entries()));
    let mut taken: Vec<Run> = Vec::new();
    while !runs.is_empty() {
        let whole = runs.remove(0);
        let is_part = |run: &Run| run.first >= whole.first && run.past <= whole.past;
        let parts = runs.iter().filter(|run| is_part(run)).map(rows).sum::<u64>();
        if rows(&whole) >= parts {
            runs.retain(|run| !is_part(run));
            taken.push(whole);
        }
    }
    taken.sort_by_key(|run| run.first);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::{Class, Day};

    fn run(first: u64, past: u64, level: u32, rows: u64) -> Run {
        let file = LakeFile {
            class: Class::Other,
            name: format!("{first}-{past}"),
            rows,
            bytes: 1,
        };
        Run {
            first: Position(first),
            past: Position(past),
            day: Day(1),
            level,
            files: vec![file],
        }
    }

    #[test]
    fn of_a_whole_and_its_parts_the_one_is_taken_that_has_more() {
        let parts = [run(1, 50, 0, 49), run(50, 101, 0, 51)];
        let taken = |whole: Run| {
            let runs = parts.iter().cloned().chain([whole, run(101, 120, 0, 19)]);
            let taken = without_parts(runs.collect());
            taken
                .iter()
                .map(|run| (run.first.0, run.past.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(taken(run(1, 101, 1, 100)), [(1, 101), (101, 120)]);
        // It was not finished: a class of it is missing.
        assert_eq!(taken(run(1, 101, 1, 60)), [(1, 50), (50, 101), (101, 120)]);
    }
}
