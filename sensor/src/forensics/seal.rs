//! The end of a bundle: the host's signature of all that comes before.
//!
//! It is a skippable frame of Zstandard (RFC 8878, 3.1.2), so `tar --zstd` and `zstd -d` pass over it. Always [`SIZE`] bytes:
//!
//! ```text
//! 0   4D 2A 50 18 backwards: the magic number of a skippable frame, little-endian
//! 4   length of what follows, little-endian: 104
//! 8   "SNSRSEAL"
//! 16  public key
//! 48  Ed25519 signature of "sensor forensics seal 1" and the SHA-256 of all bytes before the frame
//! ```

use super::key::{HostKey, PublicKey};

/// Bytes of the frame.
pub(super) const SIZE: usize = 112;

const MAGIC: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
const NAME: &[u8; 8] = b"SNSRSEAL";

/// No manifest begins so: one signature cannot be taken for the other.
const CONTEXT: &[u8] = b"sensor forensics seal 1";

/// A seal that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seal {
    pub(super) key: PublicKey,
    signature: [u8; 64],
}

impl Seal {
    pub(super) fn new(key: &HostKey, digest: &[u8; 32]) -> Self {
        Self {
            key: key.public(),
            signature: key.sign(&message(digest)),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&(SIZE as u32 - 8).to_le_bytes());
        bytes[8..16].copy_from_slice(NAME);
        bytes[16..48].copy_from_slice(&self.key.to_bytes());
        bytes[48..].copy_from_slice(&self.signature);
        bytes
    }

    /// The seal in these bytes, if they are one.
    pub(super) fn parse(bytes: &[u8; SIZE]) -> Option<Self> {
        let key: [u8; 32] = bytes[16..48].try_into().ok()?;
        let seal = Self {
            key: PublicKey::from_bytes(&key)?,
            signature: bytes[48..].try_into().ok()?,
        };
        (seal.to_bytes() == *bytes).then_some(seal)
    }

    /// Whether `key` sealed what has this digest.
    pub(super) fn holds(&self, key: &PublicKey, digest: &[u8; 32]) -> bool {
        key.signed(&message(digest), &self.signature)
    }
}

fn message(digest: &[u8; 32]) -> Vec<u8> {
    [CONTEXT, digest].concat()
}
