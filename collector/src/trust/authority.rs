//! Who gives certificates: the collector's own authority, or an operator's.
//!
//! The collector's own is made when it first serves: `ca.pem` and `ca.key` (0600) in its data directory, ECDSA on P-256, for ten
//! years. After two thirds of that its certificate is made anew with the same key: whoever trusts the former trusts the next, and
//! tokens that carry the key's fingerprint stay good.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use sensor_trust::{Certificate, CredentialsError, Fingerprint, Identity, Secret, credentials};
use time::OffsetDateTime;

use super::Latest;

/// How long the authority's own certificate is valid.
const AUTHORITY: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How far clocks may be apart: a certificate is valid from so long before it was made.
const SKEW: Duration = Duration::from_secs(300);

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";

/// Why there is no authority, or no certificate.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what happened")]
pub enum AuthorityError {
    #[error(transparent)]
    Files(#[from] CredentialsError),
    #[error("{} is there and {} is not: put it back, or remove both to begin with a new authority, for which everybody has to enrol again", there.display(), missing.display())]
    Half { there: PathBuf, missing: PathBuf },
    #[error("cannot write {}: {cause}", path.display())]
    Write { path: PathBuf, cause: io::Error },
    #[error("the key in {} is not that of the certificate in {}", key.display(), certificate.display())]
    Mismatch { key: PathBuf, certificate: PathBuf },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{0:?} can be no name of a server; --name takes host names and addresses")]
    Name(String),
    #[error("{} has a certificate that can be trusted by nobody: {why}; those of before are used", path.display())]
    Unusable { path: PathBuf, why: String },
    #[error("{} begins with the certificate of another authority than certificates are given with: restart the collector with its key; those of before are used", path.display())]
    Another { path: PathBuf },
    #[error("no randomness: {0}")]
    Random(#[from] io::Error),
    #[error("key and certificate are of no use to TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Gives certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    current: Latest<Arc<Current>>,
    fingerprint: Fingerprint,
    /// Where its own certificate is kept, where that is ours to make anew.
    kept: Option<PathBuf>,
}

/// The authority's own certificate.
#[derive(Debug)]
struct Current {
    pem: String,
    der: CertificateDer<'static>,
    about: Certificate,
}

/// A certificate that was given.
#[derive(Clone, Debug)]
pub struct Issued {
    /// As it is handed over.
    pub pem: String,
    /// What it says.
    pub certificate: Certificate,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// The one in the data directory, which is made where there is none.
    ///
    /// # Errors
    /// If its files cannot be read or written.
    pub fn open(data: &Path) -> Result<Self, AuthorityError> {
        let (certificate, key) = (data.join(CERTIFICATE), data.join(KEY));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (false, false) => make(&certificate, &key)?,
            (true, false) => {
                return Err(AuthorityError::Half {
                    there: certificate,
                    missing: key,
                });
            }
            (false, true) => {
                return Err(AuthorityError::Half {
                    there: key,
                    missing: certificate,
                });
            }
        }
        let mut authority = Self::load(&certificate, &key)?;
        authority.kept = Some(certificate);
        authority.renew()?;
        Ok(authority)
    }

    /// The one in these files, PEM.
    ///
    /// # Errors
    /// If they cannot be read, or do not belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let der = certificates(certificate)?.swap_remove(0);
        let secret = String::from_utf8_lossy(&credentials::read_secret(key)?).into_owned();
        let pair = KeyPair::from_pem(&secret)?;
        let about = read(&der, certificate)?;
        if Fingerprint::of(&pair.subject_public_key_info()) != about.fingerprint {
            let (key, certificate) = (key.to_owned(), certificate.to_owned());
            return Err(AuthorityError::Mismatch { key, certificate });
        }
        let pem = String::from_utf8_lossy(&credentials::read(certificate)?).into_owned();
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&der, pair)?,
            fingerprint: about.fingerprint,
            current: Latest::new(Arc::new(Current { pem, der, about })),
            kept: None,
        })
    }

    /// By what it is known.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Checks that a certificate, which is in the file `path`, is of its key.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_same(&self, der: &[u8], path: &Path) -> Result<(), AuthorityError> {
        if read(der, path)?.fingerprint == self.fingerprint {
            return Ok(());
        }
        let path = path.to_owned();
        Err(AuthorityError::Another { path })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.current.get().pem.clone()
    }

    /// The same, DER.
    #[must_use]
    pub fn der(&self) -> CertificateDer<'static> {
        self.current.get().der.clone()
    }

    /// Makes its own certificate anew if it is time and it is ours to make.
    ///
    /// # Errors
    /// If it cannot be made or written.
    pub fn renew(&self) -> Result<(), AuthorityError> {
        let Some(path) = &self.kept else { return Ok(()) };
        if self.current.get().about.due() > SystemTime::now() {
            return Ok(());
        }
        let made = own_params(self.fingerprint)?.self_signed(self.issuer.key())?;
        write(path, &made.pem())?;
        let (pem, der) = (made.pem(), made.der().clone());
        let about = read(&der, path)?;
        self.current.set(Arc::new(Current { pem, der, about }));
        tracing::info!("the authority has a new certificate, with the same key");
        Ok(())
    }

    /// A certificate for somebody's key: for clients, with their identity as its name.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn certify(
        &self,
        identity: &Identity,
        key: &impl PublicKeyData,
        lifetime: Duration,
    ) -> Result<Issued, AuthorityError> {
        let mut params = params(identity.name.as_str(), lifetime)?;
        let uri = identity.uri();
        let uri = uri
            .as_str()
            .try_into()
            .map_err(|_| AuthorityError::Name(uri.clone()))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let made = params.signed_by(key, &self.issuer)?;
        Ok(Issued {
            pem: made.pem(),
            certificate: read(made.der(), Path::new("the new certificate"))?,
        })
    }

    /// A new key and a certificate for a server of these names, with the authority's own behind it: who has nothing but its
    /// fingerprint finds it there.
    ///
    /// # Errors
    /// If a name can be none, or it cannot be made.
    pub fn server(&self, names: &[String], lifetime: Duration) -> Result<CertifiedKey, AuthorityError> {
        let key = KeyPair::generate()?;
        let first = names.first().map_or("collector", String::as_str);
        let mut params = params(first, lifetime)?;
        params.subject_alt_names = names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let made = params.signed_by(&key, &self.issuer)?;
        let secret =
            PrivateKeyDer::try_from(key.serialize_der()).map_err(|text| AuthorityError::Name(text.into()))?;
        Ok(CertifiedKey::new(
            vec![made.der().clone(), self.der()],
            any_supported_type(&secret)?,
        ))
    }
}

