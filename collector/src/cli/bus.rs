//! Options of a collector that is a part of one: its role, the bus, the lake.

use std::path::PathBuf;

use anyhow::bail;

use crate::{bus::nats, roles::Shared};

/// What a collector does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Everything by itself, in its data directory.
    #[default]
    All,
    /// Take what agents deliver, to a bus.
    Ingest,
    /// Take what is on the bus, to a lake.
    Write,
}

/// The bus and the lake.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Beyond one machine")]
pub struct BusArgs {
    /// What this collector does; `ingest` and `write` need --bus and --lake.
    #[arg(long, value_enum, default_value = "all")]
    pub(super) role: Role,
    /// The bus: URLs of NATS servers with JetStream, with commas between them, such as nats://10.0.0.5:4222.
    #[arg(long, value_name = "URLS", env = "COLLECTOR_BUS", hide_env_values = true)]
    bus: Option<String>,
    /// File of credentials for the bus, as `nsc` writes it.
    #[arg(long, value_name = "FILE", requires = "bus")]
    bus_credentials: Option<PathBuf>,
    /// Certificates of the authority of the bus, PEM, beside those that this host trusts.
    #[arg(long, value_name = "FILE", requires = "bus")]
    bus_ca: Option<PathBuf>,
    /// Certificate to show to the bus, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["bus", "bus_key"])]
    bus_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "bus_cert")]
    bus_key: Option<PathBuf>,
    /// Name of the stream; made where it is missing.
    #[arg(long, value_name = "NAME", default_value = "SENSOR")]
    bus_stream: String,
    /// Servers that have a copy of each batch, where the stream is made.
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    bus_replicas: usize,
    /// Gibibytes that may wait on the bus, where the stream is made; what is over it stays with agents.
    #[arg(long, value_name = "GIB", default_value_t = 8)]
    bus_gib: u64,
    /// The lake: s3://BUCKET/PREFIX, with the usual AWS_ variables, or file:///DIRECTORY.
    #[arg(long, value_name = "URL", env = "COLLECTOR_LAKE")]
    lake: Option<String>,
}

impl BusArgs {
    /// What is shared with others; none for a collector that does everything by itself.
    pub(super) fn shared(&self) -> anyhow::Result<Option<Shared>> {
        let (bus, lake) = match (self.role, &self.bus, &self.lake) {
            (Role::All, None, None) => return Ok(None),
            (Role::All, ..) => bail!(
                "--bus and --lake are for collectors that do one thing; add --role ingest or --role write, and run some of each"
            ),
            (_, Some(bus), Some(lake)) => (bus.clone(), lake.clone()),
            _ => bail!(
                "--role ingest and --role write need --bus nats://HOST:4222 and --lake s3://BUCKET/PREFIX, the same for all"
            ),
        };
        Ok(Some(Shared {
            bus: nats::Config {
                urls: bus,
                credentials: self.bus_credentials.clone(),
                authority: self.bus_ca.clone(),
                identity: self.bus_cert.clone().zip(self.bus_key.clone()),
                stream: self.bus_stream.clone(),
                replicas: self.bus_replicas,
                bytes: self.bus_gib.saturating_mul(1 << 30),
            },
            lake,
        }))
    }
}
