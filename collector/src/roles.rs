//! Collectors that are parts of one: some take what agents deliver to a bus, others take it from there to a lake that all of them share.
//!
//! Neither kind has anything of its own that is not somewhere else as well, but for what trust and commands need, which the first has in a data directory.

use std::{fs::File, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use sensor_proto::metrics::Page;
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::{
    Config, ServerError,
    admin::{self, Observed, count},
    bus::{self, Bus, BusError, Outbox, nats, nats::Nats},
    control::Desk,
    fleet::Fleet,
    ingest::IngestService,
    lake::shared::{Catalogue, Place, PlaceError, merging, steward},
    loader::{self, Gathering, Loader},
    prevalence::Facts,
    server::{Doors, listen, listen_for_admin, services},
    storage::Storage,
    store::lock,
    trust::{Owners, TrustError, Trusting, admin_socket},
};

/// How long a loader may take to commit what it has when it is to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// What the parts have in common.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The bus.
    pub bus: nats::Config,
    /// URL of the lake.
    pub lake: String,
}

impl Shared {
    async fn open(&self) -> Result<(Arc<dyn Bus>, Arc<Catalogue>), ServerError> {
        let catalogue = Catalogue::open(Place::at(&self.lake)?).await?;
        let bus = Nats::connect(&self.bus).await?;
        Ok((Arc::new(bus), Arc::new(catalogue)))
    }
}

/// A collector that takes what agents deliver to the bus. It listens, but does not serve yet.
#[derive(Debug)]
pub struct IngestRole {
    listener: TcpListener,
    owners: Owners,
    address: SocketAddr,
    admin: Option<(TcpListener, SocketAddr)>,
    trusting: Trusting,
    outbox: Outbox,
    bus: Arc<dyn Bus>,
    facts: Facts,
    data: std::path::PathBuf,
    /// Holds the lock of the data directory as long as it is open.
    _lock: File,
}

impl IngestRole {
    /// Opens the bus, the lake, and the address.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub async fn bind(config: &Config, shared: &Shared) -> Result<Self, ServerError> {
        let (listener, address) = listen(config.listen, "--listen").await?;
        let admin = listen_for_admin(config.admin).await?;
        let lock = lock(&config.data)?;
        let trusting = Trusting::open(&config.data, &config.trust, address)?;
        let (bus, catalogue) = shared.open().await?;
        Ok(Self {
            facts: Facts::at(catalogue.place().clone()),
            owners: admin_socket(&config.data).map_err(TrustError::from)?,
            listener,
            address,
            admin,
            trusting,
            outbox: Outbox::new(Arc::clone(&bus), catalogue),
            bus,
            data: config.data.clone(),
            _lock: lock,
        })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for metrics and health, where there is one.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, address)| *address)
    }

    /// Serves until `stop` is ready. Then agents get the acknowledgements that they have earned.
    ///
    /// # Errors
    /// If serving fails.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let (stopping, watcher) = watch::channel(false);
        let fleet = Fleet::default();
        if let Some((listener, _)) = self.admin {
            let observed = Delivering {
                outbox: self.outbox.tally(),
                bus: self.bus,
                fleet: fleet.clone(),
            };
            tokio::spawn(admin::serve(Arc::new(observed), listener, watcher.clone()));
        }
        let database = self.trusting.register.database.clone();
        let bundles = self.data.join("bundles");
        let desk = Desk::new(database, bundles, self.facts, watcher.clone());
        let ingest = IngestService {
            storage: Storage::Bus(self.outbox),
            fleet,
            stopping: watcher,
        };
        let routes = services(ingest, None, self.trusting.clone(), desk.clone()).await?;
        let doors = Doors {
            listener: self.listener,
            owners: self.owners,
            trusting: self.trusting,
            desk,
        };
        doors.serve(routes, &stopping, stop, || {}).await
    }
}

/// A collector that takes what is on the bus to the lake.
#[derive(Debug)]
pub struct WriteRole {
    admin: Option<(TcpListener, SocketAddr)>,
    loader: Loader,
    bus: Arc<dyn Bus>,
    catalogue: Arc<Catalogue>,
    keeping: steward::Keeping,
}

