//! Which hosts are connected now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Streams that are open, counted by host. Bounded by the number of connections.
#[derive(Clone, Debug, Default)]
pub struct Presence(Arc<Mutex<HashMap<String, usize>>>);

impl Presence {
    /// Counts a stream of `host` until what it returns is dropped.
    #[must_use]
    pub fn enter(&self, host: &str) -> Present {
        *self.lock().entry(host.to_owned()).or_default() += 1;
        Present {
            presence: self.clone(),
            host: host.to_owned(),
        }
    }

    /// Whether `host` has a stream open.
    #[must_use]
    pub fn is_connected(&self, host: &str) -> bool {
        self.lock().contains_key(host)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host is connected as long as one of these lives.
#[derive(Debug)]
pub struct Present {
    presence: Presence,
    host: String,
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut hosts = self.presence.lock();
        if let Some(count) = hosts.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                hosts.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_connected_while_any_of_its_streams_is_open() {
        let presence = Presence::default();
        let (first, second) = (presence.enter("web1"), presence.enter("web1"));
        drop(first);
        assert!(presence.is_connected("web1"));
        drop(second);
        assert!(!presence.is_connected("web1"));
    }
}
