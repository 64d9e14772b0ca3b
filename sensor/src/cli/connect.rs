//! The way to an agent or a collector, for the commands that ask one.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use hyper_util::rt::TokioIo;
use sensor_trust::{Address, OnConnecting, Security, credentials::Place, dial};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::export::local::SOCKET;

/// Which agent to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct SocketArgs {
    /// Socket of the agent.
    #[arg(long, value_name = "PATH", default_value = SOCKET, env = "SENSOR_SOCKET", global = true)]
    pub socket: PathBuf,
}

impl SocketArgs {
    /// Connects to the agent.
    ///
    /// # Errors
    /// If none answers.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        let path = self.socket.clone();
        // Asked first by itself: tonic's error would not say what the system said.
        let first = UnixStream::connect(&path)
            .await
            .map_err(|error| self.unanswered(&error))?;
        drop(first);
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is only there because HTTP wants one.
        let endpoint = Endpoint::from_static("http://agent.local");
        endpoint.connect_with_connector(connector).await.with_context(|| {
            format!(
                "something listens on {}, but it is not an agent",
                self.socket.display()
            )
        })
    }

    fn unanswered(&self, error: &io::Error) -> anyhow::Error {
        let path = self.socket.display();
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                anyhow!("may not ask the agent on {path}: {error}; use sudo, or join the socket's group")
            }
            _ => anyhow!(
                "no agent answers on {path}: {error}; start it with `sensor run`, or name its socket with --socket"
            ),
        }
    }
}

/// Connects to a collector, as whom the certificate in the directory `identity` is of; without TLS if the address says so.
///
/// # Errors
/// If the address makes no sense, nobody answers there, or one of the two does not want the other.
pub async fn collector(address: &str, identity: &Path) -> anyhow::Result<Channel> {
    let collector: Address = address.parse()?;
    let security = Security::Known {
        place: Place::Enrolled(identity.to_owned()),
        plain_anywhere: false,
    };
    let nobody: OnConnecting = Arc::new(|_| {});
    dial(&collector, &security, &nobody).await.with_context(|| {
        format!(
            "no way to the collector {address}; start it with `collector serve`, or name it with --collector"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_absent_agent_is_named_with_what_to_do() {
        let home = tempfile::tempdir().expect("a directory");
        let socket = home.path().join("sensor.sock");
        let error = SocketArgs {
            socket: socket.clone(),
        }
        .connect()
        .await
        .expect_err("nobody is there")
        .to_string();
        let expected = format!(
            "no agent answers on {}: No such file or directory (os error 2); start it with `sensor run`, or name its \
             socket with --socket",
            socket.display()
        );
        assert_eq!(error, expected);
    }

    #[tokio::test]
    async fn an_absent_collector_is_named_with_what_to_do() {
        // Nothing listens on port 1 of this address; if something does, it is no collector of ours.
        let error = collector("http://127.0.0.1:1", Path::new("/nonexistent"))
            .await
            .expect_err("nobody is there")
            .to_string();
        assert!(
            error.starts_with("no way to the collector http://127.0.0.1:1; start it"),
            "{error}"
        );
    }
}
