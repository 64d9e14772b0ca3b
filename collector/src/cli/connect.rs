//! The way to a running collector: the socket in its data directory for those who own it, or the network for those who have a
//! certificate.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use hyper_util::rt::TokioIo;
use sensor_proto::{MESSAGE_BYTES_MAX, text::is_harmful, v1::collector_client::CollectorClient};
use sensor_trust::{Address, Security, credentials, dial};
use tokio::net::UnixStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::trust::SOCKET;

/// Which collector to ask, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Data directory of a collector that runs on this host; for root and whoever it runs as.
    #[arg(long, value_name = "DIR", env = "COLLECTOR_DATA")]
    data: Option<PathBuf>,
    /// Ask this collector over the network instead, https://HOST:PORT.
    #[arg(long, value_name = "URL", env = "SENSOR_COLLECTOR")]
    collector: Option<String>,
    /// Directory of your certificate, as `sensor enroll --identity` made it.
    #[arg(long, value_name = "DIR", env = "SENSOR_IDENTITY")]
    identity: Option<PathBuf>,
}

impl Place {
    /// Connects.
    ///
    /// # Errors
    /// If no collector answers there, or it does not want us.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        match (&self.collector, &self.identity, &self.data) {
            (_, _, Some(data)) => local(data.join(SOCKET)).await,
            (Some(collector), Some(identity), _) => remote(collector, identity.clone()).await,
            // Without TLS nobody shows who they are.
            (Some(collector), None, _) if collector.starts_with("http://") => {
                remote(collector, PathBuf::new()).await
            }
            (Some(_), None, _) => bail!("--collector needs --identity, the directory of your certificate"),
            _ => bail!(
                "which collector? Name its data directory with --data, or its address with --collector and --identity"
            ),
        }
    }

    /// The same, to ask about what is stored.
    pub(super) async fn client(&self) -> anyhow::Result<CollectorClient<Channel>> {
        let client = CollectorClient::new(self.connect().await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// The data directory, if no collector answers there.
    pub(super) async fn unattended(&self) -> Option<&Path> {
        let data = self.data.as_deref()?;
        match UnixStream::connect(data.join(SOCKET)).await {
            Ok(_) => None,
            Err(_) => Some(data),
        }
    }
}

async fn remote(collector: &str, identity: PathBuf) -> anyhow::Result<Channel> {
    let address: Address = collector.parse()?;
    let security = Security::Known {
        place: credentials::Place::Enrolled(identity),
        plain_anywhere: false,
    };
    let channel = dial(
        &address,
        &security,
        &(Arc::new(|_| {}) as sensor_trust::OnConnecting),
    )
    .await;
    channel.with_context(|| format!("no way to the collector {address}"))
}

async fn local(path: PathBuf) -> anyhow::Result<Channel> {
    let stream = UnixStream::connect(&path).await.with_context(|| {
        format!(
            "no collector answers on {}; is it running with this --data, and are you who it runs as, or root?",
            path.display()
        )
    })?;
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = once.take();
        async move { stream.ok_or_else(|| std::io::Error::other("the connection has ended")) }
    });
    // The address is only there because HTTP wants one.
    let endpoint = Endpoint::from_static("http://collector.sensor");
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// What the collector said, for a terminal.
#[must_use]
pub fn said(status: &Status) -> anyhow::Error {
    anyhow::anyhow!("{}", harmless(status.message()))
}

/// Text of others without what would make a terminal do something.
#[must_use]
pub fn harmless(text: &str) -> String {
    let shown = |char: char| match char {
        '\n' => ' ',
        char if is_harmful(char) => '\u{fffd}',
        char => char,
    };
    text.chars().map(shown).collect()
}
