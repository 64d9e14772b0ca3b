//! What of a certificate matters here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
};

use crate::{DER_MAX, Fingerprint, Identity, IdentityError, hex};

/// A certificate that was read. That it is of an authority which is trusted is for TLS to say, before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its number, unique within its authority: hexadecimal digits.
    pub serial: Box<str>,
    /// From when it is valid.
    pub begins: SystemTime,
    /// Until when it is valid.
    pub ends: SystemTime,
    /// Of its own key.
    pub fingerprint: Fingerprint,
    /// Whom it is of; none if no URI of ours is in it, or more than one.
    pub identity: Result<Identity, NoIdentity>,
}

/// Why a certificate says nothing of who somebody is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// It has no such name.
    #[error("the certificate has no URI sensor://ROLE/NAME among its names")]
    Missing,
    /// It has several.
    #[error("the certificate has several URIs sensor://ROLE/NAME; it must have one")]
    Several,
    /// It has one that makes no sense.
    #[error("the URI in the certificate is wrong: {0}")]
    Wrong(#[from] IdentityError),
}

/// Bytes that are no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes are not a certificate (X.509, DER, at most {DER_MAX} bytes)")]
pub struct CertificateError {
    /// How many bytes there were.
    pub length: usize,
}

impl Certificate {
    /// Reads one, DER.
    ///
    /// # Errors
    /// If it is none, or too long.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let refused = CertificateError { length: der.len() };
        if der.len() > DER_MAX {
            return Err(refused);
        }
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| refused)?;
        if !rest.is_empty() {
            return Err(refused);
        }
        let validity = parsed.validity();
        Ok(Self {
            serial: hex::hex(parsed.raw_serial()).into(),
            begins: time(validity.not_before.timestamp()),
            ends: time(validity.not_after.timestamp()),
            fingerprint: Fingerprint::of(parsed.public_key().raw),
            identity: identity(&parsed),
        })
    }

    /// When it should be replaced: after two thirds of its time.
    #[must_use]
    pub fn due(&self) -> SystemTime {
        let whole = self.ends.duration_since(self.begins).unwrap_or_default();
        self.begins + whole * 2 / 3
    }
}

fn identity(certificate: &X509Certificate<'_>) -> Result<Identity, NoIdentity> {
    let mut found = None;
    let names = certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
    for name in names.flatten() {
        if let GeneralName::URI(uri) = name {
            match Identity::from_uri(uri) {
                Err(IdentityError::Scheme) => {}
                Ok(_) if found.is_some() => return Err(NoIdentity::Several),
                parsed => found = Some(parsed?),
            }
        }
    }
    found.ok_or(NoIdentity::Missing)
}

/// Seconds since the epoch; what was before it began with it.
fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> Certificate {
        let mut params = CertificateParams::default();
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names = uris.iter().map(uri).collect();
        params.not_before = time::OffsetDateTime::from_unix_timestamp(1_000).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(4_000).unwrap();
        let key = KeyPair::generate().unwrap();
        Certificate::parse(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn whom_it_is_of() {
        let whom = |uris: &[&str]| match certificate(uris).identity {
            Ok(identity) => identity.to_string(),
            Err(error) => error.to_string(),
        };
        insta::assert_snapshot!(whom(&["https://example.org/", "sensor://agent/web1"]), @"agent web1");
        insta::assert_snapshot!(whom(&[]), @"the certificate has no URI sensor://ROLE/NAME among its names");
        insta::assert_snapshot!(whom(&["sensor://agent/web1", "sensor://admin/web1"]), @"the certificate has several URIs sensor://ROLE/NAME; it must have one");
        insta::assert_snapshot!(whom(&["sensor://king/web1"]), @r#"the URI in the certificate is wrong: no role is called "king"; there are agent, viewer, responder and admin"#);
    }

    #[test]
    fn it_is_due_after_two_thirds() {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let certificate = certificate(&[]);
        assert_eq!(
            [certificate.begins, certificate.due(), certificate.ends].map(seconds),
            [1_000, 3_000, 4_000]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Certificate::parse(&bytes);
        }
    }
}
