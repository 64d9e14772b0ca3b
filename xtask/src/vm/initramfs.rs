//! What a test VM consists of: busybox, the static programs under test, a Python with just what it needs to start.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

use super::{cpio::Archive, debian::Root, kernel};
use crate::{binaries::EndToEnd, cargo};

const INIT: &str = include_str!("init.sh");
const PYTHON: &str = "/usr/bin/python3";

/// Files that go to the same place as they have here, with the folders above them.
type Files = BTreeSet<PathBuf>;

/// Writes the archive and returns where it is.
pub(crate) fn build(folder: &Path, end_to_end: &EndToEnd, arguments: &[String]) -> Result<PathBuf> {
    let busybox = busybox(folder)?;
    let python = python()?;
    let path = folder.join("initramfs.cpio");
    let file = File::create(&path).with_context(|| format!("could not create {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));

    folders(&mut archive, &python)?;
    archive.file("init", 0o755, INIT.as_bytes())?;
    archive.device("dev/console", 0o600, (5, 1))?;
    archive.device("dev/null", 0o666, (1, 3))?;
    etc(&mut archive, arguments)?;
    shell(&mut archive, &busybox)?;
    for (name, program) in [
        ("e2e", &end_to_end.tests),
        ("sensor", &end_to_end.programs.sensor),
        ("collector", &end_to_end.programs.collector),
    ] {
        archive.file(&format!("usr/bin/{name}"), 0o755, &read(program)?)?;
    }
    for kernel in kernel::modules(folder, &busybox)? {
        archive.folder(&format!("lib/test-modules/{}", kernel.release), 0o755)?;
        for (name, module) in kernel.modules {
            archive.file(
                &format!("lib/test-modules/{}/{name}", kernel.release),
                0o644,
                &module,
            )?;
        }
    }
    for file in &python {
        archive.file(relative(file), 0o755, &read(file)?)?;
    }
    if let Ok(target) = fs::canonicalize(PYTHON)
        && !python.is_empty()
    {
        archive.link(relative(Path::new(PYTHON)), &target.to_string_lossy())?;
    }
    archive.finish()?;
    Ok(path)
}

fn folders(archive: &mut Archive<impl Write>, files: &Files) -> Result<()> {
    let fixed = [
        "dev",
        "etc",
        "bin",
        "proc",
        "sys",
        "tmp",
        "run",
        "root",
        "usr",
        "usr/bin",
        "lib",
        "lib/test-modules",
        "var",
        "var/lib",
    ];
    let mut all: BTreeSet<&str> = fixed.into_iter().collect();
    for file in files {
        all.extend(
            file.ancestors()
                .skip(1)
                .map(relative)
                .filter(|folder| !folder.is_empty()),
        );
    }
    // Python complains where the folder of its compiled modules is missing, even if it needs none.
    let library = files
        .iter()
        .find(|file| file.ends_with("os.py"))
        .and_then(|file| file.parent());
    let compiled = library.map(|library| format!("{}/lib-dynload", relative(library)));
    all.extend(compiled.as_deref());
    for folder in all {
        archive.folder(folder, if folder == "tmp" { 0o1777 } else { 0o755 })?;
    }
    Ok(())
}

fn etc(archive: &mut Archive<impl Write>, arguments: &[String]) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let quoted: Vec<String> = arguments
        .iter()
        .map(|argument| format!("'{}'", argument.replace('\'', r"'\''")))
        .collect();
    archive.file("etc/build-time", 0o644, now.to_string().as_bytes())?;
    archive.file("etc/e2e-arguments", 0o644, quoted.join(" ").as_bytes())?;
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n")?;
    let users = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
    archive.file("etc/passwd", 0o644, users)?;
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    Ok(())
}

/// The shell is a file of its own and not a link to the others': the tests tell it from them by its path.
fn shell(archive: &mut Archive<impl Write>, busybox: &Path) -> Result<()> {
    let content = read(busybox)?;
    for path in ["bin/busybox", "bin/sh"] {
        archive.file(path, 0o755, &content)?;
    }
    let applets = cargo::output(Command::new(busybox).arg("--list"))?;
    for applet in applets
        .lines()
        .filter(|applet| !matches!(*applet, "busybox" | "sh" | "init" | "linuxrc"))
    {
        for folder in ["bin", "usr/bin"] {
            archive.link(&format!("{folder}/{applet}"), "/bin/busybox")?;
        }
    }
    Ok(())
}

/// Debian's static busybox, taken out of its package: installing it would replace the one that is installed.
fn busybox(folder: &Path) -> Result<PathBuf> {
    let package = folder.join("busybox");
    let find = || {
        ["bin/busybox", "usr/bin/busybox"]
            .map(|path| package.join(path))
            .into_iter()
            .find(|path| path.exists())
    };
    if find().is_none() {
        Root::open(folder, "bookworm")?.extract("busybox-static", &package)?;
    }
    find().context("package busybox-static has no busybox")
}

/// The interpreter, the libraries that it is linked with and the modules that it loads when it starts.
fn python() -> Result<Files> {
    let mut files =
        Files::from([fs::canonicalize(PYTHON).with_context(|| format!("could not find {PYTHON}"))?]);
    let libraries = cargo::output(Command::new("ldd").arg(PYTHON))?;
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    files.extend(libraries.map(PathBuf::from));
    let modules = "import sys\nfor m in list(sys.modules.values()):\n f = getattr(m, '__file__', None)\n if f: print(f)";
    let modules = cargo::output(Command::new(PYTHON).args(["-I", "-c", modules]))?;
    files.extend(
        modules
            .lines()
            .map(PathBuf::from)
            .filter(|path| path.is_absolute() && path.exists()),
    );
    Ok(files)
}

fn relative(path: &Path) -> &str {
    path.to_str().unwrap_or_default().trim_start_matches('/')
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}
