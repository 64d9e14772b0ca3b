//! How this host becomes known to a collector, and stays so.
//!
//! The key is made here and leaves in no message; what comes back is its certificate. Both lie in `identity.pem` in the directory for
//! state, for root alone. After two thirds of the certificate's time the agent asks for the next one, with a new key, over a
//! connection that the present one makes; what runs goes on, and the next connection uses what is in the file then.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sensor_proto::v1::{EnrollRequest, RenewRequest, trust_client::TrustClient};
use sensor_trust::{
    Address, Certificate, CredentialsError, DialError, Identity, OnConnecting, Security, Token,
    credentials::{self, Place},
    dial,
    request::{self, KeyError},
};
use tokio::time::{sleep, timeout};
use tonic::Status;

/// How long a collector may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How often the file is looked at, while nothing is due: somebody may have enrolled anew.
const LOOK: Duration = Duration::from_secs(3_600);

/// Shortest time between two attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// Why this host has no certificate.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what happened")]
pub enum EnrollError {
    #[error("no way to the collector {address}: {cause}")]
    Dial { address: Address, cause: DialError },
    #[error(
        "{0} is not of the collector that gave the token, or somebody is between: its authority has not the token's fingerprint"
    )]
    Foreign(Address),
    #[error("the collector says: {}", _0.message())]
    Refused(Status),
    #[error(
        "the collector did not answer within {ANSWER:?}; the token may be used up: `collector identities` tells"
    )]
    Silent,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Keep(#[from] CredentialsError),
    #[error("what the collector answered makes no sense: {0}")]
    Nonsense(String),
    #[error("the token is of {0}, who is no host; ask for another, and enrol with --identity DIR")]
    NoHost(Identity),
}

/// Who somebody is from now on.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Who.
    pub identity: Identity,
    /// Their certificate.
    pub certificate: Certificate,
}

/// Gets the first certificate with a token, and keeps it in `directory`. `host`: only as a host.
///
/// # Errors
/// If the collector is not the one that the token is of, does not take the token, or nothing can be kept. A token that the collector took
/// is used up.
pub async fn enroll(
    address: &Address,
    token: &Token,
    directory: &Path,
    host: bool,
) -> Result<Enrolled, EnrollError> {
    let nobody: OnConnecting = Arc::new(|_| {});
    let channel = dial(address, &Security::Stranger(token.authority), &nobody).await;
    let channel = channel.map_err(|cause| unreached(address, cause))?;
    let (key, request) = request::new()?;
    let request = EnrollRequest {
        secret: token.secret.bytes().to_vec(),
        request,
    };
    let mut client = TrustClient::new(channel);
    let answer = timeout(ANSWER, client.enroll(request))
        .await
        .map_err(|_| EnrollError::Silent)?;
    let answer = answer.map_err(EnrollError::Refused)?.into_inner();
    let certificate = read(&answer.certificate)?;
    // Whom to trust from now on is for the token to say, not for an answer.
    if read(&answer.authority)?.fingerprint != token.authority {
        return Err(EnrollError::Nonsense(
            "it named another authority than its own".to_owned(),
        ));
    }
    let identity = certificate
        .identity
        .clone()
        .map_err(|error| EnrollError::Nonsense(error.to_string()))?;
    if host && identity.role != sensor_trust::Role::Agent {
        return Err(EnrollError::NoHost(identity));
    }
    credentials::store(directory, &key, &answer.certificate, &answer.authority)?;
    Ok(Enrolled {
        identity,
        certificate,
    })
}

fn unreached(address: &Address, cause: DialError) -> EnrollError {
    let unknown = rustls_unknown(&cause);
    let address = address.clone();
    if unknown {
        return EnrollError::Foreign(address);
    }
    EnrollError::Dial { address, cause }
}

/// Whether the authority was not the one that was meant.
fn rustls_unknown(cause: &DialError) -> bool {
    use rustls::{CertificateError::UnknownIssuer, Error::InvalidCertificate};
    matches!(cause, DialError::Tls(InvalidCertificate(UnknownIssuer)))
}

fn read(pem: &str) -> Result<Certificate, EnrollError> {
    let nonsense = |error: &dyn std::fmt::Display| EnrollError::Nonsense(error.to_string());
    let path = Path::new("the answer");
    let chain = credentials::certificates(pem.as_bytes(), path).map_err(|error| nonsense(&error))?;
    Certificate::parse(&chain[0]).map_err(|error| nonsense(&error))
}

/// Renews what was enrolled whenever two thirds of its time are over, without end. Files of an operator's own are the operator's to
/// renew: they are read anew for each connection.
pub async fn keep_fresh(address: &Address, security: &Security, on_connecting: &OnConnecting) {
    let Security::Known {
        place: place @ Place::Enrolled(directory),
        ..
    } = security
    else {
        return;
    };
    if !address.is_secure() {
        return;
    }
    loop {
        let Ok(present) = place.load() else {
            sleep(LOOK.min(Duration::from_secs(60))).await;
            continue;
        };
        let now = SystemTime::now();
        let due = present.certificate.due().duration_since(now).unwrap_or_default();
        if !due.is_zero() {
            sleep(due.min(LOOK)).await;
            continue;
        }
        match renew(address, security, directory, on_connecting).await {
            Ok(next) => tracing::info!("this host's certificate is renewed: {}", next.serial),
            Err(error) => {
                tracing::warn!("this host's certificate cannot be renewed: {error}; trying again");
                let left = present.certificate.ends.duration_since(now).unwrap_or_default();
                sleep((left / 10).clamp(AGAIN, LOOK)).await;
            }
        }
    }
}

/// Gets the next certificate with the present one, for a new key.
///
/// # Errors
/// If the collector does not give it, or it cannot be kept.
pub async fn renew(
    address: &Address,
    security: &Security,
    directory: &Path,
    on_connecting: &OnConnecting,
) -> Result<Certificate, EnrollError> {
    let channel = dial(address, security, on_connecting).await;
    let channel = channel.map_err(|cause| EnrollError::Dial {
        address: address.clone(),
        cause,
    })?;
    let (key, request) = request::new()?;
    let mut client = TrustClient::new(channel);
    let answer = timeout(ANSWER, client.renew(RenewRequest { request })).await;
    let answer = answer
        .map_err(|_| EnrollError::Silent)?
        .map_err(EnrollError::Refused)?
        .into_inner();
    let certificate = read(&answer.certificate)?;
    read(&answer.authority)?;
    credentials::store(directory, &key, &answer.certificate, &answer.authority)?;
    Ok(certificate)
}
