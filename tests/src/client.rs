//! gRPC connections, and one small runtime for all of them.

use std::{future::Future, path::Path, sync::OnceLock, time::Duration};

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};

/// The runtime of all clients in this process.
///
/// # Panics
/// If the system gives it no threads.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime for the clients")
    };
    RUNTIME.get_or_init(build)
}

/// Waits for one call, which must come to an end.
///
/// # Errors
/// If it takes too long.
pub fn wait<T>(call: impl Future<Output = T>) -> Result<T> {
    let limit = crate::patience::patience(10);
    runtime()
        .block_on(async { tokio::time::timeout(limit, call).await })
        .context("a gRPC call got no answer")
}

/// A connection to a collector.
///
/// # Errors
/// If nobody answers there.
pub fn connect(address: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(address.to_owned())?.connect_timeout(Duration::from_secs(5));
    wait(endpoint.connect())?.with_context(|| format!("could not connect to {address}"))
}

/// A connection to an agent.
///
/// # Errors
/// If nobody answers there.
pub fn connect_unix(socket: &Path) -> Result<Channel> {
    connect(&format!("unix://{}", socket.display()))
}
