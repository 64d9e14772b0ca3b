//! Those who come to be in the way.

use std::{fs, net::SocketAddr};

use rustix::process::{Resource, getrlimit, setrlimit};
use sensor_proto::v1::{ListHostsRequest, SubscribeRequest, collector_client::CollectorClient};
use sensor_trust::{Security, Token, dial};
use tokio::net::TcpSocket;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::world::{Collector, Guest, batch, silent, wait_until};

/// Connections that say nothing: ten thousand, or what this process may open.
fn crowd() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("may use what it may use");
    limit
        .maximum
        .map_or(10_000, |limit| 10_000.min(limit as usize / 2))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_silent_connections_are_in_nobodys_way() {
    let collector = Collector::start(&[]).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let mut stream = web1.deliver(&collector, "web1").await.expect("is welcome");
    let remote: SocketAddr = ([127, 0, 0, 1], collector.port()).into();
    let mut silent = Vec::new();
    for number in 0..crowd() {
        // From a hundred addresses.
        let socket = TcpSocket::new_v4().expect("a socket");
        let local = SocketAddr::from(([127, 0, 1, (number % 100) as u8], 0));
        socket.bind(local).expect("binds");
        silent.push(socket.connect(remote).await.expect("connects"));
    }
    // Who was there goes on, and who means to come gets in.
    stream.send(batch(1)).await;
    assert_eq!(stream.acknowledged().await, Ok(1));
    let db1 = Guest::enrolled(&collector, &["--host", "db1"]).await;
    db1.deliver(&collector, "db1").await.expect("is welcome");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", collector.pid()))
        .expect("lists")
        .count();
    assert!(
        descriptors < 1_024 + 200,
        "{descriptors} descriptors for {} connections",
        silent.len()
    );
    println!(
        "{} silent connections, {descriptors} descriptors in the collector",
        silent.len()
    );
}

/// Whoever may read has so many subscriptions, over however many connections, and is in nobody else's way.
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_of_one_are_limited() {
    let collector = Collector::start(&[]).await;
    let one = Guest::enrolled(&collector, &["--role", "viewer", "--name", "one"]).await;
    let two = Guest::enrolled(&collector, &["--role", "viewer", "--name", "two"]).await;
    let mut held = Vec::new();
    let refused = 'all: loop {
        let mut client = CollectorClient::new(one.connect(&collector).await.expect("connects"));
        for number in 0..10_u64 {
            let request = SubscribeRequest {
                // Of both kinds.
                after: number.is_multiple_of(2).then_some(0),
                ..SubscribeRequest::default()
            };
            match client.subscribe(request).await {
                Ok(stream) => held.push(stream),
                Err(status) => break 'all status,
            }
            assert!(held.len() < 200, "nothing limits them");
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(
        refused.message(),
        "viewer one has 64 subscriptions, and may not have more at once; end one of them first"
    );
    assert_eq!(held.len(), 64);
    let subscribe = async |guest: &Guest| {
        let mut client = CollectorClient::new(guest.connect(&collector).await.expect("connects"));
        client.subscribe(SubscribeRequest::default()).await
    };
    let _other = subscribe(&two).await.expect("has none yet");
    held.pop();
    let _again = wait_until("the place that is free", async || subscribe(&one).await.ok()).await;
    let mut client = CollectorClient::new(one.connect(&collector).await.expect("connects"));
    client
        .list_hosts(ListHostsRequest {})
        .await
        .expect("is no subscription");
}

/// What strangers may ask is short.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_health_is_short() {
    let collector = Collector::start(&[]).await;
    let token: Token = collector
        .token(&["--role", "viewer", "--name", "one"])
        .parse()
        .expect("a token");
    let address = collector.url().parse().expect("an address");
    let channel = dial(&address, &Security::Stranger(token.authority), &silent()).await;
    let mut client = HealthClient::new(channel.expect("connects"));
    let service = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    client.check(service("")).await.expect("is answered");
    let unknown = client
        .check(service(&"x".repeat(1_000)))
        .await
        .expect_err("is none");
    assert_eq!(unknown.code(), Code::NotFound);
    let refused = client
        .check(service(&"x".repeat(1_100)))
        .await
        .expect_err("is too long");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}
