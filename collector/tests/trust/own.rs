//! Operators with an authority of their own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

use crate::world::{Collector, Guest, wait_until};

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

/// `agent web1`, with a certificate that the operator has made.
fn certified(authority: &str, secret: &str) -> Guest {
    certified_trusting(authority, secret, authority)
}

/// The same, who trusts others.
fn certified_trusting(authority: &str, secret: &str, trusted: &str) -> Guest {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![]).expect("parameters");
    params
        .subject_alt_names
        .push(SanType::URI("sensor://agent/web1".try_into().expect("a URI")));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issuer =
        Issuer::from_ca_cert_pem(authority, KeyPair::from_pem(secret).expect("a key")).expect("an issuer");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    Guest::holding(&key.serialize_pem(), &certificate, trusted)
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

    let web1 = certified(&authority, &secret);
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

/// The collector does not know what the operator's authority has given: if the name was let in again, a stolen certificate would be, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_lifted_only_if_an_admin_says_so() {
    let home = tempfile::tempdir().expect("a directory");
    let (authority, secret) = make(home.path());
    let arguments = arguments(home.path(), true);
    let collector = Collector::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let stolen = certified(&authority, &secret);
    stolen.deliver(&collector, "web1").await.expect("is welcome");
    collector.run(&["revoke", "--host", "web1", "--why", "stolen"]);
    assert!(stolen.connect(&collector).await.is_err());
    let error = collector.fail(&["enroll", "--host", "web1"]);
    assert_eq!(
        error,
        "collector: agent web1 is revoked, and any certificate that your authority gave them before would be good again if they \
         enrolled: if all of those have ended, or none is in wrong hands, say --lift-revocation\n"
    );
    assert!(stolen.connect(&collector).await.is_err());
    let web1 = Guest::enrolled(&collector, &["--host", "web1", "--lift-revocation"]).await;
    web1.deliver(&collector, "web1").await.expect("is welcome");
    let audit = collector.run(&["audit"]);
    assert!(audit.contains("; it lifts the revocation"), "{audit}");
}

/// The authority's file is read again, as the certificate's is: who is of another from then on is let in, who is of the former is not.
#[tokio::test(flavor = "multi_thread")]
async fn another_authority_is_trusted_without_a_restart() {
    let home = tempfile::tempdir().expect("a directory");
    let (former, former_secret) = make(home.path());
    let mut arguments = arguments(home.path(), false);
    // It looks ten times in this.
    arguments.extend(["--lifetime".to_owned(), "2s".to_owned()]);
    let collector = Collector::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let of_former = certified(&former, &former_secret);
    of_former.deliver(&collector, "web1").await.expect("is welcome");
    // What is no certificate changes nothing.
    fs::write(home.path().join("ca.pem"), "none").expect("writes");
    collector.said("cannot be renewed").await;
    of_former
        .deliver(&collector, "web1")
        .await
        .expect("is welcome yet");

    let (next, next_secret) = make(home.path());
    let of_next = certified(&next, &next_secret);
    let welcome = async || of_next.connect(&collector).await.ok();
    let channel = wait_until("the next authority to be trusted", welcome).await;
    crate::world::Stream::open(channel, "web1")
        .await
        .expect("is welcome");
    // One who knows the collector as it is now, with a certificate of before.
    let stays_out = certified_trusting(&former, &former_secret, &next);
    assert!(stays_out.connect(&collector).await.is_err());
}

/// It would go on giving certificates of the former, with which nobody could come in.
#[tokio::test(flavor = "multi_thread")]
async fn another_authority_than_the_loaded_key_is_of_needs_a_restart() {
    let home = tempfile::tempdir().expect("a directory");
    let (former, secret) = make(home.path());
    let mut arguments = arguments(home.path(), true);
    arguments.extend(["--lifetime".to_owned(), "2s".to_owned()]);
    let collector = Collector::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    make(home.path());
    collector.said("restart the collector with its key").await;
    certified(&former, &secret)
        .deliver(&collector, "web1")
        .await
        .expect("is welcome yet");
}
