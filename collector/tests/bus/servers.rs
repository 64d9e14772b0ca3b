//! NATS servers, one or several that are a cluster.

use std::{
    fs::File,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use collector::bus::nats::Config;
use tempfile::TempDir;

use crate::daemon::PATIENCE;

/// Where Debian has it, which is not on everybody's path.
const PROGRAM: &str = "/usr/sbin/nats-server";

pub struct Servers {
    program: PathBuf,
    folder: TempDir,
    ports: Vec<u16>,
    /// Where they find each other.
    routes: Vec<u16>,
    servers: Vec<Child>,
}

impl Servers {
    /// Starts so many. None if there is no program for it, which in CI is a failure.
    pub fn start(count: usize) -> Option<Self> {
        let program = program()?;
        let mut ports = free_ports(2 * count);
        let mut servers = Self {
            program,
            folder: tempfile::tempdir().unwrap(),
            routes: ports.split_off(count),
            ports,
            servers: Vec::new(),
        };
        servers.servers = (0..count).map(|number| servers.spawn(number)).collect();
        servers.ports.iter().for_each(|port| wait_for(*port));
        Some(servers)
    }

    /// URLs of all of them.
    pub fn urls(&self) -> String {
        let urls = self.ports.iter().map(|port| format!("nats://127.0.0.1:{port}"));
        urls.collect::<Vec<_>>().join(",")
    }

    /// What a collector is told of the bus on them, and of a lake.
    pub fn options(&self, lake: &str) -> Vec<String> {
        let replicas = self.servers.len().to_string();
        [
            "--bus",
            &self.urls(),
            "--bus-replicas",
            &replicas,
            "--bus-gib",
            "1",
            "--lake",
            lake,
        ]
        .map(str::to_owned)
        .into()
    }

    /// A bus on them, of so many bytes.
    pub fn config(&self, bytes: u64) -> Config {
        Config {
            urls: self.urls(),
            credentials: None,
            authority: None,
            identity: None,
            stream: "SENSOR".to_owned(),
            replicas: self.servers.len(),
            bytes,
        }
    }

    /// Ends one without notice.
    pub fn kill(&mut self, number: usize) {
        self.servers[number].kill().unwrap();
        self.servers[number].wait().unwrap();
    }
}

impl Servers {
    /// Starts one again that was killed, with what it has on its disk.
    pub fn start_again(&mut self, number: usize) {
        self.servers[number] = self.spawn(number);
        wait_for(self.ports[number]);
    }

    fn spawn(&self, number: usize) -> Child {
        let folder = self.folder.path();
        let mut command = Command::new(&self.program);
        command
            .args(["--addr", "127.0.0.1", "--port", &self.ports[number].to_string()])
            .args(["--name", &format!("server{number}"), "--jetstream", "--store_dir"])
            .arg(folder.join(number.to_string()));
        if self.ports.len() > 1 {
            let urls = self.routes.iter().map(|port| format!("nats://127.0.0.1:{port}"));
            let urls: Vec<_> = urls.collect();
            command
                .args(["--cluster_name", "test", "--cluster", &urls[number]])
                .args(["--routes", &urls.join(",")]);
        }
        let log = folder.join(format!("{number}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    let found = on_path
        .chain([PathBuf::from(PROGRAM)])
        .find(|program| program.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "there is no nats-server: apt-get install nats-server"
        );
        eprintln!("SKIPPED: there is no nats-server; `cargo xtask setup --tests` installs it");
    }
    found
}

/// Until somebody listens there.
fn wait_for(port: u16) {
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "no server listens at {port}");
        sleep(Duration::from_millis(20));
    }
}

/// Ports that nobody listens on, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port());
    ports.collect()
}
