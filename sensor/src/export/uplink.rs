//! Delivery to the collector. One task packs entries for the [`Spool`], a thread keeps that, another task sends what is in it: so nothing that
//! the line or the disk does, or fails to do, holds up what comes from the pipeline.
//!
//! At least once: a batch leaves the spool when the collector says that it is on disk, and what was on the way when
//! the line broke is sent again; the collector knows what it has by number.

mod frames;
mod pack;
mod send;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sensor_proto::v1::{Count, UplinkStatus};
use sensor_trust::{Address, Security, credentials::Place, dial::AddressError};
pub use sensor_trust::{Link, OnConnecting};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Choice, Converter, Hub, Spool,
    spool::{Gauge, Keeper, Keeping, Usage},
};

/// Entries that wait to be packed, where nobody says otherwise.
pub const QUEUE: usize = 16_384;

/// How long the agent's end may be held up by the disk.
const CLOSING: Duration = Duration::from_secs(2);

/// What the uplink needs to know.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// Address of the collector, `https://host:port`, or `http://host:port` on loopback.
    pub collector: String,
    /// As whom to deliver.
    pub security: Security,
    /// Entries that wait to be packed, at most.
    pub queue: usize,
    /// Seed of the jitter between attempts, so that the hosts of a fleet do not all come back at once.
    pub seed: u64,
    /// What leaves.
    pub choice: Choice,
    /// How long the agent's end may be held up to deliver what waits.
    pub flush: Duration,
}

impl UplinkConfig {
    /// A configuration with the usual bounds, for an agent that has not enrolled.
    #[must_use]
    pub fn new(collector: impl Into<String>, seed: u64) -> Self {
        Self {
            collector: collector.into(),
            security: Security::Known {
                place: Place::Enrolled("/var/lib/sensor".into()),
                plain_anywhere: false,
            },
            queue: QUEUE,
            seed,
            choice: Choice::default(),
            flush: Duration::from_secs(1),
        }
    }
}

/// Why there can be no uplink.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// Not an address that can be delivered to.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No thread could be started.
    #[error(
        "cannot start the thread that keeps the spool: {0}; there may be too many processes on this host"
    )]
    Thread(#[source] io::Error),
}

/// Delivers the hub's entries to the collector.
pub struct Uplink {
    config: UplinkConfig,
    address: Address,
    reader: sensor_proto::fanout::Reader<super::Entry>,
    converter: Converter,
    on_connecting: OnConnecting,
    keeper: Keeper,
    keeping: Keeping,
    shared: Arc<Shared>,
}

/// Reads how the uplink is.
#[derive(Clone)]
pub struct UplinkMonitor(Arc<Shared>);

/// What the two tasks share.
struct Shared {
    collector: String,
    spool: Gauge,
    /// The packer is done.
    packed: watch::Sender<bool>,
    link: Mutex<LinkState>,
}

#[derive(Clone, Debug, Default)]
struct LinkState {
    connected: bool,
    last_error: String,
}

impl Uplink {
    /// An uplink that gets what is published from now on, even before it [runs](Self::run). `on_connecting` is told
    /// of each connection before it is attempted; `spool` opens what it delivers from.
    ///
    /// # Errors
    /// If the collector's address is not one, or there can be no thread for the spool.
    pub fn new(
        config: UplinkConfig,
        hub: &Hub,
        converter: Converter,
        spool: impl FnOnce() -> Spool + Send + 'static,
        on_connecting: OnConnecting,
    ) -> Result<Self, UplinkError> {
        let address = config.collector.parse()?;
        let (keeper, keeping) = Keeper::start(spool).map_err(UplinkError::Thread)?;
        let shared = Shared {
            collector: config.collector.clone(),
            spool: keeper.gauge(),
            packed: watch::Sender::new(false),
            link: Mutex::default(),
        };
        let reader = hub.uplink(config.queue, config.choice.clone());
        Ok(Self {
            config,
            address,
            reader,
            converter,
            on_connecting,
            keeper,
            keeping,
            shared: Arc::new(shared),
        })
    }

    /// Reads how this uplink is, while it runs and after.
    #[must_use]
    pub fn monitor(&self) -> UplinkMonitor {
        UplinkMonitor(Arc::clone(&self.shared))
    }

    /// Delivers until the hub is closed and all is delivered, or the time to flush is over.
    pub async fn run(self) {
        let Self {
            config,
            address,
            reader,
            converter,
            on_connecting,
            keeper,
            keeping,
            shared,
        } = self;
        let host = converter.host().to_owned();
        let packer = pack::Packer::new(converter, keeper.clone(), Arc::clone(&shared));
        let packer = tokio::spawn(packer.run(reader));
        let sender = send::Sender {
            address,
            security: config.security.clone(),
            host,
            on_connecting,
            keeper,
            shared: Arc::clone(&shared),
        };
        tokio::select! {
            () = sender.run(config.seed) => {}
            () = async { shared.packed().await; sleep(config.flush).await } => {}
        }
        shared.link().connected = false;
        packer.abort();
        // The thread ends when nobody talks to it any more.
        let _ = packer.await;
        let kept = tokio::task::spawn_blocking(|| keeping.finish());
        match timeout(CLOSING, kept).await {
            Ok(Ok(left)) => config.tell_of(&left),
            _ => tracing::warn!("the spool was not closed within {CLOSING:?}: its disk does not answer"),
        }
    }
}

impl UplinkConfig {
    /// What did not arrive in time.
    fn tell_of(&self, left: &Usage) {
        let Self { collector, flush, .. } = self;
        match (left.batches, &left.place) {
            (0, _) => {}
            (batches, Some(place)) => tracing::info!(
                "{batches} batches did not reach the collector {collector} within {flush:?}; they wait in {} for the next agent",
                place.display()
            ),
            (batches, None) => tracing::warn!(
                "{batches} batches did not reach the collector {collector} within {flush:?} and are lost: there was no disk to keep them on"
            ),
        }
    }
}

impl UplinkMonitor {
    /// How the uplink is.
    #[must_use]
    pub fn status(&self) -> UplinkStatus {
        let usage = self.0.spool.usage();
        let LinkState {
            connected,
            last_error,
        } = self.0.link().clone();
        let shed = usage.shed.iter().map(|(name, count)| Count {
            name: (*name).to_owned(),
            count: *count,
        });
        UplinkStatus {
            collector: self.0.collector.clone(),
            connected,
            batches_acked: usage.acknowledged,
            batches_waiting: usage.batches,
            bytes_waiting: usage.bytes,
            entries_shed: usage.shed_entries(),
            last_error,
            bytes_limit: usage.limit,
            shed: shed.collect(),
            spool: usage
                .place
                .map_or_else(String::new, |place| place.display().to_string()),
            degraded: usage.trouble.unwrap_or_default(),
        }
    }
}

impl Shared {
    fn link(&self) -> MutexGuard<'_, LinkState> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing waits and nothing will come.
    fn is_done(&self) -> bool {
        *self.packed.borrow() && self.spool.usage().batches == 0
    }

    async fn packed(&self) {
        // It cannot fail: the sender lives in `self`.
        let _ = self.packed.subscribe().wait_for(|packed| *packed).await;
    }
}