impl WriteRole {
    /// Opens the bus and the lake.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub async fn open(
        admin: Option<SocketAddr>,
        shared: &Shared,
        gathering: Gathering,
        keeping: steward::Keeping,
    ) -> Result<Self, ServerError> {
        let admin = listen_for_admin(admin).await?;
        let (bus, catalogue) = shared.open().await?;
        Ok(Self {
            admin,
            loader: Loader::new(Arc::clone(&bus), Arc::clone(&catalogue), gathering),
            bus,
            catalogue,
            keeping,
        })
    }

    /// The address for metrics and health, where there is one.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, address)| *address)
    }

    /// Works until `stop` is ready; then what was gathered is committed.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stopping, watcher) = watch::channel(false);
        if let Some((listener, _)) = self.admin {
            let observed = Loading {
                loader: self.loader.tally(),
                bus: self.bus,
                catalogue: Arc::clone(&self.catalogue),
            };
            tokio::spawn(admin::serve(Arc::new(observed), listener, watcher.clone()));
        }
        let merging = tokio::spawn(merging::run(Arc::clone(&self.catalogue)));
        let steward = tokio::spawn(steward::run(self.catalogue, self.keeping));
        let mut loading = tokio::spawn(self.loader.run(watcher));
        tokio::select! {
            () = stop => {}
            _ = &mut loading => {}
        }
        steward.abort();
        merging.abort();
        stopping.send_replace(true);
        if !loading.is_finished() && timeout(DRAIN, loading).await.is_err() {
            tracing::warn!(
                "what was gathered is not committed after {DRAIN:?}; it stays on the bus for others"
            );
        }
    }
}

async fn waiting(bus: &dyn Bus, page: &mut Page) {
    if let Ok(waiting) = bus.waiting().await {
        page.gauge("sensor_bus_waiting_batches", "Batches on the bus.", waiting);
    }
}

/// For how long a bus may be silent before it is said that it does not answer: less than whoever asks waits for an answer.
const SILENCE: Duration = Duration::from_millis(1_500);

async fn answers(bus: &dyn Bus) -> Result<(), String> {
    let silent = |_| BusError::Unreachable(format!("it has said nothing for {SILENCE:?}"));
    let answer = timeout(SILENCE, bus.waiting()).await.map_err(silent);
    answer.flatten().map(drop).map_err(|error| error.to_string())
}

/// What is to be known of an [`IngestRole`].
struct Delivering {
    outbox: Arc<bus::Tally>,
    bus: Arc<dyn Bus>,
    fleet: Fleet,
}

#[async_trait]
impl Observed for Delivering {
    async fn ready(&self) -> Result<(), String> {
        answers(&*self.bus).await
    }

    async fn numbers(&self, page: &mut Page) {
        let tally = &self.outbox;
        for (name, help, counter) in [
            (
                "sensor_bus_published_batches_total",
                "Batches made durable on the bus.",
                &tally.published,
            ),
            (
                "sensor_bus_published_entries_total",
                "Entries in them.",
                &tally.entries,
            ),
            (
                "sensor_bus_refused_batches_total",
                "Batches that the bus did not take.",
                &tally.refused,
            ),
            (
                "sensor_bus_retries_total",
                "Times that a batch was offered again.",
                &tally.retried,
            ),
        ] {
            page.counter(name, help, count(counter));
        }
        let connected = self.fleet.connected() as u64;
        page.gauge(
            "sensor_ingest_connected_hosts",
            "Hosts with a stream open.",
            connected,
        );
        waiting(&*self.bus, page).await;
    }
}

/// What is to be known of a [`WriteRole`].
struct Loading {
    loader: Arc<loader::Tally>,
    bus: Arc<dyn Bus>,
    catalogue: Arc<Catalogue>,
}

#[async_trait]
impl Observed for Loading {
    async fn ready(&self) -> Result<(), String> {
        answers(&*self.bus).await?;
        let refreshed: Result<(), PlaceError> = self.catalogue.refresh().await;
        refreshed.map_err(|error| error.to_string())
    }

    async fn numbers(&self, page: &mut Page) {
        let tally = &self.loader;
        for (name, help, counter) in [
            (
                "sensor_bus_pulled_batches_total",
                "Batches pulled from the bus.",
                &tally.pulled,
            ),
            (
                "sensor_bus_redelivered_batches_total",
                "Those that had been pulled before.",
                &tally.redelivered,
            ),
            (
                "sensor_bus_duplicates_total",
                "Those that were in the lake already.",
                &tally.duplicates,
            ),
            (
                "sensor_bus_aside_messages_total",
                "Messages that were no batches.",
                &tally.aside,
            ),
            (
                "sensor_shared_lake_entries_total",
                "Entries committed.",
                &tally.entries,
            ),
            (
                "sensor_shared_lake_failures_total",
                "Attempts to pull or commit that failed.",
                &tally.failures,
            ),
        ] {
            page.counter(name, help, count(counter));
        }
        page.counter(
            "sensor_shared_lake_commits_total",
            "Commits made.",
            self.catalogue.commits(),
        );
        page.counter(
            "sensor_shared_lake_conflicts_total",
            "Commits of others that were first.",
            self.catalogue.conflicts(),
        );
        waiting(&*self.bus, page).await;
    }
}
