//! Builds the kernel programs and hands their object to the agent, and so it does with the built-in rules.
//!
//! - `SENSOR_EBPF_TOOLCHAIN`: name of the rustup toolchain to build them with (`cargo xtask` sets it). Without it: `nightly`
//!   where that has `rust-src`, else `ebpf`, which `cargo xtask setup` links to the distribution's.
//! - `SENSOR_EBPF=required`: fail where they cannot be built. Otherwise the agent is built without them, which is enough
//!   for everything in userspace, and says so when it is asked to capture.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya_build::{Package, Toolchain};
use object::{
    build::elf::{Builder, SectionData},
    elf,
};

/// The programs that report, and those that refuse.
const OBJECTS: [&str; 2] = ["sensor-ebpf", "sensor-verdict"];

const REMEDY: &str = "run `cargo xtask setup`, which installs what is missing";

fn main() -> Result<()> {
    for name in ["SENSOR_EBPF", "SENSOR_EBPF_TOOLCHAIN", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../sensor-common/src");
    println!("cargo::rerun-if-changed=../rules");
    embed_rules(Path::new("../rules")).context("cannot embed the rules")?;

    let folder = PathBuf::from(env::var("OUT_DIR")?);
    let required = env::var("SENSOR_EBPF").is_ok_and(|value| value == "required");
    match toolchain() {
        Ok(toolchain) => build(&toolchain).with_context(|| {
            format!("the kernel programs do not build with the toolchain '{toolchain}'; if it is incomplete, {REMEDY}")
        }),
        Err(why) if required => bail!("cannot build the kernel programs: {why}; {REMEDY}"),
        Err(why) => {
            println!("cargo::warning=building the agent without its kernel programs: {why}; to have them, {REMEDY}");
            OBJECTS.into_iter().try_for_each(|name| fs::write(folder.join(name), [])).context("cannot write empty objects")
        }
    }
}

/// Writes a table of the rules, with their names below the folder; their test events are left out.
fn embed_rules(folder: &Path) -> Result<()> {
    let folder = folder.canonicalize()?;
    let mut names = Vec::new();
    for tactic in fs::read_dir(&folder)? {
        let tactic = tactic?.path();
        if !tactic.is_dir() {
            continue;
        }
        for file in fs::read_dir(&tactic)? {
            let path = file?.path();
            let name = path.strip_prefix(&folder)?.to_string_lossy().into_owned();
            if name.ends_with(".yml") && !name.ends_with(".test.yml") {
                names.push(name);
            }
        }
    }
    names.sort();
    let mut table =
        String::from("/// The name and the text of each.\npub static PACK: &[(&str, &str)] = &[\n");
    for name in names {
        let path = folder.join(&name);
        table.push_str(&format!("    ({name:?}, include_str!({path:?})),\n"));
    }
    table.push_str("];\n");
    Ok(fs::write(
        PathBuf::from(env::var("OUT_DIR")?).join("pack.rs"),
        table,
    )?)
}

fn build(toolchain: &str) -> Result<()> {
    // SAFETY: this program has one thread. Building `core` takes a flag that stable toolchains refuse otherwise.
    unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
    // The kernel programs are the same whatever the agent around them is built with.
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WRAPPER",
        "CLIPPY_ARGS",
    ] {
        // SAFETY: as above.
        unsafe { env::remove_var(name) };
    }
    let package = Package {
        name: "sensor-ebpf",
        root_dir: "../sensor-ebpf",
        ..Package::default()
    };
    // They are built once, and not again for each profile.
    let own = PathBuf::from(env::var("OUT_DIR")?);
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf");
    fs::create_dir_all(&shared).with_context(|| format!("cannot create {}", shared.display()))?;
    // SAFETY: as above.
    unsafe { env::set_var("OUT_DIR", &shared) };
    let built = aya_build::build_ebpf([package], Toolchain::Custom(toolchain));
    // SAFETY: as above.
    unsafe { env::set_var("OUT_DIR", &own) };
    built?;
    OBJECTS.into_iter().try_for_each(|name| {
        let object = fs::read(shared.join(name)).with_context(|| format!("cannot read {name}"))?;
        let object = without_debugging(&object)
            .with_context(|| format!("cannot take the debugging information out of {name}"))?;
        fs::write(own.join(name), object).with_context(|| format!("cannot write {name}"))
    })
}

/// BTF is made from debugging information and is all of it that the kernel asks for; the rest is three quarters of the object, and would be read
/// into memory with it.
fn without_debugging(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object)?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    }
    builder.delete_orphans();
    // The compiler keeps the names of sections with those of symbols, which is more than the writer can.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

/// The toolchain to use, or why there is none.
fn toolchain() -> Result<String> {
    if !on_path("bpf-linker") {
        bail!("bpf-linker is not on the PATH");
    }
    if let Ok(name) = env::var("SENSOR_EBPF_TOOLCHAIN") {
        return Ok(name);
    }
    ["nightly", "ebpf"]
        .into_iter()
        .find(|name| has_library_source(name))
        .map(str::to_owned)
        .ok_or_else(|| {
            anyhow!("neither a rustup nightly with rust-src nor a toolchain called 'ebpf' is there")
        })
}

fn has_library_source(toolchain: &str) -> bool {
    let rustc = Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        .stderr(Stdio::null())
        .output();
    let Ok(output) = rustc else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success()
        && Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
