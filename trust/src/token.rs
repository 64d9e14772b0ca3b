//! What somebody is given to enrol with: `sensor1.SECRET.FINGERPRINT`, in lower-case hexadecimal digits. The secret has 192 bits and
//! is good once; the fingerprint is that of the authority's key.

use std::{fmt, str::FromStr};

use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};

use crate::{Fingerprint, hex};

/// The form's name and version.
const FORM: &str = "sensor1";

/// Bytes of a secret.
const SECRET: usize = 24;

/// What only the one who was invited knows. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET]);

impl Secret {
    /// One that nobody can guess.
    ///
    /// # Errors
    /// If the kernel has no randomness.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; SECRET];
        if getrandom(&mut bytes[..], GetRandomFlags::empty())? != SECRET {
            return Err(std::io::Error::other("the kernel gave too little randomness"));
        }
        Ok(Self(bytes))
    }

    /// Of these bytes, if they are as many as a secret has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What is kept of it where it is looked up: SHA-256. It is random, so nothing has to be added to it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret, and by what the collector is known that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Good once.
    pub secret: Secret,
    /// Of the collector's authority.
    pub authority: Fingerprint,
}

/// It is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a token: one reads {FORM}.SECRET.FINGERPRINT; copy all of what `collector enroll` printed"
)]
pub struct TokenError;

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().splitn(3, '.');
        let (form, secret, authority) = (parts.next(), parts.next(), parts.next());
        match (form, secret, authority) {
            (Some(FORM), Some(secret), Some(authority)) => Ok(Self {
                secret: hex::parse(secret).map(Secret).ok_or(TokenError)?,
                authority: authority.parse().map_err(|_| TokenError)?,
            }),
            _ => Err(TokenError),
        }
    }
}

impl Token {
    /// As it is handed over. Whoever reads it can enrol: it is not for a log.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{FORM}.{}.{}", hex::hex(self.secret.bytes()), self.authority)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(secret: [u8; SECRET], key: &[u8]) -> Token {
        Token {
            secret: Secret(secret),
            authority: Fingerprint::of(key),
        }
    }

    #[test]
    fn its_secret_is_not_in_its_debugging_form() {
        let token = token([0xab; SECRET], b"key");
        let shown = format!("{token:?}");
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
        insta::assert_snapshot!(token.reveal(), @"sensor1.abababababababababababababababababababababababab.2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = token([7; SECRET], b"key").reveal();
        assert!(format!(" {good}\n").parse::<Token>().is_ok());
        for bad in [
            "",
            "sensor1",
            "sensor1..",
            "sensor2.00.00",
            &good[1..],
            &good[..good.len() - 1],
            &good.to_uppercase(),
            &format!("{good}.x"),
        ] {
            assert_eq!(bad.parse::<Token>(), Err(TokenError), "{bad}");
        }
    }

    #[test]
    fn no_two_secrets_are_alike() {
        assert_ne!(Secret::random().unwrap(), Secret::random().unwrap());
    }

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written(secret: [u8; SECRET], key: Vec<u8>) {
            let token = token(secret, &key);
            prop_assert_eq!(token.reveal().parse(), Ok(token));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<Token>();
        }
    }
}
