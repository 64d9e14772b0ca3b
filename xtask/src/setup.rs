//! `cargo xtask setup`: what the build of the kernel programs and the tests need.
//!
//! The kernel programs build the standard library's `core` for the BPF target, so they need the library's source and
//! `-Z` flags: a rustup nightly with `rust-src`, or else Debian's own packages of a recent compiler.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    apt, cargo,
    remedy::{Remedy, is_root},
};

/// Debian's compiler with the source of its standard library, and LLVM for bpf-linker.
const COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const LLVM: [&str; 2] = ["llvm-22-dev", "libpolly-22-dev"];
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LINKER_VERSION: &str = "^0.13";
/// The oldest compiler that builds the workspace.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also what the tests need, those in VMs included.
    #[arg(long)]
    tests: bool,
}

/// A compiler that can build the kernel programs, by the name that rustup knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// A rustup nightly with `rust-src`.
    Nightly,
    /// Debian's compiler, linked into rustup as `ebpf`.
    Debian,
}

impl Toolchain {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::Debian => "ebpf",
        }
    }

    /// The one that is here, if any.
    pub(crate) fn find() -> Option<Self> {
        [Self::Nightly, Self::Debian]
            .into_iter()
            .find(|toolchain| toolchain.is_recent() && toolchain.has_source())
    }

    fn is_recent(self) -> bool {
        let mut rustc = Command::new("rustup");
        rustc.args(["run", self.name(), "rustc", "--version"]);
        cargo::output(&mut rustc).is_ok_and(|said| {
            let version = said.split(' ').nth(1).and_then(major_minor);
            version >= major_minor(OLDEST)
        })
    }

    fn has_source(self) -> bool {
        let mut rustc = Command::new("rustup");
        rustc.args(["run", self.name(), "rustc", "--print", "sysroot"]);
        let Ok(sysroot) = cargo::output(&mut rustc) else {
            return false;
        };
        Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .exists()
    }
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let toolchain = for_build()?;
    if args.tests {
        for_unit_tests()?;
        for_tests()?;
    }
    println!(
        "setup: everything is here; the kernel programs build with the toolchain `{}`",
        toolchain.name()
    );
    Ok(())
}

/// Makes sure that the kernel programs can be built.
pub(crate) fn for_build() -> Result<Toolchain> {
    let toolchain = match Toolchain::find() {
        Some(toolchain) => toolchain,
        None => install_toolchain()?,
    };
    if find_linker().is_none() {
        install_linker()?;
    }
    Ok(toolchain)
}

/// Whether the kernel programs can be built without installing anything.
pub(crate) fn is_ready() -> Option<Toolchain> {
    find_linker().and_then(|_| Toolchain::find())
}

/// Makes sure that there is what unit tests need beside a compiler: a bus for the collector's.
pub(crate) fn for_unit_tests() -> Result<()> {
    // Where Debian has it, which is not on everybody's path.
    if cargo::on_path("nats-server") || Path::new("/usr/sbin/nats-server").exists() {
        return Ok(());
    }
    apt::install_idle(
        &["nats-server"],
        "a message bus for the tests of several collectors",
    )
}

/// Makes sure that VMs can be started, Python scripts run and networks made.
pub(crate) fn for_tests() -> Result<()> {
    let needs: [(&str, &str, bool, &str); 4] = [
        (
            "qemu-system-x86_64",
            "qemu-system-x86",
            true,
            "an emulator for the tests on other kernels",
        ),
        ("dpkg-deb", "dpkg", true, "a reader of kernel packages"),
        (
            "/usr/bin/python3",
            "python3-minimal",
            false,
            "a Python for the test of scripts",
        ),
        (
            "/usr/sbin/ip",
            "iproute2",
            false,
            "a wire to a network of its own, for the test of an isolated host",
        ),
    ];
    for (program, package, search, why) in needs {
        let here = if search {
            cargo::on_path(program)
        } else {
            Path::new(program).exists()
        };
        if !here {
            apt::install(&[package], why)?;
        }
    }
    Ok(())
}

fn install_toolchain() -> Result<Toolchain> {
    if !cargo::on_path("rustup") {
        return Err(Remedy::error(
            "rustup is missing: with it one workspace builds with two compilers. Install it from https://rustup.rs",
        ));
    }
    if !apt::is_debian() || !is_root() {
        return Err(Remedy::error(
            "there is no compiler for the kernel programs. Run: \
             rustup toolchain install nightly --profile minimal --component rust-src",
        ));
    }
    apt::install(
        &COMPILER,
        "a compiler for the kernel programs (rustc with the source of its core library)",
    )?;
    cargo::run(Command::new("rustup").args(["toolchain", "link", Toolchain::Debian.name(), "/usr"]))?;
    Toolchain::find().with_context(|| {
        format!(
            "Debian's rustc is installed, but it is older than {OLDEST}, or the source of its core library is not where it should \
             be; `apt-cache policy rustc-web rust-web-src` tells, and bookworm-security has newer ones"
        )
    })
}

/// `1.96.0-nightly` as (1, 96).
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

fn find_linker() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([home.join("bin")]);
    folders.find_map(|folder| Some(folder.join("bpf-linker")).filter(|linker| linker.is_file()))
}

fn install_linker() -> Result<()> {
    if !apt::is_debian() {
        return Err(Remedy::error(
            "the linker of the kernel programs is missing. Run: cargo install bpf-linker --locked",
        ));
    }
    if !Path::new(LLVM_PREFIX).join("bin/llvm-config").exists() {
        apt::install(&LLVM, "LLVM for bpf-linker, which links the kernel programs")?;
    }
    eprintln!(
        "setup: installing bpf-linker with cargo, which takes a minute or two: it links the kernel programs"
    );
    let mut install = cargo::cargo(None);
    install.args([
        "install",
        "bpf-linker",
        "--quiet",
        "--locked",
        "--version",
        LINKER_VERSION,
    ]);
    install
        .args(["--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM_PREFIX);
    cargo::run(&mut install)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(major_minor("1.96.0-nightly"), Some((1, 96)));
        assert_eq!(major_minor("1.9"), Some((1, 9)));
        assert!(major_minor("1.100.0") > major_minor("1.95"));
        assert_eq!(major_minor("unknown"), None);
        assert!(major_minor(OLDEST).is_some());
    }
}
