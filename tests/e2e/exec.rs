//! What is known about a program that starts: to the byte, however odd it is.

use std::{
    ffi::{CString, OsStr, OsString},
    fs,
    io::Write as _,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::PermissionsExt},
    },
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use rustix::fs::MemfdFlags;
use sensor_tests::{
    command::{helper, marker, succeed},
    helper::SWITCH,
    stack::Stack,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("exec::100_kb_of_arguments_are_cut_and_counted", long_arguments),
        case("exec::bytes_that_are_not_utf8_are_kept", not_utf8),
        case("exec::memory_file", memfd),
        case("exec::unlinked_file", unlinked),
        case("exec::upper_layer_of_an_overlay", overlay),
        case("exec::arguments_that_are_not_in_memory", arguments_not_resident),
        case("exec::no_arguments_but_empty_ones", empty_arguments),
    ]
}

/// Bytes of arguments that an exec event carries at least, and at most.
const CARRIED: usize = 8192;

fn long_arguments() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let mut args = vec!["/bin/true".to_owned(), marker()];
    let filler = (0..).map(|number| format!("{number:x>100}"));
    args.extend(filler.take(1000));
    let sent = args.join("\0") + "\0";
    ensure!(sent.len() > 100_000, "the test itself is wrong");
    let pid = succeed(Command::new(&args[0]).args(&args[1..]))?;

    let history = stream.history(pid)?;
    let (process, exec) = history.exec()?;
    ensure!(process.args_truncated, "not marked as truncated");
    let total = process.args_total_bytes;
    ensure!(
        total == sent.len() as u64,
        "{} bytes of arguments came as {total}",
        sent.len()
    );
    let got = process.args.join("\0");
    let lengths = CARRIED - 1..=CARRIED;
    ensure!(
        lengths.contains(&got.len()),
        "{} bytes of arguments were carried",
        got.len()
    );
    ensure!(
        sent.starts_with(&got),
        "the arguments differ from those that were sent"
    );
    ensure!(!exec.args_unreadable, "marked as unreadable");
    Ok(())
}

fn not_utf8() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let folder = tempfile::tempdir()?;
    let cwd = folder.path().join(OsStr::from_bytes(b"cwd-\xc3("));
    fs::create_dir(&cwd)?;
    let program = copy_self(&cwd.join(OsStr::from_bytes(b"program-\xff\xfe")))?;
    let odd = OsStr::from_bytes(b"odd-\x80\xc0\xaf");
    let pid = succeed(
        Command::new(&program)
            .args([SWITCH, "exit", "0"])
            .arg(odd)
            .current_dir(&cwd),
    )?;

    let history = stream.history(pid)?;
    let (process, exec) = history.exec()?;
    ensure!(
        process.executable_raw == program.as_bytes(),
        "executable {:?}",
        process.executable_raw
    );
    ensure!(
        process.cwd_raw == cwd.as_os_str().as_bytes(),
        "cwd {:?}",
        process.cwd_raw
    );
    ensure!(
        exec.filename_raw == program.as_bytes(),
        "file name {:?}",
        exec.filename_raw
    );
    let args: [&[u8]; 5] = [
        program.as_bytes(),
        SWITCH.as_bytes(),
        b"exit",
        b"0",
        odd.as_bytes(),
    ];
    ensure!(process.args_raw == args, "arguments {:?}", process.args_raw);
    ensure!(
        process.executable.ends_with(r"program-\xff\xfe"),
        "text of the executable {:?}",
        process.executable
    );
    ensure!(
        process.args.last().is_some_and(|arg| arg == r"odd-\x80\xc0\xaf"),
        "text of arguments {:?}",
        process.args
    );
    Ok(())
}

