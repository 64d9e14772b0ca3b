//! Small files of a shared lake put together, so that a question does not open thousands.
//!
//! Each commit of a loader brings a file for each class, of some seconds. Of those of one class and day that are about as large, [`AT_LEAST`] to
//! [`AT_MOST`] become one, which has eight times their size, and so on up to [`LARGE`]: each entry is written some four times in all. Whoever stores does it,
//! at times of their own; nobody leads. The new file is put under a name that nobody else has, then one commit lists it and takes the old ones off the list, and is made
//! only if all of those are on it: of two who put the same together, one was late, and its file is removed as any that is not listed. The old ones stay as long as
//! that, for questions that are reading them. Files that cannot be put together, because one of them is damaged say, are left alone until the collector starts again.
//!
//! Bounds: one merge at a time, of [`LARGE`] bytes at most, whose rows are held in part and whose new file is held whole.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use datafusion::execution::{TaskContext, runtime_env::RuntimeEnv};

use super::{Catalogue, Commit, Listed, Outcome, PlaceError, unique};
use crate::{
    lake::{
        Class, Day,
        merge::{MergeError, merged_in_memory},
        scan,
    },
    store::LakeFile,
};

/// How often it is looked for some; scattered by half of it.
const EVERY: Duration = Duration::from_secs(60);

/// Files that become one.
const AT_LEAST: usize = 8;
const AT_MOST: usize = 16;

/// A file of so many bytes is not put together with others any more, nor are so many bytes at once.
const LARGE: u64 = 32 << 20;

/// Files below are about as large.
const SMALL: u64 = 64 << 10;

/// Looks for as long as it is polled.
pub(crate) async fn run(catalogue: Arc<Catalogue>) {
    let mut merging = match Merging::new(catalogue) {
        Ok(merging) => merging,
        Err(error) => return tracing::error!("small files of the lake are not put together: {error}"),
    };
    loop {
        tokio::time::sleep(EVERY.mul_f64(0.5 + scatter())).await;
        loop {
            match merging.turn().await {
                Ok(0) => break,
                Ok(files) => tracing::debug!("{files} files of the lake were put together"),
                Err(error) => {
                    tracing::warn!("{error}; small files of the lake stay as they are for now");
                    break;
                }
            }
        }
    }
}

