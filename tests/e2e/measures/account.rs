//! A user whose account is locked and who runs nothing any more, on a host whose `/etc` is a copy that only this test and its agent see.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::{
    mount::{MountPropagationFlags, mount_bind, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};
use sensor_proto::v1::Filter;
use sensor_tests::{
    agent::Agent,
    command::{helper, spawn},
    helper::SWITCH,
    patience::{patience, wait_for},
    stream::Stream,
};

use super::{Bpffs, Suspect, done, respond};
use crate::knowledge::ask;

const UID: u32 = 54_321;
const NAME: &str = "sensor-test";
const OPEN: &str = "sensor-test:$6$salt$hash:19000:0:99999:7:::\n";

/// The mounts of a thread are its own once it has left those of the process; what it starts sees them.
pub(super) fn revoked() -> Result<()> {
    if !Path::new("/proc/self/loginuid").exists() {
        eprintln!("this kernel keeps no login uid");
        return Ok(());
    }
    let thread = std::thread::spawn(|| {
        let etc = tempfile::tempdir()?;
        own_etc(etc.path())?;
        locked_and_given_back()
    });
    thread.join().map_err(|_| anyhow!("the thread has panicked"))?
}

fn own_etc(copy: &Path) -> Result<()> {
    let status = Command::new("cp").args(["-a", "/etc/."]).arg(copy).status()?;
    ensure!(status.success(), "cp ended with {status}");
    let append = |name: &str, line: &str| -> Result<()> {
        let path = copy.join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, text + line).context(name.to_owned())
    };
    append("passwd", &format!("{NAME}:x:{UID}:{UID}::/nonexistent:/bin/sh\n"))?;
    append("shadow", OPEN)?;
    // SAFETY: the thread shares no descriptors or memory less than before.
    unsafe { unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }.context("no mounts of its own")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(mount_bind(copy, "/etc")?)
}

/// A program that the user starts from a login, and what became of it.
fn runs() -> Result<bool> {
    let mut program = helper("login-uid")?;
    let status = program.args([&UID.to_string(), "/bin/true"]).status()?;
    Ok(status.success())
}

fn shadow() -> Result<String> {
    let text = fs::read_to_string("/etc/shadow")?;
    let line = text.lines().find(|line| line.starts_with(NAME));
    Ok(line.context("no such account")?.to_owned() + "\n")
}

fn locked_and_given_back() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let programs = tempfile::tempdir()?;
    fs::set_permissions(programs.path(), PermissionsExt::from_mode(0o755))?;
    let guarded = programs.path().join("guarded");
    fs::copy(std::env::current_exe()?, &guarded)?;
    let agent = Agent::start(
        &format!(
            "[respond]\nbpffs = {:?}\nprotected = [{guarded:?}]\n",
            bpffs.path()
        ),
        None,
    )?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    ensure!(runs()? && shadow()? == OPEN, "it does not begin as it should");
    let mut shell = helper("login-uid")?;
    shell
        .args([&UID.to_string(), "/bin/sh", "-c", "read line"])
        .stdin(Stdio::piped());
    let mut shell = Suspect(spawn(&mut shell)?);
    let comm = format!("/proc/{}/comm", shell.0.id());
    wait_for("the user's shell", patience(10), || {
        let name = fs::read_to_string(&comm)?;
        Ok(matches!(name.trim(), "sh" | "dash" | "busybox").then_some(()))
    })?;

    // As the user's own half of sshd is: protected from everything but this. What root runs from that login stays.
    let session = |become_it: &[&str]| -> Result<Suspect> {
        let mut program = helper("login-uid")?;
        program
            .arg(UID.to_string())
            .args(become_it)
            .arg(&guarded)
            .args([SWITCH, "wait"])
            .stdin(Stdio::piped());
        Ok(Suspect(spawn(&mut program)?))
    };
    let (mut own, mut roots) = (session(&["--become"])?, session(&[])?);
    for process in [&own, &roots] {
        let executable = format!("/proc/{}/exe", process.0.id());
        wait_for("the protected program to run", patience(10), || {
            Ok((fs::read_link(&executable)? == guarded).then_some(()))
        })?;
    }

    let plan = ask(&agent, &["respond", "revoke", NAME, "--dry-run"])?;
    ensure!(plan.contains("the guard lets it") && runs()?, "{plan}");
    let number = respond(&agent, &["revoke", NAME, "--why", "a drill"])?;
    let outcome = done(&stream, &number)?;
    ensure!(
        outcome.detail.contains(&format!(
            "locked: {NAME}; 2 processes ended; process {} was spared",
            roots.0.id()
        )),
        "{}",
        outcome.detail
    );
    for ended in [&mut shell, &mut own] {
        let end = ended.0.wait()?;
        ensure!(end.signal() == Some(9), "it ended with {end}");
    }
    ensure!(roots.0.try_wait()?.is_none(), "what root runs was ended");
    ensure!(
        shadow()? == "sensor-test:!$6$salt$hash:19000:0:99999:7::1:\n",
        "{}",
        shadow()?
    );
    ensure!(!runs()?, "what is left of the login still starts programs");

    let undone = respond(&agent, &["undo", &number])?;
    done(&stream, &undone)?;
    ensure!(shadow()? == OPEN, "{}", shadow()?);
    ensure!(runs()?, "the user cannot start programs again");
    let root = ask(&agent, &["respond", "revoke", "root", "--dry-run"])?;
    ensure!(root.contains("refuses it"), "{root}");
    agent.nothing_lost()
}
