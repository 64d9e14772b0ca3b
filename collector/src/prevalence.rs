//! On how many hosts what is normal there was seen: what agents share, counted, and given back to each as what the others know.
//!
//! What a host has shared last is an object `facts/HOST`: in the data directory, or in the lake where several collectors share one, so that each
//! counts the hosts of all. It is hashes alone, which the [`novelty`](sensor_behaviour::novelty) models of agents understand.
//!
//! Counting goes over all of them, and is done when somebody asks, but never for more than a hundredth of the time: so long what was counted
//! before is the answer, in which the asking host may be one too many. A host that has not shared for [`SILENT`] counts no more, and is forgotten.
//!
//! Bounds: [`FACTS_BYTES_MAX`] of a host, as many facts as [`Prevalence`] counts; one host's are read at a time.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sensor_behaviour::novelty::{Novelty, Prevalence};
use tokio::{sync::Mutex, time::Instant};
use tonic::Status;

use crate::lake::shared::{Place, PlaceError};

/// Where they are.
const FOLDER: &str = "facts";

/// For how long a host counts that does not share any more.
const SILENT: Duration = Duration::from_secs(30 * 86_400);

/// Most bytes that a host may share: 2,048 facts of three scopes take a fifth of that.
pub const FACTS_BYTES_MAX: usize = 1 << 20;

/// How much longer than it took counting is not done again.
const REST: u32 = 100;

/// What hosts have shared.
#[derive(Clone, Debug)]
pub struct Facts {
    place: Place,
    counted: Arc<Mutex<Option<Counted>>>,
}

#[derive(Debug)]
struct Counted {
    prevalence: Arc<Prevalence>,
    again_at: Instant,
}

impl Facts {
    /// At this place.
    #[must_use]
    pub fn at(place: Place) -> Self {
        Self {
            place,
            counted: Arc::default(),
        }
    }

    /// In a directory.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn in_directory(directory: &Path) -> Result<Self, PlaceError> {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Place::at(&format!("file://{}", directory.display())).map(Self::at)
    }

    /// Keeps what `host` shares; how many others have, and what they know.
    ///
    /// # Errors
    /// If it is not what an agent shares, or cannot be kept; in words for the agent.
    pub async fn share(&self, host: &str, bytes: Vec<u8>) -> Result<(u32, Vec<u8>), Status> {
        if bytes.len() > FACTS_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "{} bytes of facts, and {FACTS_BYTES_MAX} are taken",
                bytes.len()
            )));
        }
        let own = Novelty::shared_from_snapshot(&bytes)
            .map_err(|error| Status::invalid_argument(format!("these are no facts: {error}")))?;
        let unavailable = |error: PlaceError| {
            tracing::warn!(%host, "its facts are not counted: {error}");
            Status::unavailable("the collector cannot keep facts now; its log says why")
        };
        let name = format!("{FOLDER}/{host}");
        self.place.put(&name, bytes).await.map_err(unavailable)?;
        let prevalence = self.counted().await.map_err(unavailable)?;
        let others = tokio::task::spawn_blocking(move || {
            (
                prevalence.hosts().saturating_sub(1),
                prevalence.without(&own).to_snapshot(),
            )
        });
        others
            .await
            .map_err(|_| Status::unavailable("the collector is stopping"))
    }

    /// What was counted, now or a while ago.
    async fn counted(&self) -> Result<Arc<Prevalence>, PlaceError> {
        let mut counted = self.counted.lock().await;
        let begun = Instant::now();
        if let Some(counted) = &*counted
            && begun < counted.again_at
        {
            return Ok(Arc::clone(&counted.prevalence));
        }
        let prevalence = Arc::new(self.count().await?);
        let took = begun.elapsed();
        *counted = Some(Counted {
            prevalence: Arc::clone(&prevalence),
            again_at: Instant::now() + took * REST,
        });
        tracing::debug!(
            "{} facts of {} hosts counted in {took:?}; no room for {}",
            prevalence.facts(),
            prevalence.hosts(),
            prevalence.left_out()
        );
        Ok(prevalence)
    }

    async fn count(&self) -> Result<Prevalence, PlaceError> {
        let mut listed = self.place.list(Some(FOLDER)).await?;
        // The same hosts every time where there is no room for all facts.
        listed.sort_by(|one, other| one.location.cmp(&other.location));
        let oldest = SystemTime::now() - SILENT;
        let mut prevalence = Prevalence::default();
        for object in listed {
            let name = object.location.to_string();
            if SystemTime::from(object.last_modified) < oldest {
                self.place.remove(&name).await?;
                continue;
            }
            // Gone since it was listed: another collector has found it too old.
            let Some(bytes) = self.place.get(&name).await? else {
                continue;
            };
            let added = tokio::task::spawn_blocking(move || {
                match Novelty::shared_from_snapshot(&bytes) {
                    Ok(host) => prevalence.add(&host),
                    Err(error) => tracing::warn!("{name} is not counted: {error}; the host will share anew"),
                }
                prevalence
            });
            prevalence = added.await.map_err(|error| self.place.work(error))?;
        }
        Ok(prevalence)
    }
}

