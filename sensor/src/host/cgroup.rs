//! What a cgroup id stands for.
//!
//! A cgroup id is the inode of the cgroup's directory. It is never reused, so what was once resolved
//! stays right; a cgroup that is renamed (v1 only) keeps its first name here.

use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirEntryExt, fs::MetadataExt},
    },
    path::Path,
    sync::Arc,
};

use lru::LruCache;

use super::{Workload, hierarchy::CgroupMount, proc::ProcDir};

/// Cgroups that are remembered; each takes at most about 2 KiB.
const REMEMBERED: usize = 4_096;

/// How many events a cgroup that could not be resolved is left alone for.
const RETRY_AFTER: u64 = 1_024;

/// How deep the walk at the start goes.
const DEPTH: usize = 32;

enum Resolved {
    Workload(Arc<Workload>),
    /// Tried in vain when this many events had been seen.
    Unknown(Arc<Workload>, u64),
}

/// What the cgroups of this host stand for. Remembers a bounded number, the ones asked for last.
pub struct Cgroups {
    mount: Option<CgroupMount>,
    /// Held open for `open_by_handle_at`.
    directory: Option<OwnedFd>,
    resolved: LruCache<u64, Resolved>,
    asked: u64,
}

impl std::fmt::Debug for Cgroups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cgroups")
            .field("mount", &self.mount)
            .field("resolved", &self.resolved.len())
            .finish()
    }
}

impl Cgroups {
    /// Without a hierarchy everything belongs to the host.
    #[must_use]
    pub fn new(mount: Option<CgroupMount>) -> Self {
        let directory = mount
            .as_ref()
            .and_then(|mount| std::fs::File::open(&mount.path).ok())
            .map(OwnedFd::from);
        let capacity = std::num::NonZeroUsize::new(REMEMBERED).unwrap_or(std::num::NonZeroUsize::MIN);
        let mut cgroups = Self {
            mount,
            directory,
            resolved: LruCache::new(capacity),
            asked: 0,
        };
        cgroups.walk();
        cgroups
    }

    /// What the cgroup `id` stands for. `process` is asked for its cgroup where the id alone does not tell: it
    /// must be known to be in that cgroup.
    pub fn workload(&mut self, id: u64, process: impl FnOnce() -> Option<ProcDir>) -> Arc<Workload> {
        self.asked += 1;
        match self.resolved.get(&id) {
            Some(Resolved::Workload(workload)) => return Arc::clone(workload),
            Some(Resolved::Unknown(workload, at)) if self.asked - at < RETRY_AFTER => {
                return Arc::clone(workload);
            }
            _ => {}
        }
        self.resolve(id, process)
    }

    /// The id and the workload of the cgroup that a process of `/proc` is in.
    pub fn of_process(&mut self, process: &ProcDir) -> Arc<Workload> {
        let path = self.mount.as_ref().and_then(|mount| {
            let path = mount.path_in(&String::from_utf8_lossy(&process.cgroups()))?;
            let inode = std::fs::metadata(mount.directory(&path)).ok()?.ino();
            Some((inode, path))
        });
        match path {
            Some((id, path)) => match self.resolved.get(&id) {
                Some(Resolved::Workload(workload)) => Arc::clone(workload),
                _ => self.remember(id, &path),
            },
            None => self.workload(0, || None),
        }
    }

    fn resolve(&mut self, id: u64, process: impl FnOnce() -> Option<ProcDir>) -> Arc<Workload> {
        let Some(mount) = &self.mount else {
            return self.remember(id, "");
        };
        let path = self.path_by_handle(mount, id).or_else(|| {
            let cgroups = process()?.cgroups();
            let path = mount.path_in(&String::from_utf8_lossy(&cgroups))?;
            // It may have moved on since. A cgroup that is gone already can only be taken at its word.
            match std::fs::metadata(mount.directory(&path)) {
                Ok(directory) => (directory.ino() == id).then_some(path),
                Err(_) => path
                    .ends_with(" (deleted)")
                    .then(|| path.replace(" (deleted)", "")),
            }
        });
        match path {
            Some(path) => self.remember(id, &path),
            None => {
                let unknown = match self.resolved.get(&id) {
                    Some(Resolved::Unknown(workload, _)) => Arc::clone(workload),
                    _ => Arc::new(Workload::unresolved(id)),
                };
                self.resolved
                    .push(id, Resolved::Unknown(Arc::clone(&unknown), self.asked));
                unknown
            }
        }
    }

