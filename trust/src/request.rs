//! A key, and the request to have it certified (PKCS #10). The key is ECDSA on P-256, made here, and leaves in no message.
//!
//! Of a request only the key counts, and that whoever asks has it: who they are says their token or their former certificate.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair, PublicKeyData,
    SignatureAlgorithm,
};
use rustls::pki_types::CertificateSigningRequestDer;

use crate::DER_MAX;

/// Why somebody's key cannot be certified.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Too long.
    #[error("the request of {0} bytes is longer than {DER_MAX}")]
    Long(usize),
    /// Not a request, or one that was not signed with its key.
    #[error("the request cannot be used: {0}; it must be PKCS #10 in DER, signed with its own key")]
    Unusable(rcgen::Error),
}

/// No key could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a key: {0}")]
pub struct KeyError(rcgen::Error);

/// A key that somebody wants certified.
#[derive(Debug)]
pub struct Requested(CertificateSigningRequestParams);

impl Requested {
    /// Reads a request, DER, and checks that it was signed with its key.
    ///
    /// # Errors
    /// If it is none, is too long, or was not.
    pub fn parse(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > DER_MAX {
            return Err(RequestError::Long(der.len()));
        }
        let request = CertificateSigningRequestDer::from(der);
        CertificateSigningRequestParams::from_der(&request)
            .map(Self)
            .map_err(RequestError::Unusable)
    }
}

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        // Its own method of this name borrows it.
        PublicKeyData::algorithm(&self.0.public_key)
    }
}

/// A new key in PEM, and the request for it in DER.
///
/// # Errors
/// If there is no randomness.
pub fn new() -> Result<(String, Vec<u8>), KeyError> {
    let key = KeyPair::generate().map_err(KeyError)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(KeyError)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_for_the_key_that_was_made() {
        let (key, request) = new().unwrap();
        let requested = Requested::parse(&request).unwrap();
        assert_eq!(
            requested.der_bytes(),
            KeyPair::from_pem(&key).unwrap().der_bytes()
        );
    }

    #[test]
    fn a_request_for_another_key_is_refused() {
        let (_, mut request) = new().unwrap();
        // The last bytes are the signature.
        *request.last_mut().unwrap() ^= 1;
        let error = Requested::parse(&request).unwrap_err().to_string();
        assert!(error.starts_with("the request cannot be used"), "{error}");
        let error = Requested::parse(&vec![0; DER_MAX + 1]).unwrap_err().to_string();
        insta::assert_snapshot!(error, @"the request of 16385 bytes is longer than 16384");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Requested::parse(&bytes);
        }
    }
}
