//! What outlives the agent: names in a BPF file system.
//!
//! ```text
//! BPFFS/sensor/verdicts-CONTRACT/maps/NAME
//!                               /links/VERSION/PROGRAM
//! ```
//! A program is attached as long as its name is there, whoever else has ended. Another version of the programs looks into the same maps. Maps
//! of another contract, with their programs, are forgotten once what was to hold is in those of this one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::statfs,
    mount::{MountFlags, mount},
};
use sensor_common::verdict::CONTRACT;

use super::EnforceError;

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const MAGIC: i64 = 0xcafe_4a11;

/// Where things are kept.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    file_system: PathBuf,
}

impl Pins {
    pub(super) fn new(file_system: PathBuf) -> Self {
        Self { file_system }
    }

    fn folder(&self) -> PathBuf {
        self.file_system
            .join("sensor")
            .join(format!("verdicts-{CONTRACT}"))
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.folder().join("maps").join(name)
    }

    fn links(&self) -> PathBuf {
        self.folder().join("links")
    }

    pub(super) fn link(&self, version: &str, program: &str) -> PathBuf {
        self.links().join(version).join(program)
    }

    /// Makes room for maps and for attachments of a version; mounts the file system where it is not there.
    pub(super) fn prepare(&self, version: &str) -> Result<(), EnforceError> {
        self.mounted().map_err(|error| EnforceError::Bpffs {
            path: self.file_system.clone(),
            error,
        })?;
        let maps = self.folder().join("maps");
        for folder in [maps, self.links().join(version)] {
            make(&folder).map_err(|error| EnforceError::Pin {
                path: folder,
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }

    fn mounted(&self) -> io::Result<()> {
        if is_bpf(&self.file_system) {
            return Ok(());
        }
        make(&self.file_system)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        Ok(mount("bpf", &self.file_system, "bpf", flags, c"mode=0700")?)
    }

    /// Versions of which programs are attached.
    pub(super) fn versions(&self) -> Vec<String> {
        let entries = fs::read_dir(self.links()).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Detaches the programs of a version.
    pub(super) fn remove_version(&self, version: &str) {
        remove(&self.links().join(version));
    }

    /// Forgets what agents with other maps have left.
    pub(super) fn remove_others(&self) {
        let own = self.folder();
        let entries = fs::read_dir(self.file_system.join("sensor"))
            .into_iter()
            .flatten()
            .flatten();
        let others = entries.map(|entry| entry.path()).filter(|path| *path != own);
        for other in others.filter(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with("verdicts-")
        }) {
            tracing::info!(
                "what an agent of another version left in {} is forgotten",
                other.display()
            );
            // Attachments before maps.
            remove(&other.join("links"));
            remove(&other);
        }
        let _ = fs::remove_dir(self.file_system.join("sensor"));
    }

    /// Detaches everything and forgets the maps.
    pub(super) fn remove(&self) {
        remove(&self.links());
        remove(&self.folder());
        // Others may keep theirs there.
        let _ = fs::remove_dir(self.file_system.join("sensor"));
    }
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("cannot remove {}: {error}", folder.display());
        }
        _ => {}
    }
}

fn make(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn is_bpf(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|found| found.f_type == MAGIC)
}