    fn remember(&mut self, id: u64, path: &str) -> Arc<Workload> {
        let workload = Arc::new(Workload::from_cgroup(id, path));
        self.resolved.push(id, Resolved::Workload(Arc::clone(&workload)));
        workload
    }

    /// Remembers the cgroups there are, the upper ones first, so that the first events cost nothing.
    fn walk(&mut self) {
        let Some(mount) = self.mount.clone() else { return };
        let Ok(root) = std::fs::metadata(&mount.path) else {
            return;
        };
        self.remember(root.ino(), &mount.root);
        let mut level = vec![mount.path.clone()];
        for _ in 0..DEPTH {
            let mut below = Vec::new();
            for entry in level
                .iter()
                .filter_map(|path| std::fs::read_dir(path).ok())
                .flatten()
                .flatten()
            {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if self.resolved.len() >= REMEMBERED {
                    return;
                }
                if let Some(path) = mount.path_of(&entry.path()) {
                    self.remember(entry.ino(), &path);
                }
                below.push(entry.path());
            }
            level = below;
        }
    }

    /// The kernel finds a cgroup's directory by its id, whatever its path is: 5.5 and later, with
    /// `CAP_DAC_READ_SEARCH`.
    fn path_by_handle(&self, mount: &CgroupMount, id: u64) -> Option<String> {
        let directory = open_by_id(self.directory.as_ref()?, id)?;
        let link = CString::new(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
        let path = rustix::fs::readlink(link.as_c_str(), Vec::new())
            .ok()?
            .into_bytes();
        mount.path_of(Path::new(std::ffi::OsStr::from_bytes(&path)))
    }
}

/// A `struct file_handle` of kernfs: its identifier is the node's id.
#[repr(C)]
struct KernfsHandle {
    bytes: u32,
    kind: i32,
    id: [u8; 8],
}

const FILEID_KERNFS: i32 = 0xfe;

fn open_by_id(mount: &OwnedFd, id: u64) -> Option<OwnedFd> {
    let mut handle = KernfsHandle {
        bytes: 8,
        kind: FILEID_KERNFS,
        id: id.to_ne_bytes(),
    };
    // SAFETY: `handle` has the layout of a `file_handle` with the eight bytes of identifier that it says it has;
    // it outlives the call, and `mount` is open.
    let fd = unsafe {
        libc::open_by_handle_at(
            mount.as_raw_fd(),
            (&raw mut handle).cast(),
            libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC,
        )
    };
    // SAFETY: not negative, so it is a descriptor that was just opened for us and has no other owner.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Hierarchy;

    #[test]
    fn without_a_hierarchy_all_belongs_to_the_host() {
        let mut cgroups = Cgroups::new(None);
        assert_eq!(&*cgroups.workload(5, || None).name, "host");
    }

    #[test]
    fn an_unknown_cgroup_is_tried_again_after_a_while() {
        let mount = CgroupMount {
            hierarchy: Hierarchy::Unified,
            path: "/nonexistent".into(),
            root: "/".into(),
        };
        let mut cgroups = Cgroups::new(Some(mount));
        let tries = std::cell::Cell::new(0);
        for _ in 0..=RETRY_AFTER {
            let workload = cgroups.workload(5, || {
                tries.set(tries.get() + 1);
                None
            });
            assert_eq!(&*workload.name, "unknown");
        }
        assert_eq!(tries.get(), 2);
    }

    #[test]
    fn this_process_is_in_a_cgroup_of_this_host() {
        let Ok(mount) = CgroupMount::detect() else { return };
        let process = ProcDir::open(std::process::id()).unwrap();
        let mut cgroups = Cgroups::new(Some(mount.clone()));
        let workload = cgroups.of_process(&process);
        assert_ne!(workload.cgroup_id, 0);
        let mut fresh = Cgroups::new(Some(mount));
        fresh.resolved.clear();
        assert_eq!(*fresh.workload(workload.cgroup_id, || Some(process)), *workload);
    }
}
