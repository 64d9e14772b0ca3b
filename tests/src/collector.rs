//! A collector under test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use sensor_proto::v1::{Host, ListHostsRequest, collector_client::CollectorClient};
use tempfile::TempDir;

use crate::{
    client,
    command::program,
    daemon::Daemon,
    patience::{patience, wait_for},
};

/// A running collector with a folder of its own.
pub struct Collector {
    daemon: Daemon,
    port: u16,
    folder: TempDir,
}

impl Collector {
    /// Starts one on a free port and waits until it listens.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (daemon, port) = serve(folder.path(), 0)?;
        Ok(Self { daemon, port, folder })
    }

    /// Ends it without notice and starts it again: same port, same data.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn crash_and_restart(&mut self) -> Result<()> {
        self.daemon.kill()?;
        let (daemon, port) = serve(self.folder.path(), self.port)?;
        (self.daemon, self.port) = (daemon, port);
        Ok(())
    }

    /// Where agents and readers find it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps what it accepted.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// The hosts that it knows.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn hosts(&self) -> Result<Vec<Host>> {
        let mut client = CollectorClient::new(client::connect(&self.address())?);
        Ok(client::wait(client.list_hosts(ListHostsRequest {}))??
            .into_inner()
            .hosts)
    }
}

fn serve(folder: &Path, port: u16) -> Result<(Daemon, u16)> {
    let port_file = folder.join("port");
    let _ = fs::remove_file(&port_file);
    let mut command = Command::new(program("COLLECTOR_BIN", "collector")?);
    command
        .args([
            "serve",
            "--insecure",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--data",
        ])
        .arg(folder.join("data"));
    command.arg("--port-file").arg(&port_file);
    let mut daemon = Daemon::start("collector", &mut command, folder)?;
    let port = wait_for("the collector to listen", patience(15), || {
        daemon.check()?;
        Ok(read_port(&port_file))
    });
    let port = port.with_context(|| daemon.messages())?;
    Ok((daemon, port))
}

fn read_port(file: &Path) -> Option<u16> {
    fs::read_to_string(file)
        .ok()?
        .trim()
        .rsplit(':')
        .next()?
        .parse()
        .ok()
}
