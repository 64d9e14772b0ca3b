//! What workloads are known to do, in a file that outlives the agent: `sequences` in its directory for state.
//!
//! The file is written beside the old one and takes its place whole, by a thread of its own: a disk may be slow. One that is damaged is set
//! aside under another name, and everything is learned anew.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use sensor_behaviour::{SNAPSHOT_MAX, windows::Windows};

/// Name of the file, and of what becomes of it.
const NAME: &str = "sequences";
const DAMAGED: &str = "sequences.damaged";

/// The file, and whoever is writing it.
pub(super) struct Store {
    directory: PathBuf,
    writing: Option<JoinHandle<()>>,
}

impl Store {
    /// What the file in `directory` says, nothing where there is none. `None` if nothing can be kept there.
    pub(super) fn open(directory: &Path) -> (Option<Self>, Windows) {
        let path = directory.join(NAME);
        let store = Self {
            directory: directory.to_owned(),
            writing: None,
        };
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return (Some(store), Windows::default());
            }
            Err(error) => {
                tracing::warn!(
                    "cannot read {}: {error}; orders of system calls are learned anew, and forgotten when the agent ends",
                    path.display()
                );
                return (None, Windows::default());
            }
        };
        match Windows::from_snapshot(&bytes) {
            Ok(windows) => (Some(store), windows),
            Err(error) => {
                let aside = directory.join(DAMAGED);
                tracing::warn!(
                    "{} is of no use: {error}. It is set aside as {}; orders of system calls are learned anew",
                    path.display(),
                    aside.display()
                );
                if let Err(error) = fs::rename(&path, &aside) {
                    tracing::warn!(
                        "cannot set {} aside: {error}; it will be replaced",
                        path.display()
                    );
                }
                (Some(store), Windows::default())
            }
        }
    }

    /// Whether the last one is still being written.
    pub(super) fn is_busy(&self) -> bool {
        self.writing.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Writes what `collect` returns, both on another thread.
    pub(super) fn save(&mut self, collect: impl FnOnce() -> Windows + Send + 'static) {
        self.finish();
        let directory = self.directory.clone();
        let thread = std::thread::Builder::new().name("state".to_owned());
        let work = move || {
            if let Err(error) = write(&directory.join(NAME), &collect()) {
                complain(&directory, &error);
            }
        };
        match thread.spawn(work) {
            Ok(thread) => self.writing = Some(thread),
            Err(error) => complain(&self.directory, &error),
        }
    }

    /// Waits until it is written.
    pub(super) fn finish(&mut self) {
        if self.writing.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("what is known of workloads was not written: its thread has ended in a panic");
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more says that it is too long.
    File::open(path)?
        .take(SNAPSHOT_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes what is known of workloads to a file, which is there whole or not at all.
///
/// # Errors
/// If that is not possible.
pub fn write(path: &Path, windows: &Windows) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&windows.to_snapshot())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

fn complain(directory: &Path, error: &io::Error) {
    tracing::warn!(
        "cannot write what is known of workloads to {}: {error}; without it they are learned anew when the agent starts again",
        directory.display()
    );
}

#[cfg(test)]
mod tests {
    use sensor_behaviour::windows::Known;

    use super::*;

    fn some() -> Windows {
        let mut windows = Windows::default();
        windows.put("unit:a", Known::new(vec![3, 1, 2]));
        windows
    }

    #[test]
    fn what_was_saved_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("state/of/sensor");
        let (store, windows) = Store::open(&directory);
        assert_eq!(windows, Windows::default());
        let mut store = store.unwrap();
        for windows in [Windows::default(), some()] {
            store.save(move || windows);
        }
        store.finish();
        let (store, windows) = Store::open(&directory);
        assert!(store.is_some());
        assert_eq!(windows, some());
        assert!(!directory.join("sequences.new").exists());
    }

    #[test]
    fn what_is_damaged_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = some().to_snapshot();
        bytes[20] ^= 1;
        fs::write(folder.path().join(NAME), &bytes).unwrap();
        let (store, windows) = Store::open(folder.path());
        assert_eq!(windows, Windows::default());
        assert_eq!(fs::read(folder.path().join(DAMAGED)).unwrap(), bytes);
        let mut store = store.unwrap();
        store.save(some);
        store.finish();
        assert_eq!(Store::open(folder.path()).1, some());
    }

    #[test]
    fn what_cannot_be_read_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(NAME)).unwrap();
        let (store, windows) = Store::open(folder.path());
        assert!(store.is_none());
        assert_eq!(windows, Windows::default());
    }

    #[test]
    fn what_cannot_be_written_ends_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let (store, _) = Store::open(&file.join("below"));
        // A file has nothing below it: it cannot even be read there.
        assert!(store.is_none());
        let (store, _) = Store::open(folder.path());
        let mut store = store.unwrap();
        fs::create_dir(folder.path().join("sequences.new")).unwrap();
        store.save(some);
        store.finish();
        assert_eq!(Store::open(folder.path()).1, Windows::default());
    }
}
