//! Who is who between agents, collectors and people.
//!
//! Everybody has a certificate of the collector's authority, in which their role and name stand as a URI ([`Identity`], as
//! `sensor://agent/web1`). A [`Token`] gets somebody their first one: it is used once, soon, and carries the [`Fingerprint`] of
//! the authority, so that whoever enrols knows whom they talk to before they trust anybody. The key is made where it is used
//! ([`request`]) and never leaves; it lies with its certificate in one file ([`Credentials`]), which is there whole or not at
//! all. [`dial`] is the only way to a collector: TLS 1.3, or nothing at all on loopback.
//!
//! What comes from outside is bounded: a token by its form, a request and a certificate by [`DER_MAX`], a file by
//! [`credentials::FILE_MAX`].

pub mod certificate;
pub mod credentials;
pub mod dial;
mod fingerprint;
pub mod hex;
mod identity;
mod pinned;
pub mod request;
pub mod tls;
mod token;

pub use certificate::{Certificate, CertificateError};
pub use credentials::{Credentials, CredentialsError};
pub use dial::{Address, DialError, Link, OnConnecting, Security, causes, dial, reached};
pub use fingerprint::Fingerprint;
pub use identity::{Identity, IdentityError, Name, Role};
pub use token::{Secret, Token, TokenError};

/// Longest certificate or request that is looked at, in bytes.
pub const DER_MAX: usize = 16 << 10;
