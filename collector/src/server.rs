//! Composes the collector, and stops it in order.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration};

use sensor_proto::{
    DESCRIPTORS, MESSAGE_BYTES_MAX,
    v1::{
        collector_server::CollectorServer, control_server::ControlServer, ingest_server::IngestServer,
        response_server::ResponseServer, trust_server::TrustServer,
    },
};
use tokio::{net::TcpListener, sync::watch};
use tonic::service::Routes;

use crate::{
    admin::{self, Admin},
    bus::BusError,
    consumers::CollectorService,
    control::{ControlService, Desk, ResponseService},
    fleet::{Fleet, watch as fleet_watch},
    ingest::{IngestService, stopped},
    lake::{
        keeper::{Keeper, Keeping, StartError},
        lease::Leases,
        shared::PlaceError,
    },
    prevalence::Facts,
    query::{Engine, Limits, QueryError},
    storage::Storage,
    store::{Reader, Store, StoreError},
    trust::{AccessLayer, Owners, Trust, TrustError, TrustService, Trusting, admin_socket, door, keep_fresh},
    writer::{Published, Writer},
};

/// Streams of one connection at once. Each may be in the midst of a message of [`MESSAGE_BYTES_MAX`]: 128 MiB together. Agents have a stream or
/// two on each of their connections.
const STREAMS: u32 = 16;

/// Longest message about who may come: strangers send them.
const TRUST_BYTES_MAX: usize = 64 << 10;

/// Longest question about health, which strangers ask: the name of a service.
const HEALTH_BYTES_MAX: usize = 1 << 10;

/// Longest question of those who read: a filter may have some lists of 256 patterns of 4 KiB.
const QUESTION_BYTES_MAX: usize = 4 << 20;

/// Longest question about what is offered.
const REFLECTION_BYTES_MAX: usize = 64 << 10;

/// How long connections may take to end when the collector stops; then they are cut.
const DRAIN: Duration = Duration::from_millis(1500);

/// A peer that is silent is asked whether it is there after this time, and given up after the next.
///
/// Together with [`GRACE`](crate::fleet::GRACE) that is less than the 30 s after which an agent is missed.
const KEEPALIVE: Duration = Duration::from_secs(8);

/// Where the collector listens and keeps what it stores.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 lets the kernel choose one.
    pub listen: SocketAddr,
    /// Directory for database and lake; made where it is missing.
    pub data: PathBuf,
    /// Who may connect.
    pub trust: Trust,
    /// Address for metrics and health; none for no such.
    pub admin: Option<SocketAddr>,
    /// What is kept, and for how long.
    pub keeping: Keeping,
    /// What questions may take.
    pub limits: Limits,
}

impl Config {
    /// With everything else as it is where nobody says otherwise.
    #[must_use]
    pub fn new(listen: SocketAddr, data: PathBuf, trust: Trust) -> Self {
        Self {
            listen,
            data,
            trust,
            admin: None,
            keeping: Keeping::default(),
            limits: Limits::default(),
        }
    }
}

