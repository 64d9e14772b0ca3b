//! The service `Trust`.

use std::time::{Duration, UNIX_EPOCH};

use sensor_proto::v1::{
    EnrollRequest, EnrollResponse, InviteRequest, InviteResponse, ListIdentitiesRequest,
    ListIdentitiesResponse, ReadAuditRequest, ReadAuditResponse, RenewRequest, RenewResponse, RevokeRequest,
    RevokeResponse, trust_server::Trust,
};
use sensor_trust::{Certificate, Fingerprint, Identity, Secret, request::Requested};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Authority, Peer, Trusting,
    door::named,
    register::{self, RegisterError},
};

/// How long a token is good, where nobody says otherwise.
const VALID: Duration = Duration::from_secs(3_600);

/// The service.
#[derive(Clone, Debug)]
pub struct TrustService(pub Trusting);

#[tonic::async_trait]
impl Trust for TrustService {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let from = peer(&request)?.who();
        let request = request.into_inner();
        let authority = self.authority()?;
        let secret = Secret::from_bytes(&request.secret).ok_or_else(|| refusal(RegisterError::Unknown))?;
        let key = requested(&request.request)?;
        let certify = register::certifying(authority.clone(), key, self.0.config.lifetime);
        let enrolled = self.0.register.enroll(secret, from.clone(), certify).await;
        let (identity, issued) = enrolled.map_err(|error| {
            match &error {
                // Guessing must not fill a disk.
                RegisterError::Unknown => tracing::debug!(from, "nobody was enrolled: {error}"),
                _ => tracing::warn!(from, "nobody was enrolled: {error}"),
            }
            refusal(error)
        })?;
        self.0.revocations.lift(&identity);
        Ok(Response::new(EnrollResponse {
            role: identity.role.name().to_owned(),
            name: identity.name.to_string(),
            certificate: issued.pem,
            authority: authority.pem(),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let identity = match peer(&request)? {
            Peer::Known { identity, .. } => identity.clone(),
            _ => {
                return Err(Status::unauthenticated(
                    "there is no certificate to be renewed; enrol first",
                ));
            }
        };
        let authority = self.authority()?;
        let key = requested(&request.into_inner().request)?;
        let issued = authority.certify(&identity, &key, self.0.config.lifetime);
        let issued = issued.map_err(|error| Status::internal(error.to_string()))?;
        let issued = self.0.register.renew(identity, issued).await.map_err(refusal)?;
        Ok(Response::new(RenewResponse {
            certificate: issued.pem,
            authority: authority.pem(),
        }))
    }

    async fn invite(&self, request: Request<InviteRequest>) -> Result<Response<InviteResponse>, Status> {
        let who = peer(&request)?.who();
        let InviteRequest {
            role,
            name,
            seconds,
            lift_revocation,
        } = request.into_inner();
        let identity = named(&role, &name)?;
        self.authority()?;
        let valid = if seconds == 0 {
            VALID
        } else {
            Duration::from_secs(seconds)
        };
        // The register knows all certificates of its own authority, and refuses those of before one by one.
        let may_lift = lift_revocation || self.0.config.own.is_none();
        let invited = self
            .0
            .register
            .invite(identity, valid, self.pin()?, who, may_lift)
            .await;
        let (token, ends) = invited.map_err(refusal)?;
        let ends = ends.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Response::new(InviteResponse {
            token: token.reveal(),
            expires_ns: ends.as_nanos() as u64,
        }))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        let who = peer(&request)?.who();
        let RevokeRequest { role, name, why } = request.into_inner();
        let identity = named(&role, &name)?;
        // Of an operator's own certificates nobody here knows.
        let strict = self.0.config.own.is_none() && self.0.lobby.of(&identity) == 0;
        let revoked = self.0.register.revoke(identity.clone(), who, why, strict).await;
        let serials = revoked.map_err(refusal)?.serials;
        let certificates = serials.len() as u32;
        // First the handshake, then the lobby: nobody slips in between.
        self.0.revocations.add(identity.clone(), serials);
        let connections = self.0.lobby.cut(&identity) as u32;
        Ok(Response::new(RevokeResponse {
            certificates,
            connections,
        }))
    }

    async fn list_identities(
        &self,
        _request: Request<ListIdentitiesRequest>,
    ) -> Result<Response<ListIdentitiesResponse>, Status> {
        let mut identities = self.0.register.identities().await.map_err(refusal)?;
        for state in &mut identities {
            let identity: Result<Identity, Status> = named(&state.role, &state.name);
            state.connections = identity.map_or(0, |identity| self.0.lobby.of(&identity) as u32);
        }
        Ok(Response::new(ListIdentitiesResponse { identities }))
    }

    type ReadAuditStream = ReceiverStream<Result<ReadAuditResponse, Status>>;

    async fn read_audit(
        &self,
        request: Request<ReadAuditRequest>,
    ) -> Result<Response<Self::ReadAuditStream>, Status> {
        let mut after = request.into_inner().after;
        let register = self.0.register.clone();
        let (pages, stream) = mpsc::channel(2);
        tokio::spawn(async move {
            loop {
                let page = register.audit(after).await.map_err(refusal);
                let end = match &page {
                    Ok(lines) => lines.last().map(|line| line.number),
                    Err(_) => None,
                };
                let is_end = matches!(&page, Ok(lines) if lines.is_empty());
                if is_end
                    || pages
                        .send(page.map(|lines| ReadAuditResponse { lines }))
                        .await
                        .is_err()
                {
                    return;
                }
                let Some(end) = end else { return };
                after = end;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl TrustService {
    fn authority(&self) -> Result<std::sync::Arc<Authority>, Status> {
        let why = match self.0.config.own {
            Some(_) => {
                "this collector has no key of the authority (--ca-key): get a certificate from the authority itself"
            }
            None => "this collector serves without TLS (--insecure): there is nothing to enrol for",
        };
        self.0
            .authority
            .clone()
            .ok_or_else(|| Status::failed_precondition(why))
    }

    /// By what whoever enrols knows this collector: the authority of the certificate that it shows.
    fn pin(&self) -> Result<Fingerprint, Status> {
        let shown = self.0.shown.as_ref().and_then(|shown| shown.authority());
        let certificate = shown.and_then(|der| Certificate::parse(&der).ok());
        let missing = || Status::internal("the authority of this collector's certificate cannot be read");
        certificate.map(|about| about.fingerprint).ok_or_else(missing)
    }
}

/// Who calls.
pub(crate) fn peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    let missing = || Status::internal("nobody knows who is connected: a defect of this collector");
    request.extensions().get::<Peer>().ok_or_else(missing)
}

fn requested(der: &[u8]) -> Result<Requested, Status> {
    Requested::parse(der).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn refusal(error: RegisterError) -> Status {
    let message = error.to_string();
    match error {
        RegisterError::Unknown
        | RegisterError::Used { .. }
        | RegisterError::Lapsed { .. }
        | RegisterError::Revoked(_)
        | RegisterError::Greedy(_) => Status::permission_denied(message),
        RegisterError::Nobody(_) => Status::not_found(message),
        RegisterError::Full => Status::resource_exhausted(message),
        RegisterError::StillOut(_) => Status::failed_precondition(message),
        RegisterError::Database(_) => Status::unavailable(message),
        RegisterError::Authority(_) => Status::internal(message),
    }
}
