//! The collector, and what it takes.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use collector::store::Reader;
use sensor_proto::{
    MESSAGE_BYTES_MAX,
    v1::{QueryRequest, collector_client::CollectorClient},
};
use tempfile::TempDir;

pub(crate) struct Collector {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Collector {
    /// On the first processor alone, or on any.
    pub(crate) fn start(on_one: bool) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(
            std::env::var("SENSOR_BENCH_DATA").unwrap_or_else(|_| "/var/tmp".to_owned()),
        )?;
        let port_file = folder.path().join("port");
        let program = env!("CARGO_BIN_EXE_collector");
        let mut command = if on_one {
            let mut command = Command::new("taskset");
            command.args(["-c", "0", program]);
            command
        } else {
            Command::new(program)
        };
        command
            .args(["serve", "--insecure", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"));
        let child = command
            .arg("--port-file")
            .arg(&port_file)
            .stdin(Stdio::null())
            .spawn()?;
        let mut collector = Self {
            child,
            folder,
            port: 0,
        };
        for _ in 0..1000 {
            if let Ok(text) = fs::read_to_string(&port_file)
                && let Some(port) = text.rsplit(':').next()
            {
                collector.port = port.parse()?;
                return Ok(collector);
            }
            sleep(Duration::from_millis(10));
        }
        anyhow::bail!("the collector does not listen")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The most memory that it ever had.
    pub(crate) fn memory_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .context("VmHWM")?;
        let kib: f64 = line.split_whitespace().nth(1).context("VmHWM")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Time of processors that it took so far.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().context("stat")?.split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / 100.0)
    }

    fn reader(&self) -> anyhow::Result<Reader> {
        Ok(Reader::open(&self.folder.path().join("data"))?)
    }

    /// Waits until all is in the lake and the lake has come to rest.
    pub(crate) fn settle(&self, events: u64) -> anyhow::Result<()> {
        let reader = self.reader()?;
        let mut rested = (Instant::now(), 0);
        loop {
            let runs = reader.runs()?;
            let entries: u64 = runs.iter().map(collector::store::Run::entries).sum();
            if runs.len() != rested.1 || entries < events {
                rested = (Instant::now(), runs.len());
            }
            if rested.0.elapsed() > Duration::from_secs(20) {
                return Ok(());
            }
            sleep(Duration::from_millis(500));
        }
    }

    pub(crate) fn lake_bytes(&self) -> anyhow::Result<u64> {
        Ok(self
            .reader()?
            .runs()?
            .iter()
            .map(collector::store::Run::bytes)
            .sum())
    }

    pub(crate) fn lake_files(&self) -> anyhow::Result<usize> {
        Ok(self.reader()?.runs()?.iter().map(|run| run.files.len()).sum())
    }

    /// The median of five times that the whole answer takes.
    pub(crate) async fn ask(&self, sql: &str) -> anyhow::Result<Duration> {
        let client = CollectorClient::connect(self.url()).await?;
        let mut client = client.max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut times = Vec::new();
        for _ in 0..5 {
            let request = QueryRequest {
                sql: sql.to_owned(),
                ..QueryRequest::default()
            };
            let begun = Instant::now();
            let mut answer = client.query(request).await?.into_inner();
            let mut rows = 0;
            while let Some(response) = answer.message().await? {
                rows = response.rows;
            }
            times.push(begun.elapsed());
            ensure!(rows > 0, "no answer to {sql}");
        }
        times.sort_unstable();
        println!("  {sql}: {times:?}");
        Ok(times[2])
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
