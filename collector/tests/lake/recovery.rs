//! A lake whose database is gone, or older than it: what is in files is there all the same.

use std::fs;

use crate::{
    daemon::{Daemon, wait},
    peer::{EACH, Peer},
};

const COUNT: &str = "select count(*) as n, count(distinct position) as p from events";

fn counted(batches: u64) -> String {
    let entries = batches * EACH;
    format!("{{\"n\":{entries},\"p\":{entries}}}\n")
}

async fn deliver(daemon: &Daemon, host: &str, batches: u64) {
    Peer::new(&daemon.url(), host).deliver(batches).await;
    wait("nothing to be fresh", async || daemon.is_settled().then_some(())).await;
}

fn remove_journal(daemon: &Daemon) {
    for ending in ["wal", "shm"] {
        let _ = fs::remove_file(daemon.data().join(format!("collector.db-{ending}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_outlives_its_database() {
    let mut daemon = Daemon::start(&["--fresh-seconds", "0"]);
    deliver(&daemon, "web1", 6).await;
    daemon.stop();
    let database = daemon.data().join("collector.db");
    let older = daemon.data().join("older");
    fs::copy(&database, &older).unwrap();

    // Damaged: it is set aside, and the list is made anew from the files.
    let mut bytes = fs::read(&database).unwrap();
    bytes[..4096].fill(0xa5);
    fs::write(&database, bytes).unwrap();
    remove_journal(&daemon);
    daemon.start_again();
    assert!(
        daemon.messages().contains("they are listed again"),
        "{}",
        daemon.messages()
    );
    assert_eq!(daemon.query(COUNT).unwrap(), counted(6));
    deliver(&daemon, "web2", 4).await;
    assert_eq!(daemon.query(COUNT).unwrap(), counted(10));
    daemon.stop();

    // Older, as out of a backup: what came since is found.
    fs::copy(&older, &database).unwrap();
    remove_journal(&daemon);
    daemon.start_again();
    assert_eq!(daemon.query(COUNT).unwrap(), counted(10));
    deliver(&daemon, "web3", 2).await;
    daemon.stop();
    assert_eq!(daemon.query_offline(COUNT).unwrap(), counted(12));

    // Gone: also for who only asks.
    fs::remove_file(&database).unwrap();
    remove_journal(&daemon);
    let mut junk = daemon
        .files()
        .into_iter()
        .find(|file| file.extension().is_some_and(|it| it == "parquet"))
        .unwrap();
    junk.set_file_name("00000000000000090000-00000000000000090001-0.parquet");
    fs::write(&junk, "no Parquet").unwrap();
    assert_eq!(daemon.query_offline(COUNT).unwrap(), counted(12));
    daemon.start_again();
    assert_eq!(daemon.query(COUNT).unwrap(), counted(12));
    // What cannot be read is not listed, and not removed.
    assert!(junk.with_extension("parquet.damaged").exists());
}