/// The certificates in a file.
///
/// # Errors
/// If it cannot be read, or has none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    Ok(credentials::certificates(&credentials::read(path)?, path)?)
}

fn make(certificate: &Path, key: &Path) -> Result<(), AuthorityError> {
    let pair = KeyPair::generate()?;
    let fingerprint = Fingerprint::of(&pair.subject_public_key_info());
    let made = own_params(fingerprint)?.self_signed(&pair)?;
    write(key, &pair.serialize_pem())?;
    write(certificate, &made.pem())?;
    tracing::info!(
        "made an authority of this collector's own: {}, its key in {}",
        certificate.display(),
        key.display()
    );
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), AuthorityError> {
    credentials::write_secret(path, text).map_err(|cause| AuthorityError::Write {
        path: path.to_owned(),
        cause,
    })
}

fn read(der: &[u8], path: &Path) -> Result<Certificate, AuthorityError> {
    let wrong = |cause| CredentialsError::Certificate {
        path: path.to_owned(),
        cause,
    };
    Ok(Certificate::parse(der).map_err(wrong)?)
}

/// The same subject each time that it is made for the same key: certificates that were given name it as their issuer.
fn own_params(fingerprint: Fingerprint) -> Result<CertificateParams, AuthorityError> {
    let id = &fingerprint.to_string()[..16];
    let mut params = params(&format!("Sensor authority {id}"), AUTHORITY)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = false;
    Ok(params)
}

