//! Those who come to be in the way.

use std::{fs, net::SocketAddr};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpSocket;

use crate::world::{Collector, Guest, batch};

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
