//! Loads: programs and connections one after the other, as quickly as they come.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

/// Time for `count` runs of a small ordinary program.
pub(crate) fn execs(count: u32) -> Result<Duration> {
    let began = Instant::now();
    for _ in 0..count {
        ensure!(
            Command::new("/bin/true").status()?.success(),
            "/bin/true did not end well"
        );
    }
    Ok(began.elapsed())
}

/// Time for `count` connections over loopback, each opened, accepted and closed. Every leg has an address of its own:
/// the ports of closed connections stay taken for a minute, per address.
pub(crate) fn connects(leg: u8, count: u32) -> Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 1, leg), 0))?;
    let address = listener.local_addr()?;
    let began = Instant::now();
    for _ in 0..count {
        let client = TcpStream::connect(address)?;
        let (server, _) = listener.accept()?;
        drop(client);
        drop(server);
    }
    Ok(began.elapsed())
}
