//! Loads: programs, connections and builds, one after the other, as quickly as they come.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    path::Path,
    process::{Command, Stdio},
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

/// `count` connections, no two of the same ends. They are reset, so that no port stays taken.
pub(crate) fn distinct_flows(count: u32) -> Result<()> {
    /// Fewer than there are ports for clients.
    const FOR_EACH_ADDRESS: u32 = 20_000;
    for from in (0..count).step_by(FOR_EACH_ADDRESS as usize) {
        let number = (from / FOR_EACH_ADDRESS) as u8;
        let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::new(127, 0, 2, number), 0))?;
        let address = listener.local_addr()?;
        for _ in from..count.min(from + FOR_EACH_ADDRESS) {
            let client = TcpStream::connect(address)?;
            let accepted = listener.accept()?;
            reset_at_close(&client)?;
            drop(client);
            drop(accepted);
        }
    }
    Ok(())
}

/// Time for `count` builds of `sensor-behaviour` and the libraries that it uses, from nothing: compilers, build scripts, linkers, and
/// some hundred files.
pub(crate) fn builds(count: u32) -> Result<Duration> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut time = Duration::ZERO;
    for _ in 0..count {
        let target = tempfile::tempdir()?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args([
                "build",
                "--offline",
                "--locked",
                "--quiet",
                "-p",
                "sensor-behaviour",
                "--target-dir",
            ])
            .arg(target.path())
            .current_dir(&root)
            .stdin(Stdio::null());
        let began = Instant::now();
        ensure!(cargo.status()?.success(), "the build did not succeed");
        time += began.elapsed();
    }
    Ok(time)
}

fn reset_at_close(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the option's value lives during the call and is as long as is said.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as u32,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
