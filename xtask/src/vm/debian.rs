//! Packages of any Debian suite, without touching this machine's own: apt with a root of its own per suite. The mirror
//! comes from this machine's configuration and the signatures are checked with Debian's keyring.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{apt, cargo, remedy::Remedy};

/// Names another mirror than the one that apt on this machine uses.
const MIRROR_VARIABLE: &str = "SENSOR_DEBIAN_MIRROR";

/// A private apt for one suite, its lists up to date.
pub(crate) struct Root {
    folder: PathBuf,
    suite: String,
}

impl Root {
    /// Prepares the folders and fetches the lists.
    pub(crate) fn open(folder: &Path, suite: &str) -> Result<Self> {
        if !apt::is_debian() {
            return Err(Remedy::error(
                "kernels for the VMs are fetched with apt: run this on Debian, or in a container of it",
            ));
        }
        let root = Self {
            folder: folder.join("apt").join(suite),
            suite: suite.to_owned(),
        };
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.folder.join(part))?;
        }
        let (mirror, keyring) = (mirror()?, keyring()?);
        let line = format!(
            "deb [arch=amd64 signed-by={}] {mirror} {suite} main\n",
            keyring.display()
        );
        fs::write(root.folder.join("sources.list"), line)?;
        root.update(&mirror)?;
        Ok(root)
    }

    /// Names of the packages that `package` depends on.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let output = cargo::output(self.apt("apt-cache").args(["depends", package]))
            .with_context(|| format!("Debian {} has no package {package}", self.suite))?;
        let names = output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }

    /// Downloads `package`, checked against the signed lists, and unpacks it into `into`.
    pub(crate) fn extract(&self, package: &str, into: &Path) -> Result<()> {
        let downloads = self.folder.join("downloads");
        let _ = fs::remove_dir_all(&downloads);
        fs::create_dir_all(&downloads)?;
        cargo::output(
            self.apt("apt-get")
                .args(["download", package])
                .current_dir(&downloads),
        )?;
        let file = fs::read_dir(&downloads)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
        let file = file.with_context(|| format!("apt downloaded no file for {package}"))?;
        fs::create_dir_all(into)?;
        cargo::output(Command::new("dpkg-deb").arg("--extract").arg(file).arg(into))?;
        fs::remove_dir_all(downloads)?;
        Ok(())
    }

    fn update(&self, mirror: &str) -> Result<()> {
        let result = cargo::output(self.apt("apt-get").args(["update", "--error-on=any"]));
        result.map(|_| ()).with_context(|| {
            format!(
                "could not read Debian {} from {mirror}. Check the network, or name a mirror that has this suite: \
                 {MIRROR_VARIABLE}=http://…/debian cargo xtask vm",
                self.suite
            )
        })
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        for option in [
            format!("Dir::Etc::SourceList={folder}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".into(),
            format!("Dir::State::Lists={folder}/lists"),
            "Dir::State::Status=/dev/null".into(),
            format!("Dir::Cache={folder}/cache"),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
            // Descriptions of applications: megabytes that nobody reads here.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            // apt's own user cannot write below a home folder that is closed to others.
            "APT::Sandbox::User=root".into(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// The first archive of Debian itself, not of its security updates, that this machine's apt uses.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var(MIRROR_VARIABLE) {
        return Ok(mirror);
    }
    let format = "$(COMPONENT) $(RELEASE) $(REPO_URI)";
    let targets = cargo::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        format,
        "Created-By: Packages",
    ]))?;
    let mirror = find_mirror(&targets).map(str::to_owned);
    mirror.ok_or_else(|| {
        Remedy::error(format!(
            "apt on this machine uses no Debian mirror. Name one: {MIRROR_VARIABLE}=http://…/debian"
        ))
    })
}

/// Lines are component, release and address. An archive of Debian is told by its path, which all mirrors share.
fn find_mirror(targets: &str) -> Option<&str> {
    targets.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (component, release, address) = (words.next()?, words.next()?, words.next()?);
        let is_archive =
            address.trim_end_matches('/').ends_with("/debian") && !release.ends_with("-security");
        (component == "main" && is_archive).then_some(address)
    })
}

fn keyring() -> Result<PathBuf> {
    let find = || {
        let names = ["debian-archive-keyring.pgp", "debian-archive-keyring.gpg"];
        names
            .into_iter()
            .map(|name| Path::new("/usr/share/keyrings").join(name))
            .find(|path| path.exists())
    };
    if find().is_none() {
        apt::install(
            &["debian-archive-keyring"],
            "Debian's keyring, to check the signatures of kernel packages",
        )?;
    }
    find().context("package debian-archive-keyring has no keyring where it should be")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_archive_and_not_its_neighbours() {
        let targets = "main nodistro http://other.example/node_20.x/\n\
                       main bookworm-security http://mirror.example/debian-security/\n\
                       contrib bookworm http://mirror.example/debian/\n\
                       main bookworm-updates http://mirror.example/debian/\n";
        assert_eq!(find_mirror(targets), Some("http://mirror.example/debian/"));
        assert_eq!(find_mirror("main noble http://mirror.example/ubuntu/\n"), None);
    }
}
