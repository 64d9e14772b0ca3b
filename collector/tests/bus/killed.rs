//! A server of the bus, a collector that takes and one that stores are killed, while agents deliver.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};

use crate::{
    daemon::{Daemon, command, wait},
    ingest,
    peer::{EACH, Peer},
    servers::Servers,
    writer::Writer,
};

const PEERS: usize = 4;

/// Entries, different ones among them, and different positions.
const COUNTS: &str = "select count(*) as n, count(distinct concat(host, ' ', coalesce(filename, path))) as different, count(distinct position) as positions from events";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_in_the_lake_once() {
    let Some(mut servers) = Servers::start(3) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let lake = format!("file://{}", folder.path().join("lake").display());
    let options = servers.options(&lake);
    let mut ingests = [ingest(&options), ingest(&options)];
    let mut writers = [Writer::start(&options), Writer::start(&options)];

    let enough = Arc::new(AtomicBool::new(false));
    let urls = ingests.each_ref().map(Daemon::url);
    let peers: Vec<_> = (0..PEERS)
        .map(|number| {
            let peer = Peer::new("", &format!("host{number}"));
            tokio::spawn(deliver(peer, number, urls.clone(), Arc::clone(&enough)))
        })
        .collect();
    sleep(Duration::from_secs(2)).await;
    ingests[0].kill();
    sleep(Duration::from_secs(1)).await;
    ingests[0].start_again();
    sleep(Duration::from_secs(1)).await;
    writers[0].kill();
    sleep(Duration::from_secs(1)).await;
    servers.kill(0);
    sleep(Duration::from_secs(3)).await;
    writers[0] = Writer::start(&options);
    sleep(Duration::from_secs(1)).await;
    enough.store(true, Ordering::Relaxed);
    let mut total = 0;
    for peer in peers {
        total += peer.await.unwrap() * EACH;
    }
    let expected = format!("{{\"n\":{total},\"different\":{total},\"positions\":{total}}}");
    let count = async || {
        let counts = command(&["query", "--lake", &lake, "-o", "json", COUNTS]).unwrap_or_else(|error| error);
        (counts.trim() == expected).then_some(()).ok_or(counts)
    };
    let settled = wait("everything to be in the lake", async || count().await.ok());
    if timeout(Duration::from_secs(40), settled).await.is_err() {
        let messages: Vec<_> = writers.iter().map(Writer::messages).collect();
        panic!("{:?}, not {expected}\n{}", count().await, messages.join("\n"));
    }
    // Nothing comes later either.
    writers.iter_mut().for_each(Writer::stop);
    ingests.iter_mut().for_each(Daemon::stop);
    assert_eq!(count().await, Ok(()));
    eprintln!("{total} entries");
}

/// Delivers to one collector after the other until it is enough, and returns how many batches.
async fn deliver(mut peer: Peer, number: usize, urls: [String; 2], enough: Arc<AtomicBool>) -> u64 {
    let mut batches = 0;
    let mut turn = number;
    while !enough.load(Ordering::Relaxed) {
        batches += 20;
        while peer.acknowledged < batches {
            peer.url.clone_from(&urls[turn % urls.len()]);
            turn += 1;
            // What was sent and not acknowledged is sent again, to the other.
            let _ = timeout(Duration::from_secs(3), peer.deliver(batches)).await;
        }
    }
    batches
}
