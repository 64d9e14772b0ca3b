//! A collector within the test, over TLS, and a program that enrols.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use collector::{
    Config, Server,
    trust::{SOCKET, TlsConfig, Trust},
};
use sensor_proto::v1::{InviteRequest, RevokeRequest, trust_client::TrustClient};
use sensor_trust::{Certificate, OnConnecting, Security, credentials::Place};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::sleep};
use tonic::transport::{Channel, Endpoint};

/// What should happen has happened long before; it is only there so that a defect does not hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Collector {
    pub data: TempDir,
    address: SocketAddr,
    running: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Collector {
    pub async fn start(lifetime: Duration) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let listen = "127.0.0.1:0".parse().expect("an address");
        let trust = Trust::Tls(TlsConfig {
            lifetime,
            ..TlsConfig::default()
        });
        let config = Config::new(listen, data.path().to_owned(), trust);
        let server = Server::bind(&config).await.expect("binds");
        let address = server.address();
        let running = tokio::spawn(async move { server.run(std::future::pending()).await.expect("serves") });
        Self {
            data,
            address,
            running,
        }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    async fn owner(&self) -> TrustClient<Channel> {
        TrustClient::new(self.channel().await)
    }

    /// As whoever owns the data directory.
    pub async fn channel(&self) -> Channel {
        let socket = format!("unix://{}", self.data.path().join(SOCKET).display());
        let until = Instant::now() + PATIENCE;
        loop {
            match Endpoint::from_shared(socket.clone())
                .expect("an address")
                .connect()
                .await
            {
                Err(_) if Instant::now() < until => sleep(Duration::from_millis(10)).await,
                channel => break channel.expect("answers"),
            }
        }
    }

    pub async fn token(&self, role: &str, name: &str) -> String {
        let request = InviteRequest {
            role: role.into(),
            name: name.into(),
            seconds: 60,
            lift_revocation: false,
        };
        self.owner()
            .await
            .invite(request)
            .await
            .expect("invites")
            .into_inner()
            .token
    }

    pub async fn revoke(&self, name: &str) {
        let request = RevokeRequest {
            role: "agent".into(),
            name: name.into(),
            why: String::new(),
        };
        self.owner().await.revoke(request).await.expect("revokes");
    }
}

/// What `sensor enroll` printed, or said.
pub async fn program(collector: &Collector, token: &str, state: &Path) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sensor"));
    command
        .args(["enroll", "--collector", &collector.url(), "--state"])
        .arg(state);
    command.env("SENSOR_TOKEN", token).env(
        "SENSOR_CONFIG",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/sensor.toml"),
    );
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("runs")
        .expect("starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

pub fn security(state: &Path) -> Security {
    Security::Known {
        place: Place::Enrolled(state.to_owned()),
        plain_anywhere: false,
    }
}

pub fn certificate(state: &Path) -> Certificate {
    Place::Enrolled(state.to_owned())
        .load()
        .expect("is enrolled")
        .certificate
}

pub fn silent() -> OnConnecting {
    Arc::new(|_| {})
}
