//! What outlives the agent: files in its directory for state.
//!
//! A file is written beside the old one and takes its place whole, by a thread of its own: a disk may be slow. One that is damaged is set
//! aside under another name, and what was in it is learned anew. What is read is [`SNAPSHOT_MAX`] bytes at most.

use std::{
    fmt::Display,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use sensor_behaviour::SNAPSHOT_MAX;

/// A file, and whoever is writing it.
pub struct StateFile {
    path: PathBuf,
    /// What is in it, in the plural and for people.
    what: &'static str,
    writing: Option<JoinHandle<()>>,
}

impl StateFile {
    /// The file `name` in `directory`, with what is in it, if it is there. `None` if nothing can be kept there.
    #[must_use]
    pub fn open(directory: &Path, name: &str, what: &'static str) -> Option<(Self, Option<Vec<u8>>)> {
        let file = Self {
            path: directory.join(name),
            what,
            writing: None,
        };
        match read(&file.path) {
            Ok(bytes) => Some((file, Some(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some((file, None)),
            Err(error) => {
                tracing::warn!(
                    "cannot read {}: {error}; {what} are learned anew, and forgotten when the agent ends",
                    file.path.display()
                );
                None
            }
        }
    }

    /// What is in it makes no sense, for the reason given: nobody shall lose it by that.
    pub fn set_aside(&self, why: &impl Display) {
        let (path, aside) = (&self.path, self.path.with_extension("damaged"));
        tracing::warn!(
            "{} is of no use: {why}. It is set aside as {}; {} are learned anew",
            path.display(),
            aside.display(),
            self.what
        );
        if let Err(error) = fs::rename(path, &aside) {
            tracing::warn!(
                "cannot set {} aside: {error}; it will be replaced",
                path.display()
            );
        }
    }

    /// Whether the last one is still being written.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.writing.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Writes what `collect` returns, both on another thread.
    pub fn save(&mut self, collect: impl FnOnce() -> Vec<u8> + Send + 'static) {
        self.finish();
        let path = self.path.clone();
        let what = self.what;
        let thread = std::thread::Builder::new().name("state".to_owned());
        let work = move || {
            if let Err(error) = write(&path, &collect()) {
                complain(&path, what, &error);
            }
        };
        match thread.spawn(work) {
            Ok(thread) => self.writing = Some(thread),
            Err(error) => complain(&self.path, what, &error),
        }
    }

    /// Waits until it is written.
    pub fn finish(&mut self) {
        if self.writing.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(
                "{} were not written: the thread has ended in a panic",
                self.path.display()
            );
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

/// Writes a file, which is there whole or not at all.
///
/// # Errors
/// If that is not possible.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

fn complain(path: &Path, what: &str, error: &io::Error) {
    tracing::warn!(
        "cannot write {}: {error}; without it {what} are learned anew when the agent starts again",
        path.display()
    );
}
