//! The certificate that the collector shows: where it comes from, and that it never ends.

use std::{net::SocketAddr, time::Duration};

use rustls::{crypto::ring::sign::any_supported_type, sign::CertifiedKey};
use sensor_trust::credentials;
use tokio::time::sleep;

use super::{Authority, AuthorityError, OwnFiles, TlsConfig, Trusting, authority::certificates};

/// How often it is looked at; more often where certificates live for minutes.
const LOOK: Duration = Duration::from_secs(60);

/// Shows a new certificate, and has the authority renew its own, when two thirds of the former's time are over; reads an
/// operator's files again, so that one that was replaced is shown.
pub async fn keep_fresh(trusting: Trusting) {
    let Some(shown) = &trusting.shown else { return };
    let pause = LOOK
        .min(trusting.config.lifetime / 10)
        .max(Duration::from_millis(100));
    loop {
        sleep(pause).await;
        let is_due = shown
            .certificate()
            .is_none_or(|about| about.due() <= std::time::SystemTime::now());
        if !is_due && trusting.config.own.is_none() {
            continue;
        }
        if let Err(error) = renew(&trusting) {
            tracing::error!("the certificate of this collector cannot be renewed: {error}");
        }
    }
}

fn renew(trusting: &Trusting) -> Result<(), AuthorityError> {
    if let Some(authority) = &trusting.authority {
        authority.renew()?;
    }
    let key = certificate(trusting.authority.as_deref(), &trusting.config, trusting.listen)?;
    if let (Some(own), Some(roots)) = (&trusting.config.own, &trusting.roots) {
        // Who is connected stays until their certificate ends, or they are revoked.
        let trusted = certificates(&own.authority)?;
        if let Some(authority) = &trusting.authority {
            authority.check_same(&trusted[0], &own.authority)?;
        }
        roots.trust(trusted).map_err(|why| AuthorityError::Unusable {
            path: own.authority.clone(),
            why,
        })?;
    }
    if let Some(shown) = &trusting.shown {
        shown.show(key);
    }
    Ok(())
}

/// The certificate to show: an operator's, or a new one.
pub(super) fn certificate(
    authority: Option<&Authority>,
    config: &TlsConfig,
    listen: SocketAddr,
) -> Result<CertifiedKey, AuthorityError> {
    match (&config.own, authority) {
        (Some(own), _) => from_files(own),
        (None, Some(authority)) => authority.server(&names(config, listen), config.lifetime),
        (None, None) => Err(AuthorityError::Name("no authority".to_owned())),
    }
}

fn from_files(own: &OwnFiles) -> Result<CertifiedKey, AuthorityError> {
    let mut chain = certificates(&own.certificate)?;
    // The authority goes last: who enrols looks for it there.
    chain.push(certificates(&own.authority)?.swap_remove(0));
    let key = credentials::key(&credentials::read_secret(&own.key)?, &own.key)?;
    let key = CertifiedKey::new(chain, any_supported_type(&key)?);
    key.keys_match()?;
    Ok(key)
}

/// Under which names this collector is found.
fn names(config: &TlsConfig, listen: SocketAddr) -> Vec<String> {
    let mut names = config.names.clone();
    let host = rustix::system::uname();
    names.push(host.nodename().to_string_lossy().into_owned());
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_string());
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}
