//! The root of the cgroup v2 hierarchy, where programs for all sockets are attached.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use super::syscall::{self, BPF_PROG_QUERY};

/// Inode of the hierarchy's root: what a cgroup namespace shows as its root is another.
pub(crate) const ROOT_INODE: u64 = 1;

// `enum bpf_attach_type` of include/uapi/linux/bpf.h.
pub(crate) const INGRESS: u32 = 0;
pub(crate) const EGRESS: u32 = 1;
pub(crate) const SOCK_CREATE: u32 = 2;
pub(crate) const CONNECT4: u32 = 10;
pub(crate) const CONNECT6: u32 = 11;
pub(crate) const POST_BIND4: u32 = 12;
pub(crate) const POST_BIND6: u32 = 13;
pub(crate) const SENDMSG4: u32 = 14;
pub(crate) const SENDMSG6: u32 = 15;
pub(crate) const SYSCTL: u32 = 18;

/// As many as the kernel lets a cgroup have of one kind.
const PROGRAMS_MAX: usize = 64;

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

/// The head of `union bpf_attr` to ask what is attached.
#[repr(C)]
struct Query {
    cgroup: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
}

/// Whether a program is attached to a cgroup by a hook of this kind.
pub(crate) fn has(cgroup: &File, kind: u32, id: u32) -> io::Result<bool> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut query = Query {
        cgroup: cgroup.as_fd().as_raw_fd() as u32,
        kind,
        flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: PROGRAMS_MAX as u32,
        reserved: 0,
    };
    // SAFETY: the array lives, and has room for as many as are said.
    unsafe { syscall::bpf(BPF_PROG_QUERY, &mut query)? };
    Ok(ids.iter().take(query.count as usize).any(|found| *found == id))
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
