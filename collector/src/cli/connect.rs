//! The way to a running collector.

use anyhow::Context as _;
use sensor_proto::{MESSAGE_BYTES_MAX, v1::collector_client::CollectorClient};
use tonic::transport::{Channel, Endpoint};

/// Where the collector is that is asked.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Connect {
    /// The collector.
    #[arg(
        long,
        env = "SENSOR_COLLECTOR",
        default_value = "http://127.0.0.1:7443",
        value_name = "URL"
    )]
    pub(crate) collector: String,
}

impl Connect {
    /// Connects.
    pub(crate) async fn client(&self) -> anyhow::Result<CollectorClient<Channel>> {
        let endpoint = Endpoint::from_shared(self.collector.clone()).with_context(|| {
            format!(
                "{:?} is no address; one looks like http://127.0.0.1:7443",
                self.collector
            )
        })?;
        let channel = endpoint.connect().await.with_context(|| {
            format!(
                "no collector answers at {}; name it with --collector",
                self.collector
            )
        })?;
        Ok(CollectorClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}
