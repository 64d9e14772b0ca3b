//! Bundles on their way to the collector: from where it has them, in pieces, until it says that it has all and that they are what was
//! offered.

use std::{
    io::{self, SeekFrom},
    time::Duration,
};

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

/// How often a bundle is begun again of which the collector has thrown away what came, because it was not what was offered.
const AGAIN: usize = 3;

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
            let mut attempts = Attempts::default();
            let sent = loop {
                let sent = send(ControlClient::new(channel.clone()), &parcel).await;
                match sent.as_ref().map_err(|status| attempts.pause_after(status)) {
                    Err(Some(pause)) => sleep(pause).await,
                    _ => break sent,
                }
            };
            match sent {
                Ok(()) => tracing::info!("the bundle {} is at the collector", parcel.path),
                Err(status) if is_final(&status) => {
                    tracing::warn!(
                        "the bundle {} is not at the collector, and not sent again: {}; it stays here",
                        parcel.path,
                        status.message()
                    );
                }
                // Only this one is held up.
                Err(status) if status.code() == Code::Aborted => {
                    tracing::info!("the bundle {} is not sent yet: {}", parcel.path, status.message());
                    continue;
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

/// How often a bundle was tried on one connection.
#[derive(Debug, Default)]
struct Attempts {
    busy: usize,
    another: usize,
}

impl Attempts {
    /// How long to wait before it is tried again; `None` if it is not.
    fn pause_after(&mut self, status: &Status) -> Option<Duration> {
        match status.code() {
            // The collector has not noticed yet that the last connection is gone.
            Code::Aborted if self.busy < RETRIES => {
                self.busy += 1;
                Some(RETRY)
            }
            // It was changed on its way, or on the collector's disk, which has nothing of it any more.
            Code::DataLoss if self.another < AGAIN => {
                self.another += 1;
                tracing::warn!("a bundle is sent again from its start: {}", status.message());
                Some(Duration::ZERO)
            }
            _ => None,
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

/// The file, if there is as much of it as was offered.
async fn open(parcel: &Parcel) -> Result<File, Status> {
    let missing = |error: io::Error| Status::not_found(error.to_string());
    let file = File::open(&parcel.path).await.map_err(missing)?;
    let (length, size) = (file.metadata().await.map_err(missing)?.len(), parcel.offer.size);
    if length < size {
        return Err(Status::not_found(format!(
            "it has {length} bytes, and {size} were offered"
        )));
    }
    Ok(file)
}

async fn send(mut client: ControlClient<Channel>, parcel: &Parcel) -> Result<(), Status> {
    let mut file = open(parcel).await?;
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

#[cfg(test)]
mod tests {
    use sensor_proto::v1::OfferBundleRequest;

    use super::*;

    /// How often it is tried again that fails like this each time.
    fn again(status: &Status) -> usize {
        let mut attempts = Attempts::default();
        std::iter::from_fn(|| attempts.pause_after(status))
            .take(99)
            .count()
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_offered_is_given_up() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "half").expect("writes");
        let of = |size| Parcel {
            offer: OfferBundleRequest {
                size,
                ..OfferBundleRequest::default()
            },
            path: file.path().display().to_string(),
        };
        assert!(open(&of(4)).await.is_ok());
        let status = open(&of(8)).await.expect_err("is too short");
        assert_eq!(status.message(), "it has 4 bytes, and 8 were offered");
        assert!(is_final(&status));
    }

    #[test]
    fn what_came_as_another_is_sent_again_and_not_for_ever() {
        let another = Status::data_loss("the bytes that came have another SHA-256; they are thrown away");
        assert_eq!(again(&another), AGAIN);
        assert!(
            is_final(&another),
            "with the next connection it does not begin anew"
        );
        assert_eq!(again(&Status::aborted("busy")), RETRIES);
        assert_eq!(again(&Status::not_found("gone")), 0);
        assert_eq!(again(&Status::unavailable("no disk")), 0);
        let mut attempts = Attempts::default();
        for _ in 0..AGAIN {
            assert_eq!(attempts.pause_after(&another), Some(Duration::ZERO));
            assert_eq!(attempts.pause_after(&Status::aborted("busy")), Some(RETRY));
        }
        assert_eq!(attempts.pause_after(&another), None);
    }
}
