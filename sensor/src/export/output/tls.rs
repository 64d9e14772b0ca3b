//! Whom to believe: receivers whose certificate was signed by one of those in a file, or whom the system trusts.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::OutputError;

/// How TLS is spoken with receivers.
pub(super) fn config(ca_file: &Path) -> Result<Arc<ClientConfig>, OutputError> {
    let refuse = |problem: String| OutputError::File {
        path: ca_file.to_owned(),
        problem,
    };
    let mut roots = RootCertStore::empty();
    if ca_file.as_os_str().is_empty() {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(refuse("the system trusts nobody; name a ca_file".to_owned()));
        }
    } else {
        let certificates =
            CertificateDer::pem_file_iter(ca_file).map_err(|error| refuse(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| refuse(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(refuse("there is no certificate in it; it must be PEM".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