fn params(name: &str, lifetime: Duration) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // A common name has 64 characters at most; who it is stands in the alternative names.
    let common: String = name.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, common);
    // 127 bits at random, and never negative.
    let mut serial = Secret::random()?.bytes()[..16].to_vec();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let now = SystemTime::now();
    // What lives for seconds, as in tests, shall not be two thirds over when it is made.
    params.not_before = at(now - SKEW.min(lifetime / 10));
    params.not_after = at(now + lifetime);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn at(time: SystemTime) -> OffsetDateTime {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    OffsetDateTime::from_unix_timestamp(seconds.cast_signed()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn san(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_*".contains(&byte);
    let wrong = || AuthorityError::Name(name.to_owned());
    if name.is_empty() || name.len() > 253 || !name.bytes().all(allowed) {
        return Err(wrong());
    }
    name.try_into().map(SanType::DnsName).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use rustls::{pki_types::UnixTime, server::WebPkiClientVerifier};
    use sensor_trust::{
        request::{self, Requested},
        tls,
    };

    use super::*;

    fn agent() -> Identity {
        Identity::from_uri("sensor://agent/web1").expect("an identity")
    }

    #[test]
    fn it_is_made_once_and_for_its_owner_only() {
        let home = tempfile::tempdir().expect("a directory");
        let first = Authority::open(home.path()).expect("is made");
        let second = Authority::open(home.path()).expect("is there");
        assert_eq!(
            (first.fingerprint(), first.pem()),
            (second.fingerprint(), second.pem())
        );
        for file in [CERTIFICATE, KEY] {
            let mode = fs::metadata(home.path().join(file))
                .expect("is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        fs::remove_file(home.path().join(KEY)).expect("removes");
        let error = Authority::open(home.path()).expect_err("is half").to_string();
        assert!(error.contains("put it back"), "{error}");
    }

    #[test]
    fn what_it_gives_names_who_asked_and_ends_in_time() {
        let home = tempfile::tempdir().expect("a directory");
        let authority = Authority::open(home.path()).expect("is made");
        let (_, wanted) = request::new().expect("a request");
        let wanted = Requested::parse(&wanted).expect("is one");
        let [first, second] = [(); 2].map(|()| {
            authority
                .certify(&agent(), &wanted, Duration::from_secs(60))
                .expect("gives")
        });
        assert_eq!(first.certificate.identity, Ok(agent()));
        assert_ne!(first.certificate.serial, second.certificate.serial);
        let left = first
            .certificate
            .ends
            .duration_since(SystemTime::now())
            .expect("is valid");
        assert!(
            left <= Duration::from_secs(60) && left > Duration::from_secs(30),
            "{left:?}"
        );
    }

    #[test]
    fn it_gets_a_new_certificate_and_keeps_its_key() {
        let home = tempfile::tempdir().expect("a directory");
        let first = Authority::open(home.path()).expect("is made");
        let (_, wanted) = request::new().expect("a request");
        let wanted = Requested::parse(&wanted).expect("is one");
        let day = Duration::from_secs(86_400);
        let leaf = first.certify(&agent(), &wanted, day).expect("gives");
        // As it would be in nine years.
        let mut old = own_params(first.fingerprint()).expect("parameters");
        (old.not_before, old.not_after) = (
            at(SystemTime::now() - 900 * day),
            at(SystemTime::now() + 100 * day),
        );
        let old = old.self_signed(first.issuer.key()).expect("is made").pem();
        write(&home.path().join(CERTIFICATE), &old).expect("writes");

        let next = Authority::open(home.path()).expect("is there");
        assert_eq!(next.fingerprint(), first.fingerprint());
        assert_ne!(next.pem(), old);
        assert!(next.current.get().about.due() > SystemTime::now());
        assert_eq!(
            fs::read_to_string(home.path().join(CERTIFICATE)).expect("is there"),
            next.pem()
        );
        // What was given before is of the next as well.
        let mut roots = rustls::RootCertStore::empty();
        roots.add(next.der()).expect("is one");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider()).build();
        let leaf = credentials::certificates(leaf.pem.as_bytes(), Path::new(""))
            .expect("is one")
            .swap_remove(0);
        let verified = verifier
            .expect("a verifier")
            .verify_client_cert(&leaf, &[], UnixTime::now());
        assert!(verified.is_ok(), "{verified:?}");
    }

    #[test]
    fn names_of_servers_are_checked() {
        let home = tempfile::tempdir().expect("a directory");
        let authority = Authority::open(home.path()).expect("is made");
        let names = ["collector.example.org", "::1", "10.0.0.5"].map(str::to_owned);
        assert!(authority.server(&names, Duration::from_secs(60)).is_ok());
        let error = authority
            .server(&["a b".to_owned()], Duration::from_secs(60))
            .expect_err("is none");
        assert_eq!(
            error.to_string(),
            "\"a b\" can be no name of a server; --name takes host names and addresses"
        );
    }
}
