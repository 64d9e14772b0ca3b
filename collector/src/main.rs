//! The collector's command line.

use std::{io, net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use collector::{Config, Server};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Accepts Sensor's agents, keeps what they send, and serves it.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listen for agents and consumers until SIGTERM or SIGINT.
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Address to listen on; port 0 lets the kernel choose one.
    #[arg(long, default_value = "127.0.0.1:7443", value_name = "ADDR")]
    listen: SocketAddr,
    /// Directory for the database; made, for its owner only, where it is missing.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// File to write the address to, once it is listened on.
    #[arg(long, value_name = "PATH")]
    port_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Serve(args) = Cli::parse().command;
    let filter = EnvFilter::try_from_env("COLLECTOR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    serve(args).await
}

async fn serve(args: Serve) -> anyhow::Result<()> {
    // Before the address is known to anyone, so that a signal in between is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::bind(&Config {
        listen: args.listen,
        data: args.data,
    })
    .await?;
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
