//! What strangers send to a collector before it knows them: tokens, requests for certificates, certificates, addresses. Whatever they
//! are, reading them neither panics nor takes what cannot be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor_trust::{Address, Certificate, Identity, Name, Secret, Token, request::Requested};

fuzz_target!(|bytes: &[u8]| {
    let _ = Requested::parse(bytes);
    let _ = Secret::from_bytes(bytes);
    if let Ok(certificate) = Certificate::parse(bytes) {
        let _ = certificate.due();
        if let Ok(identity) = certificate.identity {
            assert_eq!(Identity::from_uri(&identity.uri()), Ok(identity));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(token) = text.parse::<Token>() {
            assert_eq!(token.reveal().parse(), Ok(token));
        }
        if let Ok(name) = text.parse::<Name>() {
            assert!(!name.as_str().contains('/') && name.as_str() != "..");
        }
        let _ = Identity::from_uri(text);
        let _ = text.parse::<Address>();
    }
});
