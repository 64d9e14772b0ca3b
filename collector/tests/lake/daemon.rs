//! A collector in a process of its own.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sensor_proto::{MESSAGE_BYTES_MAX, v1::collector_client::CollectorClient};
use tempfile::TempDir;
use tonic::transport::Channel;

/// What should happen has happened long before; it is only there so that a defect does not hang.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Daemon {
    child: Child,
    folder: TempDir,
    data: PathBuf,
    pub port: u16,
    options: Vec<String>,
}

impl Daemon {
    pub fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::start_in(folder, data, options)
    }

    pub fn start_in(folder: TempDir, data: PathBuf, options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let (child, port) = spawn(folder.path(), &data, 0, &options);
        Self {
            child,
            folder,
            data,
            port,
            options,
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub async fn client(&self) -> CollectorClient<Channel> {
        let client = CollectorClient::connect(self.url()).await.unwrap();
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Ends it without notice.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, at the same port with the same data.
    pub fn start_again(&mut self) {
        (self.child, self.port) = spawn(self.folder.path(), &self.data, self.port, &self.options);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.messages());
    }

    /// What it said.
    pub fn messages(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Port of its metrics and health.
    pub fn admin(&self) -> u16 {
        admin(&self.messages()).unwrap()
    }

    /// Its resident memory in KiB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Files of the lake.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.data.join("lake")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files
    }

    /// Whether all entries are in files.
    pub fn is_settled(&self) -> bool {
        let database = rusqlite::Connection::open(self.data.join("collector.db")).unwrap();
        let count: i64 = database
            .query_row("SELECT count(*) FROM batches", [], |row| row.get(0))
            .unwrap();
        count == 0
    }

    /// A query of the command line.
    pub fn query(&self, sql: &str) -> Result<String, String> {
        command(&["query", "--collector", &self.url(), "-o", "json", sql])
    }

    /// A query of the command line about the data directory.
    pub fn query_offline(&self, sql: &str) -> Result<String, String> {
        command(&["query", "--data", self.data.to_str().unwrap(), "-o", "json", sql])
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port of metrics and health that a collector has said.
pub fn admin(messages: &str) -> Option<u16> {
    let port = messages.split("metrics and health at http://127.0.0.1:").nth(1)?;
    port.split_whitespace().next()?.parse().ok()
}

/// What is said there, head and all.
pub fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// What a command of the collector says.
pub fn command(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

/// Waits until there is something.
pub async fn wait<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn spawn(folder: &Path, data: &Path, port: u16, options: &[String]) -> (Child, u16) {
    let port_file = folder.join("port");
    let _ = fs::remove_file(&port_file);
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let until = Instant::now() + PATIENCE;
    let mut child = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args([
            "serve",
            "--insecure",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--data",
        ])
        .arg(data)
        .arg("--port-file")
        .arg(&port_file)
        .args(options)
        .env(
            "COLLECTOR_LOG",
            "debug,h2=info,hyper=info,datafusion=info,sqlparser=info,tonic=info,tower=info",
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    loop {
        if let Some(port) = fs::read_to_string(&port_file)
            .ok()
            .and_then(|text| text.rsplit(':').next()?.parse().ok())
        {
            return (child, port);
        }
        let ended = child.try_wait().unwrap();
        let messages = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(
            ended.is_none() && Instant::now() < until,
            "it does not listen:\n{}",
            messages()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
