//! What outlives the agent: files in its directory for state.
//!
//! A file is written beside the old one and takes its place whole, by a thread of its own: a disk may be slow. One that is damaged is set
//! aside under another name, and what was in it is learned anew. What is read is [`SNAPSHOT_MAX`] bytes at most.

use std::{
    fmt::Display,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use rustix::{
    fs::{Mode, OFlags},
    rand::GetRandomFlags,
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
    let directory = folder(path);
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

/// Makes a file of mode 0600, which is there whole or not at all, and never takes the place of another.
///
/// # Errors
/// If there is one already (`AlreadyExists`), or it is not possible.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = folder(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&new, path));
    fs::remove_file(&new)?;
    linked?;
    File::open(directory)?.sync_all()
}

/// 32 bytes that nobody can guess.
///
/// # Errors
/// If the kernel has none.
pub fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    if rustix::rand::getrandom(&mut bytes[..], GetRandomFlags::empty())? != bytes.len() {
        return Err(io::Error::other("the kernel gave too little randomness"));
    }
    Ok(bytes)
}

/// Opens a directory, which is made with mode 0700 where it is missing, and must be this user's own and grant others none of `forbidden`.
/// What stands in its place by a link is refused.
///
/// # Errors
/// If it is not so, with `why` as its words, or not possible.
pub fn own_directory(path: &Path, forbidden: u32, why: &'static str) -> io::Result<OwnedFd> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let about = rustix::fs::fstat(&directory)?;
    if about.st_uid != rustix::process::geteuid().as_raw() || about.st_mode & forbidden != 0 {
        return Err(io::Error::other(why));
    }
    Ok(directory)
}

/// Where a file lies.
fn folder(path: &Path) -> &Path {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

fn complain(path: &Path, what: &str, error: &io::Error) {
    tracing::warn!(
        "cannot write {}: {error}; without it {what} are learned anew when the agent starts again",
        path.display()
    );
}
