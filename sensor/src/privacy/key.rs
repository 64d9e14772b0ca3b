//! The key of pseudonyms: a file of the tenant's.
//!
//! Whoever has it can tell whether a pseudonym is that of a user, an address or a path that they think of. So it belongs to root alone, and the
//! collector never sees it. Hosts with the same key give the same pseudonyms: a tenant copies it to those whose events shall be joined.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{hex::hex, state};

/// Bytes of a key: as many as a digest of SHA-256 has.
const LENGTH: usize = 32;

/// A key, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; LENGTH]);

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(..)")
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read or made.
    #[error("cannot {what} the key of pseudonyms {}: {cause}; name another file as [privacy] key_file, or set [privacy] pseudonymise = []", path.display())]
    File {
        /// `read` or `make`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Others can read it.
    #[error("the key of pseudonyms {} can be read by others than its owner (mode {mode:o}): chmod 600 it, or make a new one by removing it", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is something else.
    #[error("the key of pseudonyms {} is not one: 64 hexadecimal digits are wanted; remove it, and a new one is made", path.display())]
    Form {
        /// Which.
        path: PathBuf,
    },
}

impl Key {
    /// The key in the file `path`, which is made where it is not there.
    ///
    /// # Errors
    /// If it can neither be read nor made, others can read it, or it is no key.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        let failed = |what| {
            move |cause| KeyError::File {
                what,
                path: path.to_owned(),
                cause,
            }
        };
        // A file that is there in a place that cannot be written to is good, too.
        if !path.exists() {
            match make(path) {
                Ok(key) => return Ok(key),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("make")(error)),
            }
        }
        let file = File::open(path).map_err(failed("read"))?;
        let mode = file.metadata().map_err(failed("read"))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        let limit = 2 * LENGTH as u64 + 2;
        file.take(limit)
            .read_to_string(&mut text)
            .map_err(failed("read"))?;
        parse(text.trim()).ok_or_else(|| KeyError::Form {
            path: path.to_owned(),
        })
    }

    /// The key with these bytes.
    #[must_use]
    pub fn new(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

/// Makes the file, which is not there yet, with a key drawn by the kernel.
fn make(path: &Path) -> io::Result<Key> {
    let bytes = state::random()?;
    let digits = hex(&bytes);
    state::write_new(path, format!("{digits}\n").as_bytes())?;
    Ok(Key(bytes))
}

fn parse(digits: &str) -> Option<Key> {
    let mut bytes = [0; LENGTH];
    if digits.len() != 2 * LENGTH || !digits.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Key(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("state/privacy.key");
        let made = Key::load_or_make(&path).expect("is made");
        assert_eq!(Key::load_or_make(&path).expect("is read"), made);
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("key");
        let error = || {
            let text = Key::load_or_make(&path).unwrap_err().to_string();
            text.replace(&*home.path().to_string_lossy(), "DIR")
        };
        fs::write(&path, "abc").expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("sets");
        insta::assert_snapshot!(error(), @"the key of pseudonyms DIR/key can be read by others than its owner (mode 644): chmod 600 it, or make a new one by removing it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("sets");
        insta::assert_snapshot!(error(), @"the key of pseudonyms DIR/key is not one: 64 hexadecimal digits are wanted; remove it, and a new one is made");
        let nowhere = Key::load_or_make(Path::new("/proc/nowhere/key")).unwrap_err();
        insta::assert_snapshot!(nowhere, @"cannot make the key of pseudonyms /proc/nowhere/key: No such file or directory (os error 2); name another file as [privacy] key_file, or set [privacy] pseudonymise = []");
    }
}
