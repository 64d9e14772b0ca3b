//! TLS 1.3 and no other, as both ends set it up; and what its errors mean, in words.

use std::{io, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, Error, ServerConfig, WantsVerifier,
    client::WantsClientCert, crypto::CryptoProvider, pki_types::ServerName, version::TLS13,
};

use crate::{Credentials, Fingerprint, pinned::Pinned};

/// What is spoken within: HTTP/2.
pub const PROTOCOL: &[u8] = b"h2";

/// The cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A server's configuration, which its certificates and its clients' are yet to be added to.
///
/// # Errors
/// If the cryptography lacks TLS 1.3: a defect of the build.
pub fn server() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, Error> {
    ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])
}

/// The configuration of a client that has credentials.
///
/// # Errors
/// If key and certificate do not belong together.
pub fn client(credentials: &Credentials) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let builder = builder.with_root_certificates(credentials.roots());
    let config = builder.with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    Ok(speaking(config))
}

/// The configuration of a client that has nothing but a fingerprint.
///
/// # Errors
/// If the cryptography lacks TLS 1.3: a defect of the build.
pub fn stranger(authority: Fingerprint) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let pinned = Pinned {
        authority,
        provider: provider(),
    };
    let builder: ConfigBuilder<ClientConfig, WantsClientCert> = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned));
    Ok(speaking(builder.with_no_client_auth()))
}

fn speaking(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config
}

/// The TLS error that an error of the system carries, if it does.
#[must_use]
pub fn within(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What went wrong with a collector, as its client sees it, and what to do.
#[must_use]
pub fn of_collector(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(refused) => certificate_of_collector(refused),
        Error::AlertReceived(alert) => refusal_by_collector(*alert),
        Error::InvalidMessage(_) => {
            "what answers there does not speak TLS; is it a collector with --insecure?".to_owned()
        }
        error => error.to_string(),
    }
}

fn certificate_of_collector(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is not of the authority that is trusted here: it is another \
             collector, or one with another authority; enrol with it, if it is the right one"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "its certificate is not for {}, but for {}; use one of these names, or `collector serve --name {0}`",
            name(expected),
            presented.join(", ")
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, or the clock of this host is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: the clock of this host or of the collector is wrong".to_owned()
        }
        error => format!("its certificate is of no use: {error}"),
    }
}

fn refusal_by_collector(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRevoked => "it has revoked this certificate; to come back, enrol with a new token",
        AlertDescription::CertificateExpired => {
            "it says that this certificate has expired or is not valid yet; mend the clock, or enrol with a new token"
        }
        AlertDescription::UnknownCA => "it does not know the authority of this certificate; enrol with this collector",
        AlertDescription::AccessDenied => "it says that this certificate names nobody: it must have one URI sensor://ROLE/NAME",
        AlertDescription::ProtocolVersion => "it does not speak TLS 1.3",
        alert => return format!("it refused: {alert:?}"),
    }
    .to_owned()
}

fn name(name: &ServerName<'_>) -> String {
    match name {
        ServerName::DnsName(name) => name.as_ref().to_owned(),
        ServerName::IpAddress(address) => std::net::IpAddr::from(*address).to_string(),
        _ => "that name".to_owned(),
    }
}

/// What went wrong with somebody who came, as the collector sees it.
#[must_use]
pub fn of_client(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(refused) => match refused {
            CertificateError::UnknownIssuer => "its certificate is not of this collector's authority",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet; one of the clocks is wrong"
            }
            CertificateError::Revoked => "its certificate is revoked",
            CertificateError::ApplicationVerificationFailure => {
                "its certificate names nobody: it has no URI sensor://ROLE/NAME"
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "its certificate is not for clients"
            }
            refused => return format!("its certificate is of no use: {refused}"),
        }
        .to_owned(),
        Error::AlertReceived(alert) => format!("it does not want this collector: {alert:?}"),
        Error::InvalidMessage(_) => {
            "it does not speak TLS; is it an agent with http:// instead of https://?".to_owned()
        }
        error => error.to_string(),
    }
}
