//! Installing Debian packages on this machine.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    cargo,
    remedy::{Remedy, is_root},
};

/// Whether packages can be installed here: Debian or one of its children, with apt.
pub(crate) fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && cargo::on_path("apt-get")
}

/// Installs `packages`, saying why; exit status 2 with the command to type where that is not possible.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let names = packages.join(" ");
    if !is_debian() {
        return Err(Remedy::error(format!(
            "{why} is missing. Install what your distribution calls these Debian packages: {names}"
        )));
    }
    if !is_root() {
        return Err(Remedy::error(format!(
            "{why} is missing, and only root can install it. Run: sudo apt-get install --no-install-recommends {names}"
        )));
    }
    eprintln!("setup: installing {names} with apt: {why}");
    // Always: old lists name packages that the mirror has no more, or versions from before a security update.
    if let Err(error) = cargo::run(Command::new("apt-get").args(["update", "--quiet=2"])) {
        eprintln!(
            "setup: apt's lists could not be brought up to date, going on with those that are here: {error:#}"
        );
    }
    cargo::run(
        Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends", "--quiet=2"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
    .with_context(|| format!("apt could not install {names}"))
}

/// The same for packages of services, which are not wanted as such: they do not run, now or after the next boot.
pub(crate) fn install_idle(packages: &[&str], why: &str) -> Result<()> {
    install(packages, why)?;
    let on_systemd = Path::new("/run/systemd/system").exists();
    let mut disable = Command::new("systemctl");
    // Without systemd only the link that would start them is taken away.
    disable
        .args(["disable", "--quiet"])
        .args(on_systemd.then_some("--now"));
    if let Err(error) = cargo::run(disable.args(packages)) {
        eprintln!(
            "setup: {} may run as a service of this host, which no test needs: {error:#}",
            packages.join(" ")
        );
    }
    Ok(())
}
