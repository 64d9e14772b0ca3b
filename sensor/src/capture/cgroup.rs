//! The root of the cgroup v2 hierarchy, where programs for all sockets are attached.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Inode of the hierarchy's root: what a cgroup namespace shows as its root is another.
pub(crate) const ROOT_INODE: u64 = 1;

/// Why nothing can be attached there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// There is no hierarchy to be seen.
    #[error("no cgroup v2 hierarchy is mounted; mount one: `mount -t cgroup2 none /sys/fs/cgroup/unified`")]
    NotMounted,
    /// The agent sees a part only.
    #[error(
        "{} is not the root of the cgroup v2 hierarchy; run the agent in the host's cgroup namespace",
        .0.display()
    )]
    NotRoot(PathBuf),
    /// The directory cannot be opened.
    #[error("cannot open {}: {error}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Opens the root, wherever it is mounted.
pub(crate) fn root() -> Result<File, CgroupError> {
    let path = mount()?;
    let open = |path: &Path| {
        let directory = File::open(path)?;
        let inode = directory.metadata()?.ino();
        Ok((directory, inode))
    };
    let (directory, inode) = open(&path).map_err(|error| CgroupError::Open {
        path: path.clone(),
        error,
    })?;
    if inode != ROOT_INODE {
        return Err(CgroupError::NotRoot(path));
    }
    Ok(directory)
}

/// Where the hierarchy is mounted.
pub(crate) fn mount() -> Result<PathBuf, CgroupError> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    place(&mounts).ok_or(CgroupError::NotMounted)
}

/// Where a table of mounts has the hierarchy.
fn place(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (path, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path.replace("\\040", " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_where_it_is_mounted() {
        let v1 = "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n";
        assert_eq!(place(v1), None);
        let hybrid = format!("{v1}cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n");
        assert_eq!(place(&hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(place("none /a\\040b cgroup2 rw 0 0"), Some("/a b".into()));
        assert_eq!(place("cgroup2"), None);
    }
}
