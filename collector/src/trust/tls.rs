//! TLS as the collector speaks it: which certificate it shows, and whose it accepts.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use sensor_trust::{Certificate, tls};

use super::{Latest, Revocations};

/// The certificate that is shown, until the next.
#[derive(Debug)]
pub struct Shown(Latest<Arc<CertifiedKey>>);

impl Shown {
    /// This one first.
    #[must_use]
    pub fn new(key: CertifiedKey) -> Self {
        Self(Latest::new(Arc::new(key)))
    }

    /// That one from now on.
    pub fn show(&self, key: CertifiedKey) {
        self.0.set(Arc::new(key));
    }

    /// What it says.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate> {
        let key = self.0.get();
        key.cert.first().and_then(|der| Certificate::parse(der).ok())
    }

    /// The authority that stands behind it.
    #[must_use]
    pub fn authority(&self) -> Option<CertificateDer<'static>> {
        self.0.get().cert.last().cloned()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

/// Whose certificates are accepted, until the next.
#[derive(Debug)]
pub struct Roots(Latest<Arc<dyn ClientCertVerifier>>);

impl Roots {
    /// These first.
    ///
    /// # Errors
    /// If one of them is of no use, in words.
    pub fn new(roots: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        Ok(Self(Latest::new(verifier(roots)?)))
    }

    /// Those from the next handshake on.
    ///
    /// # Errors
    /// As above: then those of before stay.
    pub fn trust(&self, roots: Vec<CertificateDer<'static>>) -> Result<(), String> {
        self.0.set(verifier(roots)?);
        Ok(())
    }
}

fn verifier(roots: Vec<CertificateDer<'static>>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(|error| error.to_string())?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), tls::provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())
}

/// The configuration: TLS 1.3, certificates of one of `roots` that are not revoked and name somebody; or none.
///
/// # Errors
/// If TLS cannot be set up, in words.
pub fn config(
    roots: Arc<Roots>,
    shown: Arc<Shown>,
    revocations: Revocations,
) -> Result<ServerConfig, String> {
    let builder = tls::server().map_err(|error| error.to_string())?;
    let schemes = roots.0.get().supported_verify_schemes();
    let clients = Arc::new(Clients {
        roots,
        schemes,
        revocations,
    });
    let mut config = builder
        .with_client_cert_verifier(clients)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![tls::PROTOCOL.to_vec()];
    // A resumed session would go by what was true when it began.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Whose certificates are accepted.
#[derive(Debug)]
struct Clients {
    roots: Arc<Roots>,
    schemes: Vec<SignatureScheme>,
    revocations: Revocations,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: whoever has a certificate has one, and the authorities may be others by now.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = self.roots.0.get();
        let verified = chain.verify_client_cert(end_entity, intermediates, now)?;
        let refused = |why| Err(Error::InvalidCertificate(why));
        let Ok(certificate) = Certificate::parse(end_entity) else {
            return refused(CertificateError::BadEncoding);
        };
        match &certificate.identity {
            Err(_) => refused(CertificateError::ApplicationVerificationFailure),
            Ok(identity) if self.revocations.cover(identity, &certificate.serial) => {
                refused(CertificateError::Revoked)
            }
            Ok(_) => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots.0.get().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots.0.get().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
