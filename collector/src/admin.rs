//! For those who look after the collector: whether it lives, whether it can do its work, and its numbers. Plain HTTP on an address of
//! its own, which should not be one that agents reach.
//!
//! `/healthz` says that the process answers. `/readyz` says that a transaction was made durable just now, which needs the writer and a disk with room; where there
//! is a bus, that it answers.
//! `/metrics` has the numbers, as Prometheus reads them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use sensor_proto::{metrics::Page, v1::HostState};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::{
    fleet::Fleet,
    lake::keeper,
    store::{KnownHost, Reader},
    writer::{Published, Writer},
};

/// How long a transaction may take before the collector is called not ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connections are not kept: each would hold on to the writer when the collector stops.
const CLOSE: [(&str, &str); 1] = [("connection", "close")];

/// What is looked at in a collector that stores by itself.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The writer.
    pub writer: Writer,
    /// The hosts.
    pub fleet: Fleet,
    /// What consumers are told.
    pub published: Published,
    /// What the keeper of the lake has done.
    pub keeper: Arc<keeper::Tally>,
    /// The data directory.
    pub data: std::path::PathBuf,
}

/// What those who look after a collector want to know of it.
#[async_trait]
pub trait Observed: Send + Sync + 'static {
    /// Whether it can do its work just now; else why not.
    async fn ready(&self) -> Result<(), String>;

    /// Its numbers.
    async fn numbers(&self, page: &mut Page);
}

/// Answers until the collector stops.
pub async fn serve(observed: Arc<dyn Observed>, listener: TcpListener, mut stopping: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/healthz", get(|| async { (CLOSE, "alive\n") }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(observed);
    let stop = async move { crate::ingest::stopped(&mut stopping).await };
    // Whoever looks keeps nobody from stopping.
    tokio::select! {
        result = async { axum::serve(listener, router).await } => if let Err(error) = result {
            tracing::error!("metrics and health are not served any more: {error}");
        },
        () = stop => {}
    }
}

/// What was counted so far.
pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

async fn ready(State(observed): State<Arc<dyn Observed>>) -> impl IntoResponse {
    match timeout(PATIENCE, observed.ready()).await {
        Ok(Ok(())) => (StatusCode::OK, CLOSE, "ready\n".to_owned()),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, CLOSE, format!("{error}\n")),
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            CLOSE,
            format!("nothing was done within {PATIENCE:?}\n"),
        ),
    }
}

async fn metrics(State(observed): State<Arc<dyn Observed>>) -> impl IntoResponse {
    let mut page = Page::default();
    observed.numbers(&mut page).await;
    (
        CLOSE,
        [("content-type", "text/plain; version=0.0.4")],
        page.text(),
    )
}

#[async_trait]
impl Observed for Admin {
    async fn ready(&self) -> Result<(), String> {
        self.writer.probe().await.map_err(|error| error.to_string())
    }

    async fn numbers(&self, page: &mut Page) {
        let hosts = self.writer.hosts().await.unwrap_or_default();
        self.ingest(page);
        self.hosts(page, hosts);
        self.lake(page);
    }
}

impl Admin {
    fn ingest(&self, page: &mut Page) {
        let tally = self.writer.tally();
        page.counter(
            "sensor_ingest_entries_total",
            "Entries made durable.",
            count(&tally.entries),
        );
        page.counter(
            "sensor_ingest_batches_total",
            "Batches made durable.",
            count(&tally.batches),
        );
        page.counter(
            "sensor_ingest_duplicates_total",
            "Batches that were stored already and came again.",
            count(&tally.duplicates),
        );
        page.counter(
            "sensor_ingest_commits_total",
            "Transactions.",
            count(&tally.commits),
        );
        page.counter(
            "sensor_ingest_failures_total",
            "Transactions that failed.",
            count(&tally.failures),
        );
        page.gauge(
            "sensor_ingest_connected_hosts",
            "Hosts with a stream open.",
            self.fleet.connected() as u64,
        );
        page.gauge(
            "sensor_consumers",
            "Consumers that follow from now on.",
            self.published.entries.readers() as u64,
        );
        page.counter(
            "sensor_consumers_dropped_entries_total",
            "Entries that such consumers lost by being too slow.",
            self.published.entries.dropped(),
        );
    }

    fn hosts(&self, page: &mut Page, known: Vec<KnownHost>) {
        let now = Instant::now();
        let states = known.into_iter().map(|KnownHost { mut host, stopped }| {
            self.fleet.describe(&mut host, stopped, now);
            host.state()
        });
        let states: Vec<HostState> = states.collect();
        let name = "sensor_fleet_hosts";
        page.head(name, "Hosts by state.", "gauge");
        for (state, label) in [
            (HostState::Alive, "alive"),
            (HostState::Silent, "silent"),
            (HostState::Stopped, "stopped"),
            (HostState::Losing, "losing"),
            (HostState::Degraded, "degraded"),
            (HostState::OutOfDate, "out_of_date"),
        ] {
            let count = states.iter().filter(|other| **other == state).count();
            page.sample(name, &[("state", label)], count as u64);
        }
    }

    fn lake(&self, page: &mut Page) {
        page.counter(
            "sensor_lake_runs_made_total",
            "Runs made of batches.",
            count(&self.keeper.made),
        );
        page.counter(
            "sensor_lake_runs_merged_total",
            "Runs put together.",
            count(&self.keeper.merged),
        );
        page.counter(
            "sensor_lake_taken_entries_total",
            "Entries that retention took.",
            count(&self.keeper.taken),
        );
        page.counter(
            "sensor_lake_failures_total",
            "Attempts to keep the lake that failed.",
            count(&self.keeper.failures),
        );
        page.counter(
            "sensor_lake_damaged_files_total",
            "Files that could not be read any more, and were set aside.",
            count(&self.writer.tally().damaged),
        );
        let look = || {
            let reader = Reader::open(&self.data)?;
            Ok::<_, crate::store::StoreError>((reader.runs()?, reader.backlog()?))
        };
        let Ok((runs, backlog)) = look() else { return };
        let files = runs.iter().map(|run| run.files.len() as u64).sum();
        page.gauge("sensor_lake_runs", "Runs in the lake.", runs.len() as u64);
        page.gauge("sensor_lake_files", "Files in the lake.", files);
        page.gauge(
            "sensor_lake_bytes",
            "Bytes of these files.",
            runs.iter().map(crate::store::Run::bytes).sum(),
        );
        page.gauge(
            "sensor_lake_fresh_entries",
            "Entries that are not in the lake yet.",
            backlog.map_or(0, |(entries, _)| entries),
        );
    }
}
