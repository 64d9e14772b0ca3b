//! What is done to a shared lake now and then, by each who stores: what was kept for its time is taken, and files that are no part of the lake are removed.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use object_store::ObjectMeta;

use super::{Catalogue, Commit, Listed, Outcome, PlaceError};
use crate::lake::{Class, Day};

/// How often.
const EVERY: Duration = Duration::from_secs(3600);

/// A file that is not listed may be about to be, for so long.
const UNDECIDED: Duration = Duration::from_secs(86_400);

/// How long files are kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keeping {
    /// Days after their arrival; none for ever.
    pub days: Option<u32>,
    /// Bytes that the lake may have; the oldest days go when it has more. None for no limit.
    pub bytes: Option<u64>,
}

/// Looks after a lake for as long as it is polled.
pub async fn run(catalogue: Arc<Catalogue>, keeping: Keeping) {
    let mut condemned = HashSet::new();
    loop {
        let turn = async {
            retain(&catalogue, keeping, today()).await?;
            sweep(&catalogue, &mut condemned, SystemTime::now()).await
        };
        if let Err(error) = turn.await {
            tracing::error!("{error}; what is to be taken from the lake stays for another hour");
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn today() -> Day {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Day::of(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Takes files off the list whose time has come.
pub(super) async fn retain(catalogue: &Catalogue, keeping: Keeping, today: Day) -> Result<(), PlaceError> {
    loop {
        let remove = excess(catalogue.files().await?, keeping, today);
        if remove.is_empty() {
            return Ok(());
        }
        let commit = Commit {
            remove,
            ..Commit::new()
        };
        if catalogue.commit(&commit).await? == Outcome::Made {
            tracing::info!(
                "{} files were kept for their time and are taken from the lake",
                commit.remove.len()
            );
            return Ok(());
        }
    }
}

fn excess(mut files: Vec<Listed>, keeping: Keeping, today: Day) -> Vec<String> {
    files.sort_by_key(|file| file.day);
    let since = keeping.days.map_or(i32::MIN, |days| today.before(days).0);
    let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let goes = |file: &Listed| {
        let goes = file.day < since || keeping.bytes.is_some_and(|limit| bytes > limit);
        bytes -= file.bytes;
        goes
    };
    let count = files.iter().map(goes).take_while(|goes| *goes).count();
    files.into_iter().take(count).map(|file| file.name).collect()
}

/// Removes files that were not listed an hour ago and are not now: whoever looked at the list when they were on it has read them.
pub(super) async fn sweep(
    catalogue: &Catalogue,
    condemned: &mut HashSet<String>,
    now: SystemTime,
) -> Result<(), PlaceError> {
    let mut found = Vec::new();
    for class in Class::ALL {
        let folder = format!("class={}", class.name());
        found.extend(catalogue.place().list(Some(&folder)).await?);
    }
    // After the files were listed, so that none of them is committed unseen.
    catalogue.refresh().await?;
    let is_old = |object: &ObjectMeta| {
        let age = now.duration_since(object.last_modified.into());
        age.is_ok_and(|age| age > UNDECIDED)
    };
    let unlisted: Vec<_> = catalogue
        .unlisted(found)
        .await
        .into_iter()
        .filter(is_old)
        .collect();
    let names: HashSet<String> = unlisted
        .into_iter()
        .map(|object| object.location.to_string())
        .collect();
    for name in names.intersection(condemned) {
        catalogue.place().remove(name).await?;
    }
    *condemned = names;
    Ok(())
}
