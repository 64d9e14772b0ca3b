//! The key of a host, by which its evidence is known.
//!
//! The secret is a seed of 32 random bytes in the agent's state directory, made when it is first needed and readable for its owner only.
//! Beside it lies the public key in hexadecimal, to be kept elsewhere: whoever becomes root here can sign anything from then on, but
//! cannot make another key be the one that was noted before.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    str::FromStr,
};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rustix::fs::OFlags;

use super::ForensicsError;
use crate::{hex::hex, state};

/// Name of the secret key in the state directory.
const SECRET: &str = "forensics.key";

/// Name of the public key there.
const PUBLIC: &str = "forensics.pub";

/// The key that signs.
#[derive(Clone)]
pub struct HostKey(SigningKey);

impl HostKey {
    /// The key in the state directory `state`, which is made if there is none.
    ///
    /// # Errors
    /// If it cannot be read or made, or others could have read or replaced it.
    pub fn open(state: &Path) -> Result<Self, ForensicsError> {
        let path = state.join(SECRET);
        let failed = |why: String| ForensicsError::Key {
            path: path.clone(),
            why,
        };
        match read(&path) {
            Ok(seed) => Ok(Self(SigningKey::from_bytes(&seed))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(state, &path).map_err(|error| failed(format!("it cannot be made: {error}")))?;
                let seed = read(&path).map_err(|error| failed(error.to_string()))?;
                Ok(Self(SigningKey::from_bytes(&seed)))
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// What it is known by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    #[cfg(test)]
    pub(super) fn of_seed(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }
}

/// A host's public key; in text, 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key of these bytes; `None` if they are none.
    #[must_use]
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().map(Self)
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Whether whoever has the secret signed this. Strict: no second signature can be made of one that is there.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0
            .verify_strict(message, &Signature::from_bytes(signature))
            .is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.to_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Text that is no public key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no public key: it must be 64 hexadecimal digits, as `sensor forensics key` prints them")]
pub struct NoKey;

impl FromStr for PublicKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let text = text.trim();
        if text.len() != 64 || !text.is_ascii() {
            return Err(NoKey);
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2).ok_or(NoKey)?;
            if digits.starts_with('+') {
                return Err(NoKey);
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NoKey)?;
        }
        Self::from_bytes(&bytes).ok_or(NoKey)
    }
}

fn read(path: &Path) -> io::Result<[u8; 32]> {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.read(true).custom_flags(flags.bits() as i32).open(path)?;
    let about = file.metadata()?;
    let own = about.uid() == rustix::process::geteuid().as_raw();
    if !about.is_file() || !own || about.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "it is not a file of mode 0600 that belongs to who runs this: others may know it; move it away, and a new one is made",
        ));
    }
    let mut seed = Vec::new();
    file.take(33).read_to_end(&mut seed)?;
    let exact = seed.try_into();
    exact.map_err(|_| io::Error::other("it is not 32 bytes long; move it away, and a new one is made"))
}

/// Makes a key and puts it where none is. Two that do so at once end up with the same: the second finds the first's in place.
fn make(state: &Path, path: &Path) -> io::Result<()> {
    let seed = state::random()?;
    match state::write_new(path, &seed) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    let public = SigningKey::from_bytes(&seed).verifying_key();
    let text = format!("{}\n", hex(public.as_bytes()));
    state::write(&state.join(PUBLIC), text.as_bytes())
}
