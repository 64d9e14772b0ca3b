//! An agent's stream to the collector.

use sensor_proto::{
    PROTOCOL,
    v1::{
        DeliverRequest, DeliverResponse, Hello, Welcome, deliver_request, deliver_response::Frame,
        ingest_client::IngestClient,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// A stream that was welcomed.
pub(crate) struct Line {
    frames: mpsc::Sender<DeliverRequest>,
    pub(crate) answers: Streaming<DeliverResponse>,
    pub(crate) welcome: Welcome,
}

impl Line {
    pub(crate) async fn open(url: String, host: String) -> anyhow::Result<Self> {
        let mut client = IngestClient::connect(url).await?;
        let (frames, stream) = mpsc::channel(64);
        let hello = Hello {
            protocol: PROTOCOL,
            host,
            epoch: 7,
            agent_version: "0.1.0".to_owned(),
            ..Hello::default()
        };
        frames.send(frame(deliver_request::Frame::Hello(hello))).await?;
        let mut answers = client.deliver(ReceiverStream::new(stream)).await?.into_inner();
        let welcome = answers.message().await?.and_then(|answer| answer.frame);
        let Some(Frame::Welcome(welcome)) = welcome else {
            anyhow::bail!("no welcome")
        };
        Ok(Self {
            frames,
            answers,
            welcome,
        })
    }

    /// Sends an encoded batch.
    pub(crate) async fn send(&self, batch: Vec<u8>) -> anyhow::Result<()> {
        Ok(self
            .frames
            .send(frame(deliver_request::Frame::Batch(batch.into())))
            .await?)
    }
}

fn frame(frame: deliver_request::Frame) -> DeliverRequest {
    DeliverRequest { frame: Some(frame) }
}
