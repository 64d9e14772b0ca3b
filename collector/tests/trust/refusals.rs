//! Who is refused, and what they and the collector's people are told.

use std::{fs, io::Read as _, net::TcpStream};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use sensor_trust::{DialError, Security, Token, dial};
use time::OffsetDateTime;

use crate::world::{Collector, Guest, Stream, silent};

/// A certificate as nobody would give it: of an authority (key and certificate in PEM), or of itself.
fn forged(authority: Option<(&str, &str)>, uri: &str, ends_in: i64) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params
        .subject_alt_names
        .push(SanType::URI(uri.try_into().expect("a URI")));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let at = |seconds: i64| OffsetDateTime::from_unix_timestamp(now + seconds).expect("a time");
    (params.not_before, params.not_after) = (at(ends_in - 1_000), at(ends_in));
    let made = match authority {
        Some((pem, secret)) => {
            let issuer = Issuer::from_ca_cert_pem(pem, KeyPair::from_pem(secret).expect("a key"))
                .expect("an authority");
            params.signed_by(&key, &issuer)
        }
        None => params.self_signed(&key),
    };
    (key.serialize_pem(), made.expect("a certificate").pem())
}

fn files(collector: &Collector) -> (String, String) {
    let read = |name: &str| fs::read_to_string(collector.data().join(name)).expect("is there");
    (read("ca.pem"), read("ca.key"))
}

/// What somebody with that certificate is told.
async fn told(collector: &Collector, (key, certificate): (String, String)) -> String {
    let (authority, _) = files(collector);
    let guest = Guest::holding(&key, &certificate, &authority);
    guest
        .connect(collector)
        .await
        .expect_err("is refused")
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_no_good() {
    let (collector, other) = (Collector::start(&[]).await, Collector::start(&[]).await);
    let (own, foreign) = (files(&collector), files(&other));
    let (own, foreign) = (Some((&*own.0, &*own.1)), Some((&*foreign.0, &*foreign.1)));
    let agent = "sensor://agent/web1";
    for (certificate, theirs, ours) in [
        (
            forged(own, agent, -10),
            "it says that this certificate has expired or is not valid yet; mend the clock, or enrol with a new token",
            "its certificate has expired",
        ),
        (
            forged(own, agent, 2_000),
            "it says that this certificate has expired or is not valid yet; mend the clock, or enrol with a new token",
            "its certificate is not valid yet; one of the clocks is wrong",
        ),
        (
            forged(foreign, agent, 500),
            "it does not know the authority of this certificate; enrol with this collector",
            "its certificate is not of this collector's authority",
        ),
        (
            forged(None, agent, 500),
            "it does not know the authority of this certificate; enrol with this collector",
            "its certificate is not of this collector's authority",
        ),
        (
            forged(own, "https://agent/web1", 500),
            "it says that this certificate names nobody: it must have one URI sensor://ROLE/NAME",
            "its certificate names nobody: it has no URI sensor://ROLE/NAME",
        ),
    ] {
        assert_eq!(told(&collector, certificate).await, theirs);
        collector.said(&format!("a connection is refused: {ours}")).await;
    }
    // What is as it should be is let in: the test can tell.
    let (key, certificate) = forged(own, agent, 500);
    Guest::holding(&key, &certificate, &files(&collector).0)
        .connect(&collector)
        .await
        .expect("is let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_speaks_as_itself_only() {
    let collector = Collector::start(&[]).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let Err(status) = web1.deliver(&collector, "db1").await else {
        panic!("web1 may speak as db1")
    };
    assert_eq!(
        status.message(),
        "this agent says that it is host \"db1\", and its certificate is of web1; set host.name = \"web1\" there, or enrol it as \
         \"db1\""
    );
    collector
        .said("stream ended: this agent says that it is host \"db1\"")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_certificate_may_only_enrol() {
    let collector = Collector::start(&[]).await;
    let token: Token = collector.token(&["--host", "web1"]).parse().expect("a token");
    let address = collector.url().parse().expect("an address");
    let channel = dial(&address, &Security::Stranger(token.authority), &silent())
        .await
        .expect("connects");
    let Err(status) = Stream::open(channel, "web1").await else {
        panic!("a stranger may deliver")
    };
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert_eq!(
        status.message(),
        "Ingest/Deliver is for agents with a certificate, and none was shown; enrol first: `sensor enroll`, with a token of `collector \
         enroll`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_the_one_is_noticed() {
    let (collector, other) = (Collector::start(&[]).await, Collector::start(&[]).await);
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let error = web1.connect(&other).await.expect_err("is another");
    assert_eq!(
        error.to_string(),
        "its certificate is not of the authority that is trusted here: it is another collector, or one with another authority; enrol \
         with it, if it is the right one"
    );
    // A token is not shown to another either.
    let token: Token = collector.token(&["--host", "db1"]).parse().expect("a token");
    let address = other.url().parse().expect("an address");
    let error = dial(&address, &Security::Stranger(token.authority), &silent())
        .await
        .expect_err("is another");
    assert!(matches!(error, DialError::Tls(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_under_another_name_is_noticed() {
    let collector = Collector::listening("0.0.0.0", &["--name", "collector.example.org"]).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let url = format!("https://127.0.0.2:{}", collector.port());
    let error = web1
        .connect_to(&url)
        .await
        .expect_err("is not its name")
        .to_string();
    assert!(
        error.starts_with("its certificate is not for 127.0.0.2, but for "),
        "{error}"
    );
    assert!(
        error.contains("collector.example.org") && error.ends_with("or `collector serve --name 127.0.0.2`"),
        "{error}"
    );
    collector.said("it does not want this collector").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_nobody_gave_is_refused() {
    let collector = Collector::start(&[]).await;
    let good = collector.token(&["--host", "web1"]);
    let (head, tail) = good.trim().split_at(8);
    let guessed = format!("{head}{}{}", "0".repeat(48), &tail[48..]);
    let error = Guest::with_token(&collector, &guessed)
        .await
        .expect_err("is guessed");
    assert_eq!(
        error,
        "no such token was given by this collector; ask for one: `collector enroll`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_is_told_apart() {
    let collector = Collector::start(&[]).await;
    let channel = tonic::transport::Channel::from_shared(format!("http://127.0.0.1:{}", collector.port()));
    let connected = channel.expect("an address").connect().await;
    if let Ok(channel) = connected {
        assert!(Stream::open(channel, "web1").await.is_err());
    }
    collector
        .said("it does not speak TLS; is it an agent with http:// instead of https://?")
        .await;
    let mut old = TcpStream::connect(("127.0.0.1", collector.port())).expect("connects");
    std::io::Write::write_all(&mut old, b"GET / HTTP/1.1\r\n\r\n").expect("sends");
    let mut answer = Vec::new();
    let _ = old.read_to_end(&mut answer);
    assert!(answer.len() < 32, "{answer:?}");
}

#[test]
fn without_tls_it_is_not_exposed() {
    let home = tempfile::tempdir().expect("a directory");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(["serve", "--insecure", "--listen", "0.0.0.0:0", "--data"])
        .arg(home.path().join("data"))
        .output()
        .expect("runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        error.contains("is reached by others than this host, and without TLS anybody could come"),
        "{error}"
    );
}
