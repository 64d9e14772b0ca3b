//! A collector of each kind, and a bus that goes away and comes back.

use crate::{
    daemon::{admin, command, get, wait},
    ingest,
    peer::{EACH, Peer},
    servers::Servers,
    writer::Writer,
};

#[tokio::test]
async fn a_bus_that_goes_away_is_said_and_what_comes_meanwhile_is_kept_by_agents() {
    let Some(mut servers) = Servers::start(1) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let lake = format!("file://{}", folder.path().join("lake").display());
    let mut options = servers.options(&lake);
    options.extend(["--admin", "127.0.0.1:0"].map(str::to_owned));
    let mut ingest = ingest(&options);
    let mut writer = Writer::start(&options);
    // Who finds no bus when it starts ends, and is started again by whoever runs it; who has found one waits for it.
    let found = wait("the writer to have found the bus", async || {
        admin(&writer.messages())
    });
    let page_of_writer = found.await;
    let mut peer = Peer::new(&ingest.url(), "web1");
    peer.deliver(3).await;
    assert!(get(ingest.admin(), "/readyz").contains("200 OK"));
    let page = get(ingest.admin(), "/metrics");
    for line in [
        "sensor_bus_published_batches_total 3\n",
        "sensor_bus_published_entries_total 150\n",
        "sensor_bus_refused_batches_total 0\n",
    ] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }

    servers.kill(0);
    let unready = wait("the bus to be missed", async || {
        Some(get(ingest.admin(), "/readyz")).filter(|said| said.contains("503"))
    });
    let unready = unready.await;
    assert!(unready.contains("the bus does not answer: "), "{unready}");
    let url = ingest.url();
    let going_on = tokio::spawn(async move {
        let mut peer = Peer::new(&url, "web1");
        peer.deliver(6).await;
    });
    servers.start_again(0);
    going_on.await.unwrap();
    wait("the bus to be back", async || {
        get(ingest.admin(), "/readyz").contains("200 OK").then_some(())
    })
    .await;
    let total = format!("{{\"n\":{}}}\n", 6 * EACH);
    wait("everything to be in the lake", async || {
        let counted = command(&[
            "query",
            "--lake",
            &lake,
            "-o",
            "json",
            "select count(*) as n from events",
        ]);
        (counted.unwrap() == total).then_some(())
    })
    .await;
    let page = get(page_of_writer, "/metrics");
    assert!(page.contains("sensor_shared_lake_entries_total 300\n"), "{page}");
    assert!(page.contains("sensor_shared_lake_conflicts_total 0\n"), "{page}");
    writer.stop();
    ingest.stop();
}

#[test]
fn what_is_missing_on_the_command_line_is_said() {
    for (arguments, means) in [
        (
            &["--role", "write"][..],
            "--role ingest and --role write need --bus nats://HOST:4222 and --lake s3://BUCKET/PREFIX, the same for all",
        ),
        (
            &["--insecure"],
            "where is what it keeps? Name a directory with --data",
        ),
        (
            &["--bus", "nats://x", "--data", "/nonexistent"],
            "--bus and --lake are for collectors that do one thing; add --role ingest or --role write, and run some of each",
        ),
        (
            &["--role", "write", "--bus", "nats://127.0.0.1:1", "--lake", "lake"],
            "\"lake\" is no place for a lake; such as s3://BUCKET/PREFIX or file:///srv/lake",
        ),
    ] {
        let said = command(&[&["serve"], arguments].concat()).expect_err("is refused");
        assert_eq!(said, format!("collector: {means}\n"));
    }
}
