//! Which cgroup hierarchy tells workloads apart on this host.

use std::{
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// A cgroup hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Version 2.
    Unified,
    /// The version 1 hierarchy of this controller.
    V1 {
        /// One of `pids`, `memory`, `cpu`.
        controller: &'static str,
    },
}

/// The hierarchy that is used on this host, and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// Which.
    pub hierarchy: Hierarchy,
    /// Where.
    pub path: PathBuf,
    /// Which cgroup is mounted there: `/` on a host, a path in some containers.
    pub root: String,
}

/// Why no hierarchy could be found.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The table of mounts could not be read.
    #[error("cannot read /proc/self/mountinfo: {0}; is /proc mounted?")]
    Mounts(#[source] std::io::Error),
    /// There is none.
    #[error(
        "no cgroup hierarchy is mounted: workloads cannot be told apart; mount one with \
         `mount -t cgroup2 none /sys/fs/cgroup`"
    )]
    None,
}

impl fmt::Display for CgroupMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hierarchy {
            Hierarchy::Unified => write!(f, "version 2, on {}", self.path.display()),
            Hierarchy::V1 { controller } => write!(
                f,
                "version 1, hierarchy of '{controller}', on {}",
                self.path.display()
            ),
        }
    }
}

impl CgroupMount {
    /// The version 1 controller whose hierarchy this is.
    #[must_use]
    pub fn controller(&self) -> Option<&'static str> {
        match self.hierarchy {
            Hierarchy::Unified => None,
            Hierarchy::V1 { controller } => Some(controller),
        }
    }

    /// The hierarchy to use on this host.
    ///
    /// # Errors
    /// If none is mounted.
    pub fn detect() -> Result<Self, CgroupError> {
        let mounts = std::fs::read("/proc/self/mountinfo").map_err(CgroupError::Mounts)?;
        Self::choose(&String::from_utf8_lossy(&mounts)).ok_or(CgroupError::None)
    }

    /// A hybrid host has version 2 mounted as well, but its containers and units are surely in the version 1
    /// hierarchies of the controllers; hence these first: `pids`, else `memory`, else `cpu`.
    fn choose(mountinfo: &str) -> Option<Self> {
        let mounts: Vec<_> = mountinfo.lines().filter_map(MountLine::parse).collect();
        let v1 = ["pids", "memory", "cpu"].into_iter().find_map(|controller| {
            let mount = mounts.iter().find(|mount| mount.is_v1(controller))?;
            Some(mount.chosen(Hierarchy::V1 { controller }))
        });
        v1.or_else(|| {
            Some(
                mounts
                    .iter()
                    .find(|mount| mount.kind == "cgroup2")?
                    .chosen(Hierarchy::Unified),
            )
        })
    }

    /// The path, in this hierarchy, of the process whose `/proc/PID/cgroup` this is.
    pub(super) fn path_in(&self, cgroups: &str) -> Option<String> {
        cgroups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let ours = match self.hierarchy {
                Hierarchy::Unified => controllers.is_empty(),
                Hierarchy::V1 { controller } => controllers.split(',').any(|name| name == controller),
            };
            ours.then(|| path.to_owned())
        })
    }

    /// Where a cgroup of this path is in the file system.
    pub(super) fn directory(&self, path: &str) -> PathBuf {
        let below = path.strip_prefix(self.root.as_str()).unwrap_or(path);
        self.path.join(below.trim_start_matches('/'))
    }

    /// The reverse of [`CgroupMount::directory`].
    pub(super) fn path_of(&self, directory: &Path) -> Option<String> {
        let below = directory.strip_prefix(&self.path).ok()?;
        let below = String::from_utf8_lossy(below.as_os_str().as_bytes());
        Some(format!("{}/{below}", self.root.trim_end_matches('/')))
    }
}

/// The parts of a line of `/proc/self/mountinfo` that matter here.
struct MountLine<'a> {
    root: &'a str,
    path: String,
    kind: &'a str,
    options: &'a str,
}

impl<'a> MountLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, path) = (mount.next()?, unescape(mount.next()?));
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem.next()?;
        Some(Self {
            root,
            path,
            kind,
            options: filesystem.nth(1)?,
        })
    }

    fn is_v1(&self, controller: &str) -> bool {
        self.kind == "cgroup" && self.options.split(',').any(|option| option == controller)
    }

    fn chosen(&self, hierarchy: Hierarchy) -> CgroupMount {
        CgroupMount {
            hierarchy,
            path: (&self.path).into(),
            root: self.root.to_owned(),
        }
    }
}

/// The kernel writes blanks in a mount's path as `\040`.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TMPFS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n";
    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V2_BESIDE: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const SYSTEMD: &str = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
    const PIDS: &str = "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
    const MEMORY: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    const CPU: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn the_hierarchy_that_tells_workloads_apart() {
        let v1 = |controller| Hierarchy::V1 { controller };
        for (mounts, hierarchy, path) in [
            (vec![V2], Hierarchy::Unified, "/sys/fs/cgroup"),
            (
                vec![TMPFS, V2_BESIDE, SYSTEMD, CPU, MEMORY, PIDS],
                v1("pids"),
                "/sys/fs/cgroup/pids",
            ),
            (
                vec![TMPFS, V2_BESIDE, CPU, MEMORY],
                v1("memory"),
                "/sys/fs/cgroup/memory",
            ),
            (vec![TMPFS, SYSTEMD, CPU], v1("cpu"), "/sys/fs/cgroup/cpu,cpuacct"),
            (
                vec![TMPFS, V2_BESIDE, SYSTEMD],
                Hierarchy::Unified,
                "/sys/fs/cgroup/unified",
            ),
        ] {
            let mount = CgroupMount::choose(&mounts.concat()).unwrap();
            assert_eq!((mount.hierarchy, mount.path.to_str().unwrap()), (hierarchy, path));
        }
        assert_eq!(CgroupMount::choose(TMPFS), None);
        assert_eq!(CgroupMount::choose("rubbish\n - \n1 2 3 4 5 - cgroup2\n"), None);
    }

    #[test]
    fn a_process_is_looked_up_in_the_same_hierarchy() {
        let cgroups = "9:name=systemd:/s\n8:pids:/p\n2:cpu,cpuacct:/c:d\n0::/u\nrubbish\n";
        for (mounts, path) in [(V2, "/u"), (PIDS, "/p"), (CPU, "/c:d")] {
            assert_eq!(
                CgroupMount::choose(mounts).unwrap().path_in(cgroups).unwrap(),
                path
            );
        }
    }

    #[test]
    fn a_part_of_a_hierarchy_may_be_mounted() {
        let mounts = "39 31 0:36 /docker/ab /sys/fs/cgroup/my\\040pids rw - cgroup cgroup rw,pids\n";
        let mount = CgroupMount::choose(mounts).unwrap();
        let directory = mount.directory("/docker/ab/x/y");
        assert_eq!(directory, Path::new("/sys/fs/cgroup/my pids/x/y"));
        assert_eq!(mount.path_of(&directory).unwrap(), "/docker/ab/x/y");
        assert_eq!(mount.path_of(Path::new("/etc")), None);
    }
}