#[cfg(test)]
mod tests {
    use sensor_behaviour::novelty::{Learning, Limits};

    use super::*;

    fn facts(folder: &tempfile::TempDir) -> Facts {
        Facts::in_directory(folder.path()).unwrap()
    }

    fn shared(names: &[&str]) -> Vec<u8> {
        let mut model = Novelty::new(Limits::default(), Learning::default());
        for name in names {
            model.accept(&["web", "host"], b"nginx", name.as_bytes(), 0);
        }
        model.share(&["host"], None).to_snapshot()
    }

    /// Facts and on how many hosts the whole of them.
    fn told(bytes: &[u8]) -> Vec<(usize, u64)> {
        let prior = Novelty::prior_from_snapshot(bytes).unwrap();
        let scopes = prior
            .subjects()
            .map(|(_, _, facts)| (facts, prior.facts("host", 9)));
        scopes
            .map(|(facts, seen)| (facts, seen.iter().map(|(_, hosts)| hosts).sum()))
            .collect()
    }

    #[tokio::test]
    async fn each_hears_of_the_others_and_not_of_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (hosts, others) = facts(&folder).share("one", shared(&["a", "b"])).await.unwrap();
        assert_eq!((hosts, told(&others)), (0, vec![(0, 0)]));
        let (hosts, others) = facts(&folder).share("two", shared(&["a", "c"])).await.unwrap();
        assert_eq!((hosts, told(&others)), (1, vec![(2, 2)]));
        // Another collector at the same place, or this one when it has started again; a host's facts take the place of its older ones.
        let (hosts, others) = facts(&folder).share("one", shared(&["a"])).await.unwrap();
        assert_eq!((hosts, told(&others)), (1, vec![(2, 2)]));
        let (hosts, others) = facts(&folder).share("three", shared(&[])).await.unwrap();
        assert_eq!((hosts, told(&others)), (2, vec![(2, 3)]));
    }

    #[tokio::test]
    async fn what_is_no_facts_is_refused_and_what_was_damaged_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let facts = facts(&folder);
        for bad in [b"GIF89a".to_vec(), vec![0; FACTS_BYTES_MAX + 1], Vec::new()] {
            let refused = facts.share("one", bad).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
        }
        std::fs::create_dir_all(folder.path().join(FOLDER)).unwrap();
        std::fs::write(folder.path().join(FOLDER).join("broken"), b"half of").unwrap();
        let (hosts, _) = facts.share("one", shared(&["a"])).await.unwrap();
        assert_eq!(hosts, 0);
    }

    #[tokio::test]
    async fn who_has_not_shared_for_long_counts_no_more() {
        let folder = tempfile::tempdir().unwrap();
        facts(&folder).share("old", shared(&["a"])).await.unwrap();
        let path = folder.path().join(FOLDER).join("old");
        let then = SystemTime::now() - SILENT - Duration::from_secs(60);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(then)
            .unwrap();
        let (hosts, _) = facts(&folder).share("new", shared(&["a"])).await.unwrap();
        assert!(hosts == 0 && !path.exists());
    }
}
