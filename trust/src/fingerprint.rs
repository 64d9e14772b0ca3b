//! By what an authority is known before it is trusted: the digest of its key, not of its certificate, so that it may get a new one.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use crate::hex;

/// SHA-256 of a certificate's `SubjectPublicKeyInfo`, DER as it stands in it. What `kubeadm` calls `discovery-token-ca-cert-hash`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(&self.0, f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// It is not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has 64 hexadecimal digits")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        hex::parse(text).map(Self).ok_or(NoFingerprint)
    }
}
