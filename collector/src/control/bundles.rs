//! Bundles of evidence on their way in: `bundles/HOST/SHA256.partial` until all is there, then without the ending.
//!
//! What has come is on disk; a sender that was cut off goes on where it was. A file that turns out not to be what was offered is removed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sensor_proto::v1::{BundleState, OfferBundleRequest};
use sha2::{Digest as _, Sha256};
use tonic::Status;

/// Most bytes of a bundle: 4 GiB and what packs them.
pub const SIZE_MAX: u64 = (4 << 30) + (64 << 20);

/// Longest name.
const NAME_MAX: usize = 255;

/// Where the bundles of a host lie. Its name is one of a certificate, and cannot lead elsewhere.
pub(super) fn place(bundles: &Path, host: &str) -> PathBuf {
    bundles.join(host)
}

/// What is wrong with an offer.
pub(super) fn check(offer: &OfferBundleRequest) -> Result<(), Status> {
    let is_digest = offer.sha256.len() == 64
        && offer
            .sha256
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_digest {
        return Err(Status::invalid_argument("a SHA-256 has 64 hexadecimal digits"));
    }
    if offer.size > SIZE_MAX {
        return Err(Status::invalid_argument(format!(
            "a bundle of {} bytes is larger than {SIZE_MAX}",
            offer.size
        )));
    }
    if offer.name.is_empty()
        || offer.name.len() > NAME_MAX
        || offer.name.chars().any(|char| char.is_control() || char == '/')
    {
        return Err(Status::invalid_argument(
            "the name of the bundle is empty, too long or has characters that names have not",
        ));
    }
    Ok(())
}

/// A bundle that is being written.
#[derive(Debug)]
pub(super) struct Incoming {
    file: File,
    partial: PathBuf,
    whole: PathBuf,
    size: u64,
    sha256: String,
    received: u64,
}

impl Incoming {
    /// Begins it, or goes on with it. One at a time: bytes of two senders in one file would be those of no bundle.
    ///
    /// # Errors
    /// If it cannot be kept, or another connection is sending it.
    pub(super) fn open(directory: &Path, bundle: &BundleState) -> Result<Self, Status> {
        let incoming = Self::open_file(directory, bundle).map_err(|error| failed(&error))?;
        match incoming.file.try_lock() {
            Ok(()) => Ok(incoming),
            Err(TryLockError::WouldBlock) => Err(Status::aborted(
                "another connection of this agent is sending it; offer it again later",
            )),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    fn open_file(directory: &Path, bundle: &BundleState) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let whole = directory.join(&bundle.sha256);
        let partial = whole.with_extension("partial");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&partial)?;
        let received = file.metadata()?.len();
        Ok(Self {
            file,
            partial,
            whole,
            size: bundle.size,
            sha256: bundle.sha256.clone(),
            received,
        })
    }

    /// Bytes that are there.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The next of them.
    pub(super) fn take(&mut self, offset: u64, data: &[u8]) -> Result<(), Status> {
        if offset != self.received {
            let message = format!(
                "bytes from {offset} came where {} were due; offer it again",
                self.received
            );
            return Err(Status::aborted(message));
        }
        if data.len() as u64 > self.size - self.received {
            return Err(Status::invalid_argument(format!(
                "there are more bytes than the {} that were offered",
                self.size
            )));
        }
        self.file.write_all(data).map_err(|error| failed(&error))?;
        self.received += data.len() as u64;
        Ok(())
    }

    /// Gives it its name if all is there and is what was offered.
    pub(super) fn finish(self) -> Result<(), Status> {
        self.file.sync_all().map_err(|error| failed(&error))?;
        if self.received < self.size {
            let message = format!(
                "{} of {} bytes are there; offer it again",
                self.received, self.size
            );
            return Err(Status::aborted(message));
        }
        let found = digest(&self.partial).map_err(|error| failed(&error))?;
        if found != self.sha256 {
            let _ = fs::remove_file(&self.partial);
            let message = format!(
                "the bytes that came have SHA-256 {found}, not {}; they are thrown away",
                self.sha256
            );
            return Err(Status::data_loss(message));
        }
        let keep = || {
            fs::rename(&self.partial, &self.whole)?;
            File::open(self.whole.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        keep().map_err(|error: io::Error| failed(&error))
    }
}

fn failed(error: &io::Error) -> Status {
    Status::unavailable(format!("the collector cannot keep the bundle: {error}"))
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(content: &[u8]) -> BundleState {
        let digest = Sha256::digest(content);
        BundleState {
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            size: content.len() as u64,
            ..BundleState::default()
        }
    }

    #[test]
    fn who_was_cut_off_goes_on() {
        let home = tempfile::tempdir().expect("a directory");
        let bundle = bundle(b"evidence");
        let mut incoming = Incoming::open(home.path(), &bundle).expect("opens");
        incoming.take(0, b"evi").expect("takes");
        let second = Incoming::open(home.path(), &bundle).expect_err("is being sent");
        assert_eq!(second.code(), tonic::Code::Aborted);
        drop(incoming);
        let mut incoming = Incoming::open(home.path(), &bundle).expect("opens");
        assert_eq!(incoming.received(), 3);
        assert_eq!(
            incoming.take(0, b"evi").expect_err("is there").code(),
            tonic::Code::Aborted
        );
        incoming.take(3, b"dence").expect("takes");
        assert!(incoming.take(8, b"!").is_err(), "more than was offered");
        incoming.finish().expect("is whole");
        assert_eq!(
            fs::read(home.path().join(&bundle.sha256)).expect("is there"),
            b"evidence"
        );
    }

    #[test]
    fn what_is_not_what_was_offered_is_thrown_away() {
        let home = tempfile::tempdir().expect("a directory");
        let bundle = bundle(b"evidence");
        let mut incoming = Incoming::open(home.path(), &bundle).expect("opens");
        incoming.take(0, b"evilence").expect("takes");
        assert!(
            incoming
                .finish()
                .expect_err("is another")
                .message()
                .contains("they are thrown away")
        );
        assert_eq!(fs::read_dir(home.path()).expect("lists").count(), 0);
    }

    #[test]
    fn offers_are_checked() {
        let good = OfferBundleRequest {
            sha256: "0".repeat(64),
            name: "a.tar.zst".into(),
            size: 1,
            command: "c".into(),
        };
        assert!(check(&good).is_ok());
        for bad in [
            OfferBundleRequest {
                sha256: "../x".into(),
                ..good.clone()
            },
            OfferBundleRequest {
                size: SIZE_MAX + 1,
                ..good.clone()
            },
            OfferBundleRequest {
                name: "a/b".into(),
                ..good.clone()
            },
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
