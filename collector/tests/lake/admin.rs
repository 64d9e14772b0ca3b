//! For those who look after it.

use crate::{
    daemon::{Daemon, get},
    peer::Peer,
};

#[tokio::test]
async fn health_readiness_and_numbers_are_told() {
    let daemon = Daemon::start(&["--admin", "127.0.0.1:0", "--fresh-seconds", "100000"]);
    let port = daemon.admin();
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
