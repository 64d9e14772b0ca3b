//! Installing Debian packages on this machine.

use std::{fs, path::Path, process::Command};

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
    if lists_are_missing() {
        cargo::run(Command::new("apt-get").args(["update", "--quiet=2"]))?;
    }
    if apt_get(packages).is_err() {
        // Lists older than the mirror name packages that it does not have any more.
        cargo::run(Command::new("apt-get").args(["update", "--quiet=2"]))?;
        apt_get(packages).with_context(|| format!("apt could not install {names}"))?;
    }
    Ok(())
}

fn apt_get(packages: &[&str]) -> Result<()> {
    cargo::run(
        Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends", "--quiet=2"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

fn lists_are_missing() -> bool {
    let Ok(lists) = fs::read_dir("/var/lib/apt/lists") else {
        return true;
    };
    !lists
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}
