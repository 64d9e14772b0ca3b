//! What workloads are known to do, in a file that outlives the agent: `sequences` in its directory for state.

use std::{io, path::Path};

use sensor_behaviour::windows::Windows;

use crate::state::{self, StateFile};

/// Name of the file.
const NAME: &str = "sequences";

/// The file, and whoever is writing it.
pub(super) struct Store(StateFile);

impl Store {
    /// What the file in `directory` says, nothing where there is none. `None` if nothing can be kept there.
    pub(super) fn open(directory: &Path) -> (Option<Self>, Windows) {
        let Some((file, bytes)) = StateFile::open(directory, NAME, "orders of system calls") else {
            return (None, Windows::default());
        };
        let windows = match bytes.map(|bytes| Windows::from_snapshot(&bytes)) {
            None => Windows::default(),
            Some(Ok(windows)) => windows,
            Some(Err(error)) => {
                file.set_aside(&error);
                Windows::default()
            }
        };
        (Some(Self(file)), windows)
    }

    /// Whether the last one is still being written.
    pub(super) fn is_busy(&self) -> bool {
        self.0.is_busy()
    }

    /// Writes what `collect` returns, both on another thread.
    pub(super) fn save(&mut self, collect: impl FnOnce() -> Windows + Send + 'static) {
        self.0.save(move || collect().to_snapshot());
    }

    /// Waits until it is written.
    pub(super) fn finish(&mut self) {
        self.0.finish();
    }
}

/// Writes what is known of workloads to a file, which is there whole or not at all.
///
/// # Errors
/// If that is not possible.
pub fn write(path: &Path, windows: &Windows) -> io::Result<()> {
    state::write(path, &windows.to_snapshot())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sensor_behaviour::windows::Known;

    use super::*;

    const DAMAGED: &str = "sequences.damaged";

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
