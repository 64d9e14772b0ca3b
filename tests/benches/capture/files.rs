//! Loads of files.

use std::{
    ffi::CStr,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, Mode, OFlags, open, openat, unlinkat},
};
use tempfile::TempDir;

/// Where the kernel's own work for a file is the least: so much the more weighs ours.
const IN_MEMORY: &str = "/dev/shm";

/// Files in a folder of their own.
pub(crate) struct Files {
    _folder: TempDir,
    directory: OwnedFd,
    count: u32,
    next: AtomicU32,
}

impl Files {
    /// Makes `count` empty files.
    pub(crate) fn new(count: u32) -> Result<Self> {
        let folder = if Path::new(IN_MEMORY).is_dir() {
            tempfile::tempdir_in(IN_MEMORY)?
        } else {
            tempfile::tempdir()?
        };
        let directory = open(folder.path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for number in 0..count {
            create(&directory, &Name::of(number))?;
        }
        Ok(Self {
            _folder: folder,
            directory,
            count,
            next: AtomicU32::new(0),
        })
    }

    /// Time to open the first file for writing and close it, `count` times.
    pub(crate) fn open_one(&self, count: u32) -> Result<Duration> {
        let name = Name::of(0);
        let began = Instant::now();
        for _ in 0..count {
            self.open(&name)?;
        }
        Ok(began.elapsed())
    }

    /// Time to open and close `count` files for writing, each another one, until all have had their turn.
    pub(crate) fn open_next(&self, count: u32) -> Result<Duration> {
        let began = Instant::now();
        let from = self.next.load(Ordering::Relaxed);
        for number in from..from + count {
            self.open(&Name::of(number % self.count))?;
        }
        self.next.store((from + count) % self.count, Ordering::Relaxed);
        Ok(began.elapsed())
    }

    /// Opens and closes one file for writing.
    pub(crate) fn open_number(&self, number: u32) -> Result<()> {
        self.open(&Name::of(number % self.count))
    }

    /// Makes and removes `count` files, no two of the same name.
    pub(crate) fn make_and_remove(&self, count: u32) -> Result<()> {
        let from = self.next.load(Ordering::Relaxed).max(self.count);
        for number in from..from + count {
            let name = Name::of(number);
            create(&self.directory, &name)?;
            unlinkat(&self.directory, name.text()?, AtFlags::empty())?;
        }
        self.next.store(from + count, Ordering::Relaxed);
        Ok(())
    }

    fn open(&self, name: &Name) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&self.directory, name.text()?, flags, Mode::empty())?;
        Ok(())
    }
}

fn create(directory: impl AsFd, name: &Name) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(directory, name.text()?, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(())
}

/// A number as a name, without an allocation.
struct Name([u8; 11]);

impl Name {
    fn of(mut number: u32) -> Self {
        let mut text = [0; 11];
        for digit in text[..10].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        Self(text)
    }

    fn text(&self) -> Result<&CStr> {
        CStr::from_bytes_until_nul(&self.0).context("a name without an end")
    }
}
