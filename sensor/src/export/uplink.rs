//! Delivery to the collector. One task packs entries into the [`Spool`], another sends what is in it: so nothing that
//! the line does, or fails to do, holds up what comes from the pipeline.
//!
//! At least once: a batch leaves the spool when the collector says that it is on disk, and what was on the way when
//! the line broke is sent again; the collector knows what it has by number.

mod frames;
mod pack;
mod send;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sensor_proto::v1::UplinkStatus;
use sensor_trust::{Address, Security, credentials::Place, dial::AddressError};
pub use sensor_trust::{Link, OnConnecting};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use super::{Converter, Hub, Spool, spool::Numbered};

/// Entries that wait to be packed, where nobody says otherwise.
pub const QUEUE: usize = 16_384;

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
}

/// Delivers the hub's entries to the collector.
pub struct Uplink {
    config: UplinkConfig,
    address: Address,
    reader: sensor_proto::fanout::Reader<super::Entry>,
    converter: Converter,
    on_connecting: OnConnecting,
    shared: Arc<Shared>,
}

/// Reads how the uplink is.
#[derive(Clone)]
pub struct UplinkMonitor(Arc<Shared>);

/// What the two tasks share.
struct Shared {
    collector: String,
    spool: Mutex<Box<dyn Spool>>,
    /// Something was appended, or nothing will be any more.
    changed: Notify,
    /// The packer is done.
    packed: watch::Sender<bool>,
    link: Mutex<LinkState>,
}

#[derive(Clone, Debug, Default)]
struct LinkState {
    connected: bool,
    last_error: String,
    /// Entries that will never be delivered, for want of room.
    shed: u64,
}

impl Uplink {
    /// An uplink that gets what is published from now on, even before it [runs](Self::run). `on_connecting` is told
    /// of each connection before it is attempted.
    ///
    /// # Errors
    /// If the collector's address is not one.
    pub fn new(
        config: UplinkConfig,
        hub: &Hub,
        converter: Converter,
        spool: impl Spool + 'static,
        on_connecting: OnConnecting,
    ) -> Result<Self, UplinkError> {
        let address = config.collector.parse()?;
        let shared = Shared {
            collector: config.collector.clone(),
            spool: Mutex::new(Box::new(spool)),
            changed: Notify::new(),
            packed: watch::Sender::new(false),
            link: Mutex::default(),
        };
        let reader = hub.uplink(config.queue);
        Ok(Self {
            config,
            address,
            reader,
            converter,
            on_connecting,
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
            shared,
        } = self;
        let host = converter.host().to_owned();
        let packer = tokio::spawn(pack::Packer::new(converter, Arc::clone(&shared)).run(reader));
        let sender = send::Sender {
            address,
            security: config.security.clone(),
            host,
            on_connecting,
            shared: Arc::clone(&shared),
        };
        tokio::select! {
            () = sender.run(config.seed) => {}
            () = async { shared.packed().await; sleep(config.flush).await } => {}
        }
        packer.abort();
        let left = shared.spool().usage();
        if left.batches > 0 {
            tracing::warn!(
                "{} batches did not reach the collector {} within {:?} and are lost",
                left.batches,
                config.collector,
                config.flush
            );
        }
        shared.link().connected = false;
    }
}

impl UplinkMonitor {
    /// How the uplink is.
    #[must_use]
    pub fn status(&self) -> UplinkStatus {
        let usage = self.0.spool().usage();
        let LinkState {
            connected,
            last_error,
            shed,
        } = self.0.link().clone();
        UplinkStatus {
            collector: self.0.collector.clone(),
            connected,
            batches_acked: usage.acknowledged,
            batches_waiting: usage.batches,
            bytes_waiting: usage.bytes,
            entries_shed: shed,
            last_error,
        }
    }
}

impl Shared {
    fn spool(&self) -> MutexGuard<'_, Box<dyn Spool>> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> MutexGuard<'_, LinkState> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, sequence: u64) -> Option<Numbered> {
        self.spool().next(sequence)
    }

    /// Nothing waits and nothing will come.
    fn is_done(&self) -> bool {
        *self.packed.borrow() && self.spool().usage().batches == 0
    }

    async fn packed(&self) {
        // It cannot fail: the sender lives in `self`.
        let _ = self.packed.subscribe().wait_for(|packed| *packed).await;
    }
}