/// A number in [0, 1] that is another each time: those who started together shall not look together.
fn scatter() -> f64 {
    let digits = unique();
    let number = digits
        .get(..8)
        .and_then(|digits| u32::from_str_radix(digits, 16).ok());
    number.map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

/// Puts files together.
pub(crate) struct Merging {
    catalogue: Arc<Catalogue>,
    context: Arc<TaskContext>,
    /// Names of files that could not be put together. Bounded by the files of the lake.
    left_alone: HashSet<String>,
}

impl Merging {
    pub(crate) fn new(catalogue: Arc<Catalogue>) -> Result<Self, PlaceError> {
        let environment = Arc::<RuntimeEnv>::default();
        let place = catalogue.place();
        scan::register_store(&environment, place.store()).map_err(|error| place.work(error))?;
        Ok(Self {
            context: Arc::new(TaskContext::default().with_runtime(environment)),
            catalogue,
            left_alone: HashSet::new(),
        })
    }

    /// Makes one file of several, if there are enough; of how many.
    pub(crate) async fn turn(&mut self) -> Result<usize, PlaceError> {
        let mut files = self.catalogue.files().await?;
        files.retain(|file| !self.left_alone.contains(&file.name));
        let Some((class, day, files)) = chosen(files) else {
            return Ok(0);
        };
        let place = self.catalogue.place();
        let remove: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let count = remove.len();
        let context = Arc::clone(&self.context);
        // Decoding and encoding take the processor for a while.
        let merged = tokio::task::spawn_blocking(move || -> Result<_, MergeError> {
            let files = files.into_iter().map(|file| LakeFile {
                class,
                name: file.name,
                rows: file.rows,
                bytes: file.bytes,
            });
            tokio::runtime::Handle::current().block_on(merged_in_memory(context, class, day, files.collect()))
        });
        let merged = merged.await.map_err(|error| place.work(error))?;
        let (rows, body) = match merged {
            Ok(merged) => merged,
            Err(error) => {
                let (first, last) = (remove.first(), remove.last());
                let among = first.zip(last).map(|(first, last)| format!("{first} to {last}"));
                let error = format!("{} cannot be put together: {error}", among.unwrap_or_default());
                let error = place.work(error);
                self.left_alone.extend(remove);
                return Err(error);
            }
        };
        let listed = Listed {
            name: format!("class={}/day={day}/{}.parquet", class.name(), unique()),
            class: class.name().to_owned(),
            day: day.0,
            rows,
            bytes: body.len() as u64,
        };
        place.put(&listed.name, body).await?;
        let commit = Commit {
            add: vec![listed],
            remove,
            ..Commit::new()
        };
        self.replace(&commit)
            .await
            .map(|made| if made { count } else { 0 })
    }

    /// Makes the commit, unless others have taken one of the old files off the list.
    async fn replace(&self, commit: &Commit) -> Result<bool, PlaceError> {
        while self.catalogue.commit(commit).await? == Outcome::Late {
            let files = self.catalogue.files().await?;
            let lists = |name: &String| files.iter().any(|file| file.name == *name);
            if commit.add.iter().all(|file| lists(&file.name)) {
                // The answer to an attempt was lost.
                return Ok(true);
            }
            if !commit.remove.iter().all(lists) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Files to be put together: the smallest first, since there are most of them; the oldest of those.
fn chosen(files: Vec<Listed>) -> Option<(Class, Day, Vec<Listed>)> {
    let mut groups: BTreeMap<(u32, i32, String), Vec<Listed>> = BTreeMap::new();
    for file in files.into_iter().filter(|file| file.bytes < LARGE) {
        let size = (file.bytes / SMALL + 1).ilog(AT_LEAST as u64);
        groups
            .entry((size, file.day, file.class.clone()))
            .or_default()
            .push(file);
    }
    groups.into_iter().find_map(|((_, day, class), mut files)| {
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let mut bytes = 0;
        files.truncate(AT_MOST);
        let fits = |file: &Listed| {
            bytes += file.bytes;
            bytes <= LARGE
        };
        let files: Vec<Listed> = files.into_iter().take_while(fits).collect();
        // What it is of is unknown where a newer collector has written it.
        Some((Class::named(&class)?, Day(day), files)).filter(|(_, _, files)| files.len() >= AT_LEAST)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(count: usize, bytes: u64, class: &str) -> Vec<Listed> {
        let file = |number| Listed {
            name: format!("class={class}/day=2026-01-01/{bytes:010}-{number:03}.parquet"),
            class: class.to_owned(),
            day: 5,
            rows: 1,
            bytes,
        };
        (0..count).map(file).collect()
    }

    #[test]
    fn files_of_one_size_are_chosen_and_large_ones_are_left() {
        let of = |files: Vec<Listed>| chosen(files).map(|(class, _, files)| (class, files.len()));
        assert_eq!(of(files(AT_LEAST - 1, 100, "process")), None);
        assert_eq!(
            of(files(AT_LEAST, 100, "process")),
            Some((Class::Process, AT_LEAST))
        );
        assert_eq!(of(files(99, 100, "process")), Some((Class::Process, AT_MOST)));
        assert_eq!(of(files(99, 100, "of-tomorrow")), None);
        assert_eq!(of(files(99, LARGE, "process")), None);
        // So many at once that they make one large file.
        assert_eq!(of(files(99, LARGE / 10, "process")), Some((Class::Process, 10)));
        let mut mixed = files(7, 100, "process");
        mixed.extend(files(7, 100, "file"));
        mixed.extend(files(7, 40 * SMALL, "process"));
        assert_eq!(of(mixed.clone()), None);
        mixed.extend(files(9, 20 * SMALL, "process"));
        assert_eq!(of(mixed), Some((Class::Process, AT_MOST)));
    }
}
