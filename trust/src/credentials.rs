//! A key, its certificate and whom it trusts, on disk.
//!
//! What was enrolled is one file, `identity.pem`, mode 0600: the key, its certificate, then the certificates of the
//! authority. It is replaced as a whole, so that a key never lies beside a certificate of another. Operators who have an
//! authority of their own name three files instead; nothing is written to them.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{Certificate, CertificateError};

/// Name of the file of what was enrolled.
pub const FILE: &str = "identity.pem";

/// Longest file that is read, in bytes.
pub const FILE_MAX: u64 = 256 << 10;

/// Most certificates of one file.
const CERTIFICATES_MAX: usize = 32;

/// Where somebody's credentials lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// What was enrolled: `identity.pem` in this directory.
    Enrolled(PathBuf),
    /// Files of an operator's own.
    Files {
        /// Whom to trust.
        authority: PathBuf,
        /// The certificate, with others between it and the authority behind it.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// A key that is certified.
pub struct Credentials {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Who is trusted.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What the first certificate says.
    pub certificate: Certificate,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Nobody has enrolled.
    #[error(
        "nobody has enrolled here: there is no {}; use `sensor enroll` with a token of `collector enroll`", _0.display()
    )]
    Missing(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Others can read the key.
    #[error("{} has mode {mode:03o}, so that others can read the key; `chmod 600` it, and ask yourself who has read it", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Something is missing in it.
    #[error("{} has no {what} in PEM", path.display())]
    Lacks {
        /// Which.
        path: PathBuf,
        /// What.
        what: &'static str,
    },
    /// A certificate makes no sense.
    #[error("{}: {cause}", path.display())]
    Certificate {
        /// In which file.
        path: PathBuf,
        /// What is wrong.
        cause: CertificateError,
    },
}

impl Place {
    /// Reads them.
    ///
    /// # Errors
    /// If they are not there, are open to others, or make no sense.
    pub fn load(&self) -> Result<Credentials, CredentialsError> {
        match self {
            Self::Enrolled(directory) => {
                let path = directory.join(FILE);
                let text = read_secret(&path)?;
                let mut chain = certificates(&text, &path)?;
                let authorities = chain.split_off(1);
                if authorities.is_empty() {
                    let what = "certificate of an authority";
                    return Err(CredentialsError::Lacks { path, what });
                }
                Credentials::new(chain, key(&text, &path)?, authorities, &path)
            }
            Self::Files {
                authority,
                certificate,
                key: file,
            } => {
                let chain = certificates(&read(certificate)?, certificate)?;
                let authorities = certificates(&read(authority)?, authority)?;
                Credentials::new(chain, key(&read_secret(file)?, file)?, authorities, certificate)
            }
        }
    }
}

impl Credentials {
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authorities: Vec<CertificateDer<'static>>,
        path: &Path,
    ) -> Result<Self, CredentialsError> {
        let certificate = Certificate::parse(&chain[0]).map_err(|cause| CredentialsError::Certificate {
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self {
            chain,
            key,
            authorities,
            certificate,
        })
    }

    /// Those who are trusted, as TLS takes them; what makes no sense among them is left out.
    #[must_use]
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.authorities.iter().cloned());
        roots
    }
}

/// Keeps what was enrolled in `directory`, which is made with mode 0700 where it is missing: the key, its certificate and the
/// authority, each in PEM. What was there is replaced as a whole.
///
/// # Errors
/// If that is not possible; then what was there stays.
pub fn store(
    directory: &Path,
    key: &str,
    certificate: &str,
    authority: &str,
) -> Result<(), CredentialsError> {
    let path = directory.join(FILE);
    let write = || {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        write_secret(&path, &[key, certificate, authority].concat())
    };
    write().map_err(|cause| CredentialsError::Write {
        path: path.clone(),
        cause,
    })
}

/// Writes a file of mode 0600, which is there whole or not at all.
///
/// # Errors
/// If that is not possible.
pub fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a file, [`FILE_MAX`] bytes at most.
///
/// # Errors
/// If that is not possible.
pub fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(CredentialsError::Missing(path.to_owned()))
        }
        Err(cause) => Err(CredentialsError::Read {
            path: path.to_owned(),
            cause,
        }),
    }
}

/// Reads a file that is for its owner alone.
///
/// # Errors
/// If it is not, or cannot be read.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let bytes = read(path)?;
    let about = fs::metadata(path).map_err(|cause| CredentialsError::Read {
        path: path.to_owned(),
        cause,
    })?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CredentialsError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(bytes)
}

/// The certificates in a text of PEM: at least one.
///
/// # Errors
/// If there is none, or what looks like one is none.
pub fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let lacks = || CredentialsError::Lacks {
        path: path.to_owned(),
        what: "certificate",
    };
    let found = CertificateDer::pem_slice_iter(pem).take(CERTIFICATES_MAX);
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|_| lacks())?;
    if found.is_empty() { Err(lacks()) } else { Ok(found) }
}

/// The key in a text of PEM.
///
/// # Errors
/// If there is none.
pub fn key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    let lacks = |_| CredentialsError::Lacks {
        path: path.to_owned(),
        what: "private key",
    };
    PrivateKeyDer::from_pem_slice(pem).map_err(lacks)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn pem(uri: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().unwrap()));
        (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
    }

    fn error(place: &Place, home: &Path) -> String {
        place
            .load()
            .unwrap_err()
            .to_string()
            .replace(&home.display().to_string(), "HOME")
    }

    #[test]
    fn what_is_stored_is_loaded_and_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let place = Place::Enrolled(home.path().join("state"));
        insta::assert_snapshot!(error(&place, home.path()), @"nobody has enrolled here: there is no HOME/state/identity.pem; use `sensor enroll` with a token of `collector enroll`");
        let (key, certificate) = pem("sensor://agent/web1");
        let (_, authority) = pem("https://ca");
        store(&home.path().join("state"), &key, &certificate, &authority).unwrap();
        let loaded = place.load().unwrap();
        assert_eq!(loaded.certificate.identity.unwrap().to_string(), "agent web1");
        assert_eq!((loaded.chain.len(), loaded.authorities.len()), (1, 1));
        let path = home.path().join("state").join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        insta::assert_snapshot!(error(&place, home.path()), @"HOME/state/identity.pem has mode 640, so that others can read the key; `chmod 600` it, and ask yourself who has read it");
    }

    #[test]
    fn what_is_missing_is_named() {
        let home = tempfile::tempdir().unwrap();
        let (key, certificate) = pem("sensor://agent/web1");
        let place = Place::Enrolled(home.path().to_owned());
        store(home.path(), &key, &certificate, "").unwrap();
        insta::assert_snapshot!(error(&place, home.path()), @"HOME/identity.pem has no certificate of an authority in PEM");
        store(home.path(), "", &certificate, &certificate).unwrap();
        insta::assert_snapshot!(error(&place, home.path()), @"HOME/identity.pem has no private key in PEM");
        store(home.path(), &key, "", "").unwrap();
        insta::assert_snapshot!(error(&place, home.path()), @"HOME/identity.pem has no certificate in PEM");
    }
}
