//! What the kernel refuses by itself: programs that do not run, ends that are not reached, and that it ends in time.
//!
//! Everything here is done to processes, files, cgroups and network namespaces of the tests' own.

mod exec;
mod isolation;
mod network;
mod survival;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use libtest_mimic::Trial;
use sensor::{
    enforce::{Enforcer, Options, Subject},
    time::BootTime,
};
use sensor_tests::{cgroup::Cgroup, command::marker};
use tempfile::TempDir;

pub(crate) use network::Ends;
pub(crate) use survival::play;

pub(crate) fn trials() -> Vec<Trial> {
    [
        exec::trials(),
        network::trials(),
        isolation::trials(),
        survival::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Verdicts of the tests' own: kept in a file system of their own, on the network of one cgroup.
struct Stage {
    enforcer: Enforcer,
    cgroup: Cgroup,
    folder: TempDir,
}

impl Stage {
    fn set() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let cgroup = Cgroup::new(&format!("{}-enforce", marker()))?;
        let options = Options {
            bpffs: Some(folder.path().join("bpf")),
            cgroup: Some(cgroup.unified()?.to_owned()),
        };
        Ok(Self {
            enforcer: Enforcer::open(options)?,
            cgroup,
            folder,
        })
    }

    fn options(&self) -> Result<Options> {
        Ok(Options {
            bpffs: Some(self.bpffs()),
            cgroup: Some(self.cgroup.unified()?.to_owned()),
        })
    }

    fn bpffs(&self) -> PathBuf {
        self.folder.path().join("bpf")
    }

    /// A name in the folder as the kernel will know it.
    fn path(&self, name: &str) -> Result<PathBuf> {
        Ok(self.folder.path().canonicalize()?.join(name))
    }

    fn impose(&mut self, subject: &Subject) -> Result<()> {
        Ok(self.enforcer.impose(subject, later(600))?)
    }

    fn hits(&self, subject: &Subject) -> Result<u64> {
        let verdicts = self.enforcer.list()?;
        let found = verdicts.into_iter().find(|verdict| verdict.subject == *subject);
        Ok(found.with_context(|| format!("no verdict on {subject}"))?.hits)
    }

    /// Whether anything is kept.
    fn is_anything_kept(&self) -> bool {
        self.bpffs().join("sensor").exists()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = self.enforcer.lift_all() {
            eprintln!("cannot lift the verdicts of a test: {error}");
        }
        // Where nothing was ever kept, nothing is mounted.
        let _ = rustix::mount::unmount(self.bpffs(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// So many seconds from now.
fn later(seconds: u64) -> BootTime {
    BootTime::now().after(Duration::from_secs(seconds))
}
