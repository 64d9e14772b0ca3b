//! Killed at random moments, while agents deliver and the lake is made: what was delivered is there exactly once.

use std::time::Duration;

use crate::{
    daemon::{Daemon, wait},
    peer::{EACH, Peer},
};

const PEERS: usize = 3;
const BATCHES_A_ROUND: u64 = 30;

/// Rounds; `SENSOR_CRASH_ROUNDS` says how many, where not 20.
fn rounds() -> u32 {
    std::env::var("SENSOR_CRASH_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_is_in_the_lake_once() {
    let mut daemon = Daemon::start(&["--fresh-seconds", "0"]);
    let rounds = rounds();
    let batches = u64::from(rounds) * BATCHES_A_ROUND;
    let peers: Vec<_> = (0..PEERS)
        .map(|peer| {
            let mut peer = Peer::new(&daemon.url(), &format!("host{peer}"));
            tokio::spawn(async move { peer.deliver(batches).await })
        })
        .collect();
    let mut memory = 0;
    let mut random = 0x2545_f491_u64;
    for _ in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        tokio::time::sleep(Duration::from_millis(20 + random % 280)).await;
        memory = memory.max(daemon.memory());
        daemon.kill();
        daemon.start_again();
    }
    for peer in peers {
        peer.await.unwrap();
    }
    let total = batches * EACH * PEERS as u64;
    check(&daemon, total, "running");
    wait("everything to be in files", async || {
        daemon.is_settled().then_some(())
    })
    .await;
    daemon.stop();
    let counts = daemon.query_offline(COUNTS).unwrap();
    assert_eq!(counts.trim(), expected(total), "stopped\n{}", daemon.messages());
    let partial: Vec<_> = daemon
        .files()
        .into_iter()
        .filter(|file| file.extension().is_none_or(|it| it != "parquet"))
        .collect();
    assert!(partial.is_empty(), "{partial:?}");
    assert!(memory < 512 << 10, "{memory} KiB");
    eprintln!("{rounds} rounds, {total} entries, at most {memory} KiB");
}

/// Entries, and different ones among them.
const COUNTS: &str = "select count(*) as n, count(distinct concat(host, ' ', coalesce(filename, path))) as different from events where signal in ('exec', 'file_open')";

fn expected(total: u64) -> String {
    format!("{{\"n\":{total},\"different\":{total}}}")
}

fn check(daemon: &Daemon, total: u64, when: &str) {
    let counts = daemon.query(COUNTS).unwrap();
    assert_eq!(counts.trim(), expected(total), "{when}\n{}", daemon.messages());
}
