//! What is never quarantined or kept from running, whoever asks: without it a host does not boot, log anybody in, or run anything.
//!
//! Files are known by device and inode, looked up when it is asked, so that no other name, link or mount leads around the list.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Files by their paths.
const FILES: [&str; 34] = [
    "etc/passwd",
    "etc/shadow",
    "etc/group",
    "etc/gshadow",
    "etc/sudoers",
    "etc/nsswitch.conf",
    "etc/fstab",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/machine-id",
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/login.defs",
    "etc/ssh/sshd_config",
    "sbin/init",
    "bin/sh",
    "bin/bash",
    "bin/dash",
    "bin/busybox",
    "bin/login",
    "bin/su",
    "bin/mount",
    "usr/bin/sudo",
    "usr/bin/env",
    "usr/bin/systemctl",
    "usr/bin/dbus-daemon",
    "usr/bin/dbus-broker",
    "usr/bin/containerd",
    "usr/bin/dockerd",
    "usr/bin/kubelet",
    "usr/bin/runc",
    "usr/sbin/sshd",
    "usr/sbin/agetty",
    "sbin/ldconfig",
];

/// Directories in which nothing is touched, with what is beneath them.
const TREES: [&str; 12] = [
    "boot",
    "proc",
    "sys",
    "etc/pam.d",
    "etc/security",
    "etc/sensor",
    "lib/systemd",
    "usr/lib/systemd",
    "lib/modules",
    "usr/lib/modules",
    "usr/lib/security",
    "usr/lib/openssh",
];

/// Where libraries are, and directories of architectures beneath.
const LIBRARIES: [&str; 4] = ["lib", "lib64", "usr/lib", "usr/lib64"];

/// Beginnings of names of libraries that nearly everything needs.
const LIBRARY_NAMES: [&str; 14] = [
    "ld-linux",
    "ld-musl",
    "ld64.so",
    "ld.so",
    "libc.so",
    "libc-",
    "libc.musl",
    "libm.so",
    "libdl.so",
    "libpthread",
    "libsystemd",
    "libpam",
    "libcrypt",
    "libnss_",
];

/// Entries of a directory of libraries that are looked at.
const ENTRIES_MAX: usize = 65_536;

/// The list, of a host whose root is somewhere.
#[derive(Clone, Debug)]
pub struct Floor {
    root: PathBuf,
    /// Sensor's own: its state and its program.
    own: Vec<PathBuf>,
}

impl Floor {
    /// That of the host at `root`, and what is sensor's: `state` and the program that runs.
    #[must_use]
    pub fn new(root: &Path, state: &Path) -> Self {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut own = vec![real(state)];
        own.extend(std::env::current_exe().ok());
        Self {
            root: root.to_owned(),
            own,
        }
    }

    /// Why the file at `path`, without links, with this device and inode, is left alone; `None` if it is not on the list.
    #[must_use]
    pub fn forbids(&self, path: &Path, identity: (u64, u64)) -> Option<String> {
        let in_tree = TREES.iter().find(|tree| {
            let tree = self.root.join(tree);
            path.starts_with(&tree) || tree.canonicalize().is_ok_and(|tree| path.starts_with(tree))
        });
        if let Some(tree) = in_tree {
            return Some(format!("nothing in /{tree} is"));
        }
        if self
            .own
            .iter()
            .any(|own| path.starts_with(own) || identity_of(own) == Some(identity))
        {
            return Some("it is sensor's own".to_owned());
        }
        find(files(&self.root).chain(self.libraries()), path, Some(identity))
    }

    /// The libraries of the list that this host has.
    fn libraries(&self) -> impl Iterator<Item = PathBuf> {
        let roots: HashSet<PathBuf> = LIBRARIES
            .iter()
            .filter_map(|directory| self.root.join(directory).canonicalize().ok())
            .collect();
        let beneath: Vec<PathBuf> = roots
            .iter()
            .flat_map(|root| entries(root))
            .filter(|path| path.to_string_lossy().contains("-linux-") && path.is_dir())
            .collect();
        let needed = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            LIBRARY_NAMES.iter().any(|beginning| name.starts_with(beginning))
        };
        roots
            .into_iter()
            .chain(beneath)
            .flat_map(|directory| entries(&directory).collect::<Vec<_>>())
            .filter(needed)
    }
}

/// Why the program at `path`, on this host, may not be kept from running; `None` if it may.
#[must_use]
pub fn needed_program(path: &Path) -> Option<String> {
    find(files(Path::new("/")), path, identity_of(path))
}

fn files(root: &Path) -> impl Iterator<Item = PathBuf> {
    FILES.iter().map(move |file| root.join(file))
}

fn find(
    mut files: impl Iterator<Item = PathBuf>,
    path: &Path,
    identity: Option<(u64, u64)>,
) -> Option<String> {
    let is_it = |file: &PathBuf| path == file || identity.is_some() && identity_of(file) == identity;
    let found = files.find(is_it)?;
    Some(format!(
        "it is {}, without which the host is lost",
        found.display()
    ))
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).ok();
    let entries = entries.into_iter().flatten().flatten();
    entries.take(ENTRIES_MAX).map(|entry| entry.path())
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    let about = fs::metadata(path).ok()?;
    Some((about.dev(), about.ino()))
}