fn memfd() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let name = marker();
    let mut file = fs::File::from(rustix::fs::memfd_create(&name, MemfdFlags::empty())?);
    file.write_all(&fs::read(std::env::current_exe()?)?)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let pid = succeed(Command::new(&path).args([SWITCH, "exit", "0"]))?;

    let history = stream.history(pid)?;
    let (process, exec) = history.exec()?;
    ensure!(exec.memfd, "not marked as a memory file: {exec:?}");
    ensure!(exec.filename == path, "file name {:?}", exec.filename);
    ensure!(
        process.executable.contains(&format!("memfd:{name}")),
        "executable {:?}",
        process.executable
    );
    Ok(())
}

fn unlinked() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let folder = tempfile::tempdir()?;
    let program = copy_self(&folder.path().join("gone"))?;
    // Open for reading only: a file that is open for writing cannot be executed. Not closed on exec.
    let file = rustix::fs::open(&program, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
    fs::remove_file(&program)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let pid = succeed(Command::new(path).args([SWITCH, "exit", "0"]))?;

    let history = stream.history(pid)?;
    let (_, exec) = history.exec()?;
    ensure!(
        exec.unlinked && !exec.memfd,
        "expected unlinked and no memory file: {exec:?}"
    );
    Ok(())
}

fn overlay() -> Result<()> {
    let stack = Stack::shared()?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(at(name))?;
    }
    copy_self(&at("lower/original"))?;
    let options = CString::new(format!(
        "lowerdir={},upperdir={},workdir={}",
        at("lower").display(),
        at("upper").display(),
        at("work").display()
    ))?;
    let target = at("merged");
    let mounted = rustix::mount::mount(
        "overlay",
        &target,
        "overlay",
        rustix::mount::MountFlags::empty(),
        options.as_c_str(),
    );
    let blind = stack
        .agent
        .status()?
        .blind_spots
        .iter()
        .any(|spot| spot.contains("overlay"));
    if mounted.is_err() && blind {
        // Neither the file system nor its type information: nothing to see, and that is said.
        return Ok(());
    }
    mounted?;
    let result = (|| {
        fs::copy(at("merged/original"), at("merged/dropped"))?;
        let stream = stack.subscribe()?;
        for (name, upper) in [("original", false), ("dropped", true)] {
            let program = at("merged").join(name);
            let pid = succeed(Command::new(&program).args([SWITCH, "exit", "0"]))?;
            let history = stream.history(pid)?;
            let (process, exec) = history.exec()?;
            ensure!(process.executable == program.to_string_lossy(), "{process:?}");
            ensure!(exec.overlay_upper == (upper && !blind), "{name}: {exec:?}");
        }
        Ok(())
    })();
    rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH)?;
    result
}

fn arguments_not_resident() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let marker = marker();
    let filler = "x".repeat(5000);
    let pid = succeed(helper("mapped-exec")?.args(["/bin/true", &marker, &filler]))?;

    let history = stream.history(pid)?;
    history.complete(2)?;
    let (process, exec) = history.execs()[1];
    ensure!(!exec.args_unreadable, "marked as unreadable");
    ensure!(
        process.args == ["/bin/true", &marker, &filler],
        "arguments {:?}",
        process.args
    );
    Ok(())
}

fn empty_arguments() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let marker = marker();
    let pid = succeed(Command::new("/bin/true").args(["", &marker, ""]))?;
    let history = stream.history(pid)?;
    let (process, _) = history.exec()?;
    ensure!(
        process.args == ["/bin/true", "", &marker, ""],
        "arguments {:?}",
        process.args
    );
    ensure!(
        process.args_total_bytes == 10 + 1 + marker.len() as u64 + 1 + 1,
        "total {}",
        process.args_total_bytes
    );
    Ok(())
}

/// A copy of this program, which runs whatever it is called.
fn copy_self(to: &Path) -> Result<OsString> {
    fs::copy(std::env::current_exe()?, to)?;
    fs::set_permissions(to, PermissionsExt::from_mode(0o755))?;
    Ok(to.as_os_str().to_owned())
}
