//! Who may come to a collector: the real program, real TLS, and what people see on both sides.

mod commands;
mod limits;
mod own;
mod refusals;
mod roles;
mod world;

use std::time::{Duration, SystemTime};

use sensor_proto::v1::{ListHostsRequest, collector_client::CollectorClient};
use world::{Collector, Guest, batch};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_enrols_delivers_and_is_revoked() {
    let collector = Collector::start(&[]).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let mut stream = web1.deliver(&collector, "web1").await.expect("is welcome");
    stream.send(batch(1)).await;
    assert_eq!(stream.acknowledged().await, Ok(1));

    let admin = Guest::enrolled(&collector, &["--role", "admin", "--name", "alice"]).await;
    let hosts = CollectorClient::new(admin.connect(&collector).await.expect("connects"));
    let hosts = hosts
        .clone()
        .list_hosts(ListHostsRequest {})
        .await
        .expect("lists")
        .into_inner()
        .hosts;
    assert_eq!(
        (hosts[0].name.as_str(), hosts[0].connected, hosts[0].entries),
        ("web1", true, 1)
    );

    assert_eq!(
        collector.run(&["revoke", "--host", "web1", "--why", "stolen"]),
        "agent web1 is revoked: 1 certificates that were valid, 1 connections ended\n"
    );
    assert!(stream.acknowledged().await.is_err(), "the stream goes on");
    assert_eq!(
        web1.connect(&collector)
            .await
            .expect_err("is refused")
            .to_string(),
        "it has revoked this certificate; to come back, enrol with a new token"
    );
    collector
        .said("a connection is refused: its certificate is revoked")
        .await;

    // With a new token it is as before; the old certificate stays of no use.
    let again = Guest::enrolled(&collector, &["--host", "web1"]).await;
    again.deliver(&collector, "web1").await.expect("is welcome again");
    assert!(web1.connect(&collector).await.is_err());

    let audit = collector.run(&["audit"]);
    let steps: Vec<_> = audit.lines().filter_map(|line| line.split(' ').nth(3)).collect();
    assert_eq!(
        steps,
        [
            "invited", "enrolled", "invited", "enrolled", "revoked", "invited", "enrolled"
        ],
        "{audit}"
    );
    assert!(
        audit.contains("revoked agent web1 by uid 0 on the collector's host: 1 certificates: stolen"),
        "{audit}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_stays_so_when_the_collector_starts_again() {
    let mut collector = Collector::start(&[]).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let db1 = Guest::enrolled(&collector, &["--host", "db1"]).await;
    collector.run(&["revoke", "--host", "web1"]);
    let again = Guest::enrolled(&collector, &["--host", "web1"]).await;
    collector.kill_and_restart().await;
    assert!(web1.connect(&collector).await.is_err());
    again
        .connect(&collector)
        .await
        .expect("the new certificate is good");
    db1.connect(&collector).await.expect("the authority is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once() {
    let collector = Collector::start(&[]).await;
    let token = collector.token(&["--host", "web1"]);
    Guest::with_token(&collector, &token).await.expect("enrols");
    let error = Guest::with_token(&collector, &token).await.expect_err("was used");
    assert!(
        error.starts_with("the token of agent web1 was used already, 2"),
        "{error}"
    );
    assert!(
        error.ends_with("if that was not you, revoke it: `collector revoke`, and ask for another"),
        "{error}"
    );
    collector
        .said("nobody was enrolled: the token of agent web1 was used already")
        .await;
    let audit = collector.run(&["audit"]);
    assert!(
        audit
            .lines()
            .last()
            .is_some_and(|line| line.contains(" refused agent web1 by 127.0.0.1:")),
        "{audit}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lapses() {
    let collector = Collector::start(&[]).await;
    let token = collector.token(&["--host", "web1", "--valid", "1s"]);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let error = Guest::with_token(&collector, &token)
        .await
        .expect_err("has lapsed");
    assert!(
        error.starts_with("the token of agent web1 has lapsed 2"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_renew_themselves() {
    let collector = Collector::start(&["--lifetime", "6s"]).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let first = web1.certificate();
    let mut stream = web1.deliver(&collector, "web1").await.expect("is welcome");
    tokio::time::sleep(first.due().duration_since(SystemTime::now()).unwrap_or_default()).await;
    let second = web1.renew(&collector).await;
    assert!(second.serial != first.serial && second.ends > first.ends);
    assert_eq!(web1.certificate(), second);
    // The connection that the first made ends with it.
    assert!(stream.acknowledged().await.is_err());
    collector
        .said("a connection is ended: its certificate has ended")
        .await;
    // By then the collector shows another one than at the beginning, too.
    assert!(web1.renew(&collector).await.ends > second.ends);
}

#[tokio::test]
async fn nobody_collects_certificates() {
    let collector = Collector::start(&[]).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    for _ in 1..16 {
        web1.renew(&collector).await;
    }
    let refused = web1.try_renew(&collector).await.expect_err("has enough");
    assert!(refused.contains("has 16 valid certificates already"), "{refused}");
    // What it has is good all the same.
    web1.deliver(&collector, "web1").await.expect("is welcome");
}
