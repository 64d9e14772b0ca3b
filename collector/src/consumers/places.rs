//! How many subscriptions somebody may have: each has a queue of its own, or reads the lake.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sensor_trust::Identity;
use tonic::Status;

use crate::trust::Peer;

/// Subscriptions of one who is known at once, over all their connections; of this host together, where nobody is told from anybody else.
const OF_ONE: usize = 64;

/// All that there are. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<Whose, usize>>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Known(Identity),
    /// Whoever looks after the collector, by its socket: nobody else can take their places.
    Owner,
    Unchecked,
}

/// A subscription is there as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    whose: Whose,
}

impl Places {
    /// One more.
    ///
    /// # Errors
    /// If they have as many as they may.
    pub(super) fn take(&self, peer: &Peer) -> Result<Place, Status> {
        let whose = match peer {
            Peer::Known { identity, .. } => Whose::Known(identity.clone()),
            Peer::Owner { .. } => Whose::Owner,
            Peer::Stranger(_) | Peer::Unchecked(_) => Whose::Unchecked,
        };
        let mut places = self.lock();
        let count = places.entry(whose.clone()).or_default();
        if *count >= OF_ONE {
            return Err(Status::resource_exhausted(format!(
                "{} has {OF_ONE} subscriptions, and may not have more at once; end one of them first",
                peer.who()
            )));
        }
        *count += 1;
        let places = self.clone();
        Ok(Place { places, whose })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Whose, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock();
        if let Some(count) = places.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                places.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_after_the_collector_has_places_of_their_own() {
        let places = Places::default();
        let unchecked = Peer::Unchecked(([127, 0, 0, 1], 1).into());
        let held: Vec<Place> = (0..OF_ONE)
            .map(|_| places.take(&unchecked).expect("has one"))
            .collect();
        let owner = places.take(&Peer::Owner { uid: 0 });
        assert!(places.take(&unchecked).is_err() && owner.is_ok());
        drop(held);
        assert!(places.take(&unchecked).is_ok());
    }
}
