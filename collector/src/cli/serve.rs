//! `collector serve`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::bus::{BusArgs, Role};
use crate::{
    Config, Server,
    lake::{keeper::Keeping, shared::steward},
    loader::Gathering,
    query::Limits,
    roles::{IngestRole, WriteRole},
    trust::{OwnFiles, TlsConfig, Trust},
};

/// Listen for agents and consumers until SIGTERM or SIGINT.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on; port 0 lets the kernel choose one.
    #[arg(long, default_value = "127.0.0.1:7443", value_name = "ADDR")]
    listen: SocketAddr,
    /// Directory for databases and lake; made, for its owner only, where it is missing. `--role write` needs none.
    #[arg(long, value_name = "DIR", env = "COLLECTOR_DATA")]
    data: Option<PathBuf>,
    /// File to write the address to, once it is listened on.
    #[arg(long, value_name = "PATH")]
    port_file: Option<PathBuf>,
    /// Address for metrics and health, over plain HTTP: /metrics, /healthz, /readyz.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Days for which events are kept after their arrival.
    #[arg(long, value_name = "DAYS")]
    keep_days: Option<u32>,
    /// Gibibytes that the lake may have; the oldest events go when it has more.
    #[arg(long, value_name = "GIB")]
    keep_gib: Option<u64>,
    /// Seconds after which events become files of the lake, however few they are.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    fresh_seconds: u64,
    /// Seconds that a query may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    query_seconds: u64,
    /// Mebibytes of memory that all queries together may have for what they sort, group and join.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    query_mib: u64,
    /// A name or address under which agents find this collector, for its certificate, beside those of this host; may be given several times.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// How long certificates are valid, such as 30d; they renew themselves after two thirds of it.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime_serde::re::humantime::parse_duration)]
    lifetime: Duration,
    /// Certificates of an authority of your own, PEM: the collector's certificate and those of all who come are of it.
    #[arg(long, value_name = "FILE", requires = "cert")]
    ca: Option<PathBuf>,
    /// Key of that authority, to give certificates by `collector enroll`; without it, you give them.
    #[arg(long, value_name = "FILE", requires = "ca")]
    ca_key: Option<PathBuf>,
    /// The collector's certificate, PEM, with others between it and the authority behind it.
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"])]
    cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Serve without TLS, to this host only: whoever is on it may deliver and read.
    #[arg(long, conflicts_with_all = ["names", "ca", "cert"])]
    insecure: bool,
    /// Whether it is one of several.
    #[command(flatten)]
    bus: BusArgs,
}

impl ServeArgs {
    fn config(&self) -> anyhow::Result<Config> {
        let data = self.data.clone();
        let data = data.context("where is what it keeps? Name a directory with --data")?;
        let mut config = Config::new(self.listen, data, self.trust());
        config.keeping = self.keeping();
        config.admin = self.admin;
        config.limits = self.limits();
        Ok(config)
    }

    fn limits(&self) -> Limits {
        Limits {
            time: Duration::from_secs(self.query_seconds),
            memory: usize::try_from(self.query_mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX),
            ..Limits::default()
        }
    }

    fn keeping(&self) -> Keeping {
        Keeping {
            fresh_for: Duration::from_secs(self.fresh_seconds),
            days: self.keep_days,
            bytes: self.keep_gib.map(|gib| gib.saturating_mul(1 << 30)),
        }
    }

    fn trust(&self) -> Trust {
        if self.insecure {
            return Trust::Insecure;
        }
        let own = match (&self.ca, &self.cert, &self.key) {
            (Some(authority), Some(certificate), Some(key)) => Some(OwnFiles {
                authority: authority.clone(),
                authority_key: self.ca_key.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => None,
        };
        Trust::Tls(TlsConfig {
            names: self.names.clone(),
            lifetime: self.lifetime.max(Duration::from_secs(1)),
            own,
        })
    }
}

/// Serves until it is told to end.
///
/// # Errors
/// If it cannot.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    // Before the address is known to anyone, so that a signal in between is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    use_all_descriptors();
    match args.bus.shared()? {
        None => {
            let server = Server::bind(&args.config()?).await?;
            args.announce(Some(server.address()), server.admin())?;
            server.run(stop).await?;
        }
        Some(shared) if args.bus.role == Role::Ingest => {
            let ingest = IngestRole::bind(&args.config()?, &shared).await?;
            args.announce(Some(ingest.address()), ingest.admin())?;
            ingest.run(stop).await?;
        }
        Some(shared) => {
            let write = WriteRole::open(args.admin, &shared, args.gathering(), args.retention()).await?;
            args.announce(None, write.admin())?;
            write.run(stop).await;
        }
    }
    Ok(())
}

impl ServeArgs {
    /// Says where it can be reached, when it can.
    fn announce(&self, address: Option<SocketAddr>, admin: Option<SocketAddr>) -> anyhow::Result<()> {
        if let Some(admin) = admin {
            tracing::info!("metrics and health at http://{admin}");
        }
        let Some(address) = address else {
            tracing::info!("taking what is on the bus to the lake");
            return Ok(());
        };
        let without = if self.insecure { ", without TLS" } else { "" };
        tracing::info!("listening on {address}{without}");
        match &self.port_file {
            Some(path) => write_whole(path, &address.to_string()),
            None => Ok(()),
        }
    }

    fn gathering(&self) -> Gathering {
        Gathering {
            within: Duration::from_secs(self.fresh_seconds),
            ..Gathering::default()
        }
    }

    fn retention(&self) -> steward::Keeping {
        steward::Keeping {
            days: self.keep_days,
            bytes: self.keep_gib.map(|gib| gib.saturating_mul(1 << 30)),
        }
    }
}

/// A connection is a descriptor, and the usual limit of 1,024 is for programs that use `select`.
fn use_all_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Then with what there is.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Whoever waits for the file never sees half of it.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| {
            format!(
                "cannot write the address to {}; check --port-file",
                path.display()
            )
        })
}
