//! Kernels to test on: Debian's, for the machines of clouds, because they have everything built in that a test needs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::debian::Root;

/// A kernel by the name that it is asked for, and the Debian suite that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    pub(crate) version: &'static str,
    pub(crate) name: &'static str,
    /// Processors of its machine. What needs two to go wrong shall be able to; but 7.2 was ended in three of four runs, and 6.12 now and then,
    /// by a fault of the emulator that needs two as well (see `boot`).
    pub(crate) processors: u32,
}

/// The kernels that Sensor supports, by their ends: the oldest, the long-term ones between, the newest.
pub(crate) const KERNELS: [Suite; 4] = [
    Suite {
        version: "5.10",
        name: "bullseye",
        processors: 2,
    },
    Suite {
        version: "6.1",
        name: "bookworm",
        processors: 2,
    },
    Suite {
        version: "6.12",
        name: "trixie",
        processors: 1,
    },
    Suite {
        version: "7.2",
        name: "sid",
        processors: 1,
    },
];

/// The package that depends on the newest kernel of a suite.
const LATEST: &str = "linux-image-cloud-amd64";

/// A kernel that can be booted.
pub(crate) struct Kernel {
    pub(crate) suite: Suite,
    /// As `uname -r` says it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
}

/// The suite of a kernel version given on the command line.
pub(crate) fn parse(version: &str) -> Result<Suite, String> {
    let found = KERNELS
        .into_iter()
        .find(|suite| suite.version == version || suite.name == version);
    found.ok_or_else(|| {
        format!(
            "the kernels are {}",
            KERNELS.map(|suite| suite.version).join(", ")
        )
    })
}

/// From the cache, else from the mirror.
pub(crate) fn fetch(folder: &Path, suite: Suite) -> Result<Kernel> {
    let cache = folder.join("kernels").join(suite.name);
    if let Some(kernel) = cached(&cache, suite) {
        return Ok(kernel);
    }
    println!(
        "kernel {}: fetching the newest kernel of Debian {}",
        suite.version, suite.name
    );
    let root = Root::open(folder, suite.name)?;
    let package = package(&root)?;
    root.extract(&package, &cache.join("package"))
        .with_context(|| format!("kernel {} from Debian {}", suite.version, suite.name))?;
    keep_image(&cache).with_context(|| format!("package {package} of Debian {}", suite.name))?;
    cached(&cache, suite).context("the kernel is not where it was just put")
}

fn cached(cache: &Path, suite: Suite) -> Option<Kernel> {
    let release = fs::read_to_string(cache.join("release")).ok()?;
    let image = cache.join("vmlinuz");
    let is_whole = image.exists() && cache.join(MODULES).exists();
    is_whole.then_some(Kernel {
        suite,
        release,
        image,
    })
}

/// The package with the image: named by the one that depends on the newest. In newer suites that one is again only
/// a list of parts, the image's being `linux-binary-…`.
fn package(root: &Root) -> Result<String> {
    let is_kernel = |name: &str| name.starts_with("linux-image-") && name.ends_with("-cloud-amd64");
    let image = root.depends(LATEST)?.into_iter().find(|name| is_kernel(name));
    let image = image.with_context(|| format!("package {LATEST} depends on no kernel"))?;
    let binary = root
        .depends(&image)?
        .into_iter()
        .find(|name| name.starts_with("linux-binary-"));
    Ok(binary.unwrap_or(image))
}

/// Keeps the image, its release and what tests load out of an extracted package. The release is written last: with it the cache is valid.
fn keep_image(cache: &Path) -> Result<()> {
    let package = cache.join("package");
    let (image, release) = find_image(&package)?;
    fs::copy(&image, cache.join("vmlinuz"))?;
    fs::create_dir_all(cache.join(MODULES))?;
    for module in find_modules(&package, &release) {
        let name = module.file_name().context("a module has a name")?;
        fs::copy(&module, cache.join(MODULES).join(name))?;
    }
    fs::write(cache.join("release"), release)?;
    fs::remove_dir_all(package)?;
    Ok(())
}

/// The folder of a kernel's modules in the cache.
const MODULES: &str = "modules";

/// Modules that depend on no other: one to be loaded by tests, and what connects network namespaces.
fn find_modules(package: &Path, release: &str) -> Vec<PathBuf> {
    let folders = ["lib/modules", "usr/lib/modules"].map(|folder| package.join(folder).join(release));
    let places = folders.into_iter().flat_map(|folder| {
        ["dummy.ko", "dummy.ko.xz", "veth.ko", "veth.ko.xz"]
            .map(|name| folder.join("kernel/drivers/net").join(name))
    });
    places.filter(|path| path.exists()).collect()
}

/// What tests load into a kernel.
pub(crate) struct Modules {
    /// As `uname -r` says it.
    pub(crate) release: String,
    /// Files and their names.
    pub(crate) modules: Vec<(String, Vec<u8>)>,
}

/// The modules of every kernel that is in the cache, unpacked by `busybox`.
pub(crate) fn modules(folder: &Path, busybox: &Path) -> Result<Vec<Modules>> {
    let mut all = Vec::new();
    for suite in KERNELS {
        let cache = folder.join("kernels").join(suite.name);
        let Some(kernel) = cached(&cache, suite) else {
            continue;
        };
        let mut modules = Vec::new();
        for entry in fs::read_dir(cache.join(MODULES))? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            modules.push(match name.strip_suffix(".xz") {
                Some(name) => {
                    let output = Command::new(busybox).args(["unxz", "-c"]).arg(&path).output()?;
                    (name.to_owned(), output.stdout)
                }
                None => (name, fs::read(&path)?),
            });
        }
        all.push(Modules {
            release: kernel.release,
            modules,
        });
    }
    Ok(all)
}

/// `boot/vmlinuz-RELEASE`, or `usr/lib/modules/RELEASE/vmlinuz` in newer suites.
fn find_image(package: &Path) -> Result<(PathBuf, String)> {
    let entries = |folder: &str| fs::read_dir(package.join(folder)).into_iter().flatten().flatten();
    let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    for entry in entries("boot") {
        if let Some(release) = name(&entry).strip_prefix("vmlinuz-") {
            return Ok((entry.path(), release.to_owned()));
        }
    }
    for entry in entries("usr/lib/modules") {
        let image = entry.path().join("vmlinuz");
        if image.exists() {
            return Ok((image, name(&entry)));
        }
    }
    bail!("it has no kernel image in boot or usr/lib/modules")
}
