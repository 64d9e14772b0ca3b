//! A disk that can be full.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use sensor_tests::wire::run;

/// A file system in memory.
pub(crate) struct Disk(PathBuf);

const SIZE: &str = "size=256m,mode=700";

impl Disk {
    pub(crate) fn new() -> Result<Self> {
        let path = tempfile::tempdir()?.keep();
        let disk = Self(path);
        run(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            SIZE,
            "tmpfs",
            &disk.0.to_string_lossy(),
        ])?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    pub(crate) fn fill(&self) -> Result<()> {
        let mut file = File::create(self.ballast())?;
        let block = vec![1; 1 << 16];
        while file.write_all(&block).is_ok() {}
        Ok(())
    }

    pub(crate) fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
        let _ = fs::remove_dir(&self.0);
    }
}
