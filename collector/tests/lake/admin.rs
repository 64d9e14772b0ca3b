//! For those who look after it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::{daemon::Daemon, peer::Peer};

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn health_readiness_and_numbers_are_told() {
    let daemon = Daemon::start(&["--admin", "127.0.0.1:0", "--fresh-seconds", "100000"]);
    let messages = daemon.messages();
    let port = messages
        .split("metrics and health at http://127.0.0.1:")
        .nth(1)
        .unwrap();
    let port: u16 = port.split_whitespace().next().unwrap().parse().unwrap();
    Peer::new(&daemon.url(), "web1").deliver(3).await;
    assert!(get(port, "/healthz").contains("200 OK"));
    assert!(get(port, "/readyz").contains("200 OK"));
    let page = get(port, "/metrics");
    for line in [
        "sensor_ingest_entries_total 150",
        "sensor_ingest_batches_total 3",
        "sensor_fleet_hosts{state=\"stopped\"} 1",
        "sensor_lake_fresh_entries 150",
    ] {
        assert!(page.contains(line), "no {line} in {page}");
    }
}
