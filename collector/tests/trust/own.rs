//! Operators with an authority of their own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

use crate::world::{Collector, Guest};

/// An authority, and a server's certificate of it, in files.
fn make(home: &Path) -> (String, String) {
    let secret = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&secret).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let issuer = Issuer::from_ca_cert_pem(&authority.pem(), &secret).expect("an issuer");
    let server = params.signed_by(&key, &issuer).expect("a certificate");
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("ca.key", secret.serialize_pem()),
        ("server.pem", server.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        let path = home.join(name);
        fs::write(&path, text).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("sets");
    }
    (authority.pem(), secret.serialize_pem())
}

fn arguments(home: &Path, with_key: bool) -> Vec<String> {
    let path = |name: &str| home.join(name).display().to_string();
    let mut arguments = vec![
        "--ca".to_owned(),
        path("ca.pem"),
        "--cert".to_owned(),
        path("server.pem"),
        "--key".to_owned(),
        path("server.key"),
    ];
    if with_key {
        arguments.extend(["--ca-key".to_owned(), path("ca.key")]);
    }
    arguments
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_key_certificates_come_from_the_operator() {
    let home = tempfile::tempdir().expect("a directory");
    let (authority, secret) = make(home.path());
    let arguments = arguments(home.path(), false);
    let collector = Collector::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let error = collector.fail(&["enroll", "--host", "web1"]);
    assert_eq!(
        error,
        "collector: this collector has no key of the authority (--ca-key): get a certificate from the authority itself\n"
    );

    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![]).expect("parameters");
    params
        .subject_alt_names
        .push(SanType::URI("sensor://agent/web1".try_into().expect("a URI")));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issuer =
        Issuer::from_ca_cert_pem(&authority, KeyPair::from_pem(&secret).expect("a key")).expect("an issuer");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    let web1 = Guest::holding(&key.serialize_pem(), &certificate, &authority);
    web1.deliver(&collector, "web1").await.expect("is welcome");
    // By name: of its number nobody here knows.
    collector.run(&["revoke", "--host", "web1"]);
    assert!(web1.connect(&collector).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_key_everybody_enrols_as_ever() {
    let home = tempfile::tempdir().expect("a directory");
    make(home.path());
    let arguments = arguments(home.path(), true);
    let collector = Collector::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    web1.deliver(&collector, "web1").await.expect("is welcome");
}
