//! Who is let in no more, as every handshake asks it: in memory, from the register.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use sensor_trust::Identity;

/// Those who are revoked. Bounded by the certificates that were given and have not expired.
#[derive(Clone, Debug, Default)]
pub struct Revocations(Arc<RwLock<Revoked>>);

#[derive(Debug, Default)]
struct Revoked {
    /// Whoever they say they are by whichever certificate, until they enrol again.
    names: HashSet<Identity>,
    /// Certificates, for good.
    serials: HashSet<Box<str>>,
}

impl Revocations {
    /// Adds somebody and their certificates.
    pub fn add(&self, identity: Identity, serials: impl IntoIterator<Item = Box<str>>) {
        let mut revoked = self.0.write().unwrap_or_else(PoisonError::into_inner);
        revoked.names.insert(identity);
        revoked.serials.extend(serials);
    }

    /// Adds a certificate.
    pub fn add_serial(&self, serial: Box<str>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .serials
            .insert(serial);
    }

    /// They have enrolled again: certificates from then on are good; those from before are not.
    pub fn lift(&self, identity: &Identity) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .names
            .remove(identity);
    }

    /// Whether a certificate is good no more.
    #[must_use]
    pub fn cover(&self, identity: &Identity, serial: &str) -> bool {
        let revoked = self.0.read().unwrap_or_else(PoisonError::into_inner);
        revoked.names.contains(identity) || revoked.serials.contains(serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_does_so_with_a_new_certificate() {
        let (revoked, identity) = (
            Revocations::default(),
            Identity::from_uri("sensor://agent/web1").expect("one"),
        );
        revoked.add(identity.clone(), ["01".into()]);
        assert!(revoked.cover(&identity, "01") && revoked.cover(&identity, "02"));
        revoked.lift(&identity);
        assert!(revoked.cover(&identity, "01") && !revoked.cover(&identity, "02"));
    }
}