/// Why the collector cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}; stop what listens there, or choose another with {option}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The option that names it.
        option: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// The data directory or the database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be told who may come.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No thread could be started.
    #[error("cannot start the thread that writes: {0}; there may be too many processes on this host")]
    Thread(io::Error),
    /// The lake cannot be kept.
    #[error(transparent)]
    Lake(#[from] StartError),
    /// The bus cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The lake that several collectors share cannot be used.
    #[error(transparent)]
    Shared(#[from] PlaceError),
    /// Questions cannot be answered.
    #[error("cannot answer queries: {0}")]
    Query(#[from] QueryError),
    /// The descriptors of the services do not fit the services: a defect of the build.
    #[error("cannot offer gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Serving failed.
    #[error("cannot serve: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// A collector that listens, but does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    owners: Owners,
    address: SocketAddr,
    writer: Writer,
    thread: thread::JoinHandle<()>,
    published: Published,
    leases: Leases,
    data: PathBuf,
    keeper: Keeper,
    engine: Engine,
    admin: Option<(TcpListener, SocketAddr)>,
    trusting: Trusting,
    facts: Facts,
}

impl Server {
    /// Opens the store and the address. Agents may connect from here on; they are answered by [`run`](Self::run).
    ///
    /// # Errors
    /// If the address is taken, or the data directory cannot be used.
    pub async fn bind(config: &Config) -> Result<Self, ServerError> {
        let (listener, address) = listen(config.listen, "--listen").await?;
        let admin = listen_for_admin(config.admin).await?;
        // It holds the lock of the directory, in which the others are.
        let store = Store::open(&config.data)?;
        let trusting = Trusting::open(&config.data, &config.trust, address)?;
        let published = Published::default();
        let (writer, thread) = Writer::start(store, published.clone()).map_err(ServerError::Thread)?;
        let leases = Leases::default();
        let reader = Reader::open(&config.data)?;
        let keeper = Keeper::start(
            config.data.clone(),
            reader,
            writer.clone(),
            leases.clone(),
            config.keeping,
        )?;
        let engine = Engine::new(&config.data, leases.clone(), Some(writer.clone()), config.limits)?;
        Ok(Self {
            owners: admin_socket(&config.data).map_err(TrustError::from)?,
            admin,
            keeper,
            engine,
            listener,
            address,
            writer,
            thread,
            published,
            leases,
            trusting,
            facts: Facts::in_directory(&config.data)?,
            data: config.data.clone(),
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

    /// Serves until `stop` is ready. Then agents get the acknowledgements they have earned, consumers what
    /// waits for them, and whoever takes longer than 1.5 s is cut off.
    ///
    /// # Errors
    /// If serving fails.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self {
            listener,
            owners,
            writer,
            thread,
            published,
            leases,
            trusting,
            facts,
            data,
            keeper,
            engine,
            admin,
            ..
        } = self;
        let (stopping, watcher) = watch::channel(false);
        let fleet = Fleet::default();
        let watching = tokio::spawn(fleet_watch::run(fleet.clone(), writer.clone(), watcher.clone()));
        let administration = Admin {
            writer: writer.clone(),
            fleet: fleet.clone(),
            published: published.clone(),
            keeper: keeper.tally(),
            data: data.clone(),
        };
        let administering = admin.map(|(listener, _)| {
            tokio::spawn(admin::serve(Arc::new(administration), listener, watcher.clone()))
        });
        let desk = Desk::new(
            trusting.register.database.clone(),
            data.join("bundles"),
            facts,
            watcher.clone(),
        );
        let collector = CollectorService::new(
            writer.clone(),
            fleet.clone(),
            published.clone(),
            engine.clone(),
            leases,
            data.clone(),
        );
        let ingest = IngestService {
            storage: Storage::Here(writer),
            fleet,
            stopping: watcher,
        };
        let routes = services(ingest, Some(collector), trusting.clone(), desk.clone()).await?;
        let doors = Doors {
            listener,
            owners,
            trusting,
            desk,
        };
        doors
            .serve(routes, &stopping, stop, || published.entries.close())
            .await?;
        engine.release();
        let _ = watching.await;
        if let Some(administering) = administering {
            let _ = administering.await;
        }
        // What is not a run yet is as durable as it will be; what it is at can take a moment.
        let _ = tokio::task::spawn_blocking(|| keeper.stop()).await;
        // It ends when the last connection has let go of it; what was accepted is committed then.
        if tokio::time::timeout(DRAIN / 4, tokio::task::spawn_blocking(|| thread.join()))
            .await
            .is_err()
        {
            tracing::warn!("the writer still waits for connections; what was acknowledged is on disk");
        }
        Ok(())
    }
}

/// Where agents and people come in, and what looks after them.
pub(crate) struct Doors {
    pub(crate) listener: TcpListener,
    pub(crate) owners: Owners,
    pub(crate) trusting: Trusting,
    pub(crate) desk: Desk,
}

impl Doors {
    /// Serves until `stop` is ready, then says so to `stopping`, does `ending`, and gives connections a moment to end.
    pub(crate) async fn serve(
        self,
        routes: Routes,
        stopping: &watch::Sender<bool>,
        stop: impl Future<Output = ()>,
        ending: impl FnOnce(),
    ) -> Result<(), ServerError> {
        let Self {
            listener,
            owners,
            trusting,
            desk,
        } = self;
        let fresh = tokio::spawn(keep_fresh(trusting.clone()));
        let house = tokio::spawn(desk.keep_house());
        let end = |mut watcher: watch::Receiver<bool>| async move { stopped(&mut watcher).await };
        let network = transport()
            .layer(AccessLayer)
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(door::open(listener, trusting), end(stopping.subscribe()));
        let local = transport()
            .layer(AccessLayer)
            .add_routes(routes)
            .serve_with_incoming_shutdown(owners, end(stopping.subscribe()));
        let mut served = Box::pin(async { tokio::try_join!(network, local).map(|_| ()) });
        let early = tokio::select! {
            result = &mut served => Some(result),
            () = stop => None,
        };
        stopping.send_replace(true);
        ending();
        match early {
            Some(result) => result?,
            None => match tokio::time::timeout(DRAIN, &mut served).await {
                Ok(result) => result?,
                Err(_) => tracing::warn!("connections did not end within {DRAIN:?}; they are cut off"),
            },
        }
        fresh.abort();
        house.abort();
        Ok(())
    }
}

/// Listens for those who look after the collector, where they are to be let in, and says where.
pub(crate) async fn listen_for_admin(
    address: Option<SocketAddr>,
) -> Result<Option<(TcpListener, SocketAddr)>, ServerError> {
    match address {
        Some(address) => listen(address, "--admin").await.map(Some),
        None => Ok(None),
    }
}

/// Listens, and says where.
pub(crate) async fn listen(
    address: SocketAddr,
    option: &'static str,
) -> Result<(TcpListener, SocketAddr), ServerError> {
    let refused = |cause| ServerError::Listen {
        address,
        option,
        cause,
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

fn transport() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(Some(STREAMS))
}

/// All that can be asked of a collector; without what is stored where it stores nothing.
pub(crate) async fn services(
    ingest: IngestService,
    collector: Option<CollectorService>,
    trusting: Trusting,
    desk: Desk,
) -> Result<Routes, ServerError> {
    let ingest = IngestServer::new(ingest).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let trust = TrustServer::new(TrustService(trusting)).max_decoding_message_size(TRUST_BYTES_MAX);
    let control =
        ControlServer::new(ControlService(desk.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let response = ResponseServer::new(ResponseService(desk))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);

    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<IngestServer<IngestService>>().await;
    let stores = collector.is_some();
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        let builder = if stores {
            builder.with_service_name("sensor.v1.Collector")
        } else {
            builder
        };
        builder
            .with_service_name("sensor.v1.Ingest")
            .with_service_name("sensor.v1.Trust")
            .with_service_name("sensor.v1.Control")
            .with_service_name("sensor.v1.Response")
            .with_service_name("grpc.health.v1.Health")
    };
    let mut routes = Routes::new(ingest);
    if let Some(collector) = collector {
        health.set_serving::<CollectorServer<CollectorService>>().await;
        let collector = CollectorServer::new(collector)
            .max_decoding_message_size(QUESTION_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        routes = routes.add_service(collector);
    }
    Ok(routes
        .add_service(trust)
        .add_service(control)
        .add_service(response)
        .add_service(health_service.max_decoding_message_size(HEALTH_BYTES_MAX))
        .add_service(
            reflection()
                .build_v1()?
                .max_decoding_message_size(REFLECTION_BYTES_MAX),
        )
        .add_service(
            reflection()
                .build_v1alpha()?
                .max_decoding_message_size(REFLECTION_BYTES_MAX),
        ))
}
