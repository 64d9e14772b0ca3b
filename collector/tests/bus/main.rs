//! Collectors that are parts of one, with a NATS server that is one: what was acknowledged is in the lake, once, whatever is killed.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "../lake/daemon.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod daemon;
mod killed;
mod odd;
#[path = "../lake/peer.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod peer;
mod roles;
mod s3;
mod servers;
mod writer;

/// A collector that takes what agents deliver to the bus.
fn ingest(options: &[String]) -> daemon::Daemon {
    let options = options.iter().map(String::as_str);
    daemon::Daemon::start(
        &["--role", "ingest"]
            .into_iter()
            .chain(options)
            .collect::<Vec<_>>(),
    )
}
