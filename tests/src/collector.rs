//! A collector under test.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
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
    place: Place,
}

/// Where a collector is, and who may speak to it.
#[derive(Clone, Debug)]
enum Place {
    /// On this host, without TLS.
    Open,
    /// On this host.
    Here,
    /// In a network namespace, at this address.
    Namespace(String, IpAddr),
}

impl Place {
    fn address(&self) -> IpAddr {
        match self {
            Self::Open | Self::Here => Ipv4Addr::LOCALHOST.into(),
            Self::Namespace(_, address) => *address,
        }
    }

    fn command(&self) -> Result<Command> {
        let program = program("COLLECTOR_BIN", "collector")?;
        Ok(match self {
            Self::Open | Self::Here => Command::new(program),
            Self::Namespace(name, _) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
        })
    }
}

impl Collector {
    /// Starts one on a free port, without TLS, and waits until it listens.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start() -> Result<Self> {
        Self::begin(tempfile::tempdir()?, Place::Open)
    }

    /// The same with TLS and an authority of its own.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start_secure() -> Result<Self> {
        Self::begin(tempfile::tempdir()?, Place::Here)
    }

    /// The same in a network namespace, at an address that hosts reach it at, with a folder that is its own.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start_in(namespace: &str, address: IpAddr, folder: TempDir) -> Result<Self> {
        Self::begin(folder, Place::Namespace(namespace.to_owned(), address))
    }

    fn begin(folder: TempDir, place: Place) -> Result<Self> {
        let (daemon, port) = serve(folder.path(), 0, &place)?;
        Ok(Self {
            daemon,
            port,
            folder,
            place,
        })
    }

    /// Ends it without notice and starts it again: same port, same data.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn crash_and_restart(&mut self) -> Result<()> {
        self.daemon.kill()?;
        let (daemon, port) = serve(self.folder.path(), self.port, &self.place)?;
        (self.daemon, self.port) = (daemon, port);
        Ok(())
    }

    /// Where agents and readers find it.
    #[must_use]
    pub fn address(&self) -> String {
        let scheme = match self.place {
            Place::Open => "http",
            Place::Here | Place::Namespace(..) => "https",
        };
        format!("{scheme}://{}", SocketAddr::new(self.place.address(), self.port))
    }

    /// What one of its commands says, and whether that ended well, as who owns its data.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ask(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = Command::new(program("COLLECTOR_BIN", "collector")?);
        let output = command
            .args(arguments)
            .env("COLLECTOR_DATA", self.data())
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    }

    /// A token for a host.
    ///
    /// # Errors
    /// If it gives none.
    pub fn token(&self, host: &str) -> Result<String> {
        let (good, said) = self.ask(&["enroll", "--host", host])?;
        ensure!(good, "{said}");
        Ok(said.lines().next().unwrap_or_default().to_owned())
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

    /// What it answers, as JSON lines, when it does not run.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn query(&self, sql: &str) -> Result<String> {
        let mut command = Command::new(program("COLLECTOR_BIN", "collector")?);
        command
            .args(["query", "--output", "json", "--data"])
            .arg(self.data())
            .arg(sql);
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "the query failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
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

fn serve(folder: &Path, port: u16, place: &Place) -> Result<(Daemon, u16)> {
    let port_file = folder.join("port");
    let _ = fs::remove_file(&port_file);
    let mut command = place.command()?;
    let address = SocketAddr::new(place.address(), port);
    command
        .args(["serve", "--listen", &address.to_string(), "--data"])
        .arg(folder.join("data"));
    command.arg("--port-file").arg(&port_file);
    match place {
        Place::Open => {
            command.arg("--insecure");
        }
        Place::Here => {}
        Place::Namespace(_, address) => {
            command.args(["--name", &address.to_string()]);
        }
    }
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
