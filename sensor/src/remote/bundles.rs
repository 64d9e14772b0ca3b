//! Bundles on their way to the collector: from where it has them, in pieces, until it says that it has all and that they are what was
//! offered.

use std::{io::SeekFrom, time::Duration};

use sensor_proto::v1::{PutBundleRequest, control_client::ControlClient};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::mpsc,
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use super::{Remote, journal::Parcel};

/// Bytes of a piece.
const PIECE: usize = 256 << 10;

/// Pieces that are read ahead.
const AHEAD: usize = 2;

/// How often, and after which time, what another connection is in the midst of is tried again: within this the collector notices that it is gone.
const RETRIES: usize = 8;
const RETRY: Duration = Duration::from_secs(5);

impl Remote {
    /// Sends what is to be sent. What cannot be sent now is tried with the next connection.
    pub(super) async fn send_bundles(&self, channel: Channel) {
        let _alone = self.sending.lock().await;
        let journal = self.journal.clone();
        let parcels = tokio::task::spawn_blocking(move || journal.parcels()).await;
        let Ok(Ok(parcels)) = parcels else { return };
        for parcel in parcels {
            let mut retries = 0..RETRIES;
            let sent = loop {
                let sent = send(ControlClient::new(channel.clone()), &parcel).await;
                let is_busy = matches!(&sent, Err(status) if status.code() == Code::Aborted);
                if !is_busy || retries.next().is_none() {
                    break sent;
                }
                // The collector has not noticed yet that the last connection is gone.
                sleep(RETRY).await;
            };
            match sent {
                Ok(()) => tracing::info!("the bundle {} is at the collector", parcel.path),
                Err(status) if is_final(&status) => {
                    tracing::warn!(
                        "the bundle {} is not sent: {}; it stays here",
                        parcel.path,
                        status.message()
                    );
                }
                Err(status) => {
                    tracing::info!("the bundle {} is not sent yet: {}", parcel.path, status.message());
                    return;
                }
            }
            let journal = self.journal.clone();
            let _ = tokio::task::spawn_blocking(move || journal.posted(&parcel.offer.sha256)).await;
        }
    }
}

/// Whether it would be the same the next time.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::NotFound
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::DataLoss
            | Code::Unimplemented
    )
}

async fn send(mut client: ControlClient<Channel>, parcel: &Parcel) -> Result<(), Status> {
    let mut file = File::open(&parcel.path)
        .await
        .map_err(|error| Status::not_found(error.to_string()))?;
    let offset = client
        .offer_bundle(parcel.offer.clone())
        .await?
        .into_inner()
        .received;
    file.seek(SeekFrom::Start(offset))
        .await
        .map_err(|error| Status::not_found(error.to_string()))?;
    let (pieces, stream) = mpsc::channel(AHEAD);
    let reading = tokio::spawn(read(file, offset, parcel.offer.sha256.clone(), pieces));
    let put = client.put_bundle(ReceiverStream::new(stream)).await;
    reading.abort();
    put.map(|_| ())
}

async fn read(mut file: File, mut offset: u64, sha256: String, pieces: mpsc::Sender<PutBundleRequest>) {
    let mut sha256 = Some(sha256);
    loop {
        let mut data = vec![0; PIECE];
        // What cannot be read is missing at the collector, which will say so.
        let length = file.read(&mut data).await.unwrap_or_default();
        data.truncate(length);
        let piece = PutBundleRequest {
            sha256: sha256.take().unwrap_or_default(),
            offset,
            data,
        };
        let is_last = length == 0;
        if pieces.send(piece).await.is_err() || is_last {
            return;
        }
        offset += length as u64;
    }
}
