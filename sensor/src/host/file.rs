//! Files as events and the kernel programs know them: by device and inode.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _, path::Path};

use sensor_common::FileKey;

use super::Image;

/// A device number of userspace as the kernel has it (major << 20 | minor).
#[must_use]
pub fn device(number: u64) -> u32 {
    rustix::fs::major(number) << 20 | rustix::fs::minor(number)
}

/// The file that `metadata` is of.
#[must_use]
pub fn key(metadata: &Metadata) -> FileKey {
    FileKey {
        inode: metadata.ino(),
        device: device(metadata.dev()),
        reserved: 0,
    }
}

/// What is at this path on the host, links followed.
#[must_use]
pub fn key_at(path: &Path) -> Option<FileKey> {
    std::fs::metadata(path).ok().map(|metadata| key(&metadata))
}

/// What was executed, if that is known.
#[must_use]
pub fn key_of(image: &Image) -> Option<FileKey> {
    (image.inode != 0).then_some(FileKey {
        inode: image.inode,
        device: image.device,
        reserved: 0,
    })
}
