//! `collector serve`: the collector itself.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use collector::{Config, Server, lake::keeper::Keeping};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Address to listen on; port 0 lets the kernel choose one.
    #[arg(long, default_value = "127.0.0.1:7443", value_name = "ADDR")]
    listen: SocketAddr,
    /// Directory for database and lake; made, for its owner only, where it is missing.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
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
}

pub(crate) async fn run(args: Serve) -> anyhow::Result<()> {
    // Before the address is known to anyone, so that a signal in between is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut config = Config::new(args.listen, args.data);
    config.keeping = Keeping {
        fresh_for: Duration::from_secs(args.fresh_seconds),
        days: args.keep_days,
        bytes: args.keep_gib.map(|gib| gib.saturating_mul(1 << 30)),
    };
    config.admin = args.admin;
    let server = Server::bind(&config).await?;
    if let Some(address) = server.admin() {
        tracing::info!("metrics and health at http://{address}");
    }
    tracing::info!("listening on {}", server.address());
    if let Some(path) = &args.port_file {
        write_whole(path, &server.address().to_string())?;
    }
    server
        .run(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
        })
        .await?;
    Ok(())
}

/// Whoever waits for the file never sees half of it.
fn write_whole(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    let mut partial = path.clone().into_os_string();
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
