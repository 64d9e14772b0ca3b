//! Cgroups of the tests' own.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// A cgroup of the same name in every hierarchy that can have one, so that it is the process's cgroup whichever
/// hierarchy one looks at. Removed when dropped.
pub struct Cgroup {
    name: String,
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes `/NAME`.
    ///
    /// # Errors
    /// If no hierarchy is mounted.
    pub fn new(name: &str) -> Result<Self> {
        let folders: Vec<PathBuf> = hierarchies()?
            .iter()
            .map(|hierarchy| hierarchy.join(name))
            .collect();
        ensure!(!folders.is_empty(), "no cgroup hierarchy is mounted");
        for folder in &folders {
            fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        }
        Ok(Self {
            name: name.to_owned(),
            folders,
        })
    }

    /// As `/proc/PID/cgroup` says it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Its folder in the unified hierarchy, for programs that are attached to it.
    ///
    /// # Errors
    /// If that hierarchy is not mounted.
    pub fn unified(&self) -> Result<&Path> {
        let folder = self
            .folders
            .iter()
            .find(|folder| folder.join("cgroup.controllers").exists());
        folder
            .map(PathBuf::as_path)
            .context("no unified cgroup hierarchy is mounted")
    }

    /// Makes `command` begin its life in it.
    pub fn enter<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let files: Vec<PathBuf> = self
            .folders
            .iter()
            .map(|folder| folder.join("cgroup.procs"))
            .collect();
        // SAFETY: between fork and exec of a child of this process, which may have other threads, the closure opens and
        // writes files by paths made before; it takes no lock. Allocating a path for `open` is safe with glibc, whose
        // allocator is usable after a fork.
        unsafe { command.pre_exec(move || files.iter().try_for_each(enter)) }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            // What it lies in goes with it where nothing else is there; a hierarchy itself cannot be removed.
            let mut folders = folder.ancestors();
            while folders
                .next()
                .is_some_and(|folder| fs::remove_dir(folder).is_ok())
            {}
        }
    }
}

/// "0" is the process that writes.
fn enter(file: impl AsRef<Path>) -> io::Result<()> {
    fs::write(file, "0")
}

/// The unified hierarchy, and those of version 1 in which any process may be anywhere: `cpuset` wants to be told its
/// processors first.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut found = Vec::new();
    for line in mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, folder, kind, options, ..] = words[..] else {
            continue;
        };
        let plain = |option: &str| matches!(option, "pids" | "freezer" | "name=systemd" | "memory");
        if kind == "cgroup2" || kind == "cgroup" && options.split(',').any(plain) {
            found.push(PathBuf::from(folder));
        }
    }
    Ok(found)
}
