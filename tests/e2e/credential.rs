//! Who got other credentials, and how.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Credential, CredentialCause, Event, Filter, event};
use sensor_tests::{
    agent::Agent,
    command::{NOBODY, as_nobody, helper, run, succeed},
    history::{History, events},
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        case(
            "credential::a_call_and_a_set_user_id_file_are_told_apart",
            exec_and_call,
        ),
        case(
            "credential::what_the_kernel_allows_is_always_explained",
            explained,
        ),
    ];
    // Only an emulated machine has somebody beside the kernel who can write to its memory.
    if std::env::var_os("SENSOR_TEST_VM").is_some() {
        trials.push(case("credential::what_is_forged_is_unexplained", forged));
    }
    trials
}

const CONFIG: &str = "[capture]\ncalls = true\n";

fn credentials(history: &History) -> Vec<&Credential> {
    let changes = history.bodies(|body| match body {
        event::Body::Credential(credential) => Some(credential),
        _ => None,
    });
    changes.into_iter().map(|(_, change)| change).collect()
}

/// Cause, call, and real and effective user id from before and after.
fn told(change: &Credential) -> (CredentialCause, &str, [u32; 4]) {
    let (before, after) = (
        change.before.unwrap_or_default(),
        change.after.unwrap_or_default(),
    );
    let ids = [before.uid, before.euid, after.uid, after.euid];
    (change.cause(), &change.call, ids)
}

fn exec_and_call() -> Result<()> {
    let agent = Agent::start(CONFIG, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let folder = tempfile::tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let program = folder.path().join("set-user-id");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(&program, Permissions::from_mode(0o4755))?;

    let mut command = Command::new(&program);
    command
        .args([sensor_tests::helper::SWITCH, "exit", "0"])
        .stdin(Stdio::null());
    let pid = succeed(as_nobody(&mut command))?;
    let history = stream.history(pid)?;
    let changes = credentials(&history);
    let told: Vec<_> = changes.iter().map(|change| told(change)).collect();
    ensure!(
        told == [
            (CredentialCause::Call, "setgid", [0; 4]),
            (CredentialCause::Call, "setuid", [0, 0, NOBODY, NOBODY]),
            (CredentialCause::Exec, "", [NOBODY, NOBODY, NOBODY, 0]),
        ],
        "{told:?}"
    );
    let gained = |name: &str| changes[2].gained.iter().any(|gained| gained == name);
    ensure!(
        gained("CAP_SETUID") && gained("CAP_SYS_ADMIN"),
        "{:?}",
        changes[2].gained
    );
    let (process, _) = history.exec()?;
    ensure!((process.uid, process.euid) == (NOBODY, 0), "{process:?}");
    agent.nothing_lost()
}

/// Real programs where they are installed, and every call by itself.
fn explained() -> Result<()> {
    let agent = Agent::start(CONFIG, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    for line in [
        "su -s /bin/sh nobody -c 'true | cat'",
        "setpriv --reuid 1 --regid 1 --clear-groups --bounding-set -all true",
        "setpriv --reuid 1 --inh-caps +net_raw --ambient-caps +net_raw sh -c 'true; true'",
        "setpriv --reuid 1 --regid 1 --clear-groups unshare -Ur sh -c 'id; true'",
        "setpriv --reuid 65534 --no-new-privs su -c true",
        "setpriv --reuid 65534 sh -c 'passwd -S; ping -c1 127.0.0.1; sudo -n true; chsh -l'",
        "setpriv --reuid 65534 --euid 0 sh -c 'true | true'",
        "unshare -U true; unshare -m true; unshare -Urmpf sh -c 'unshare -U true | cat'",
        "capsh --drop=cap_net_raw --user=nobody -- -c true",
        "sg nogroup -c true",
        "runuser -u nobody -- sh -c 'sh -c true & wait'",
    ] {
        for _ in 0..3 {
            // What is not installed, or not allowed here, says nothing.
            run(Command::new("/bin/sh")
                .args(["-c", line])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()))?;
        }
    }
    let pid = succeed(&mut helper("credentials")?)?;
    stream.history(pid)?;
    let got = stream.got();
    let changes: Vec<(&Event, &Credential)> = events(&got.entries)
        .filter_map(|event| match &event.body {
            Some(event::Body::Credential(credential)) => Some((event, credential)),
            _ => None,
        })
        .collect();
    let unexplained = changes
        .iter()
        .find(|(_, change)| change.cause() == CredentialCause::Unexplained);
    ensure!(unexplained.is_none(), "{unexplained:#?}");
    let own = changes.iter().filter(|(event, _)| {
        let process = event.process.as_ref();
        process
            .and_then(|process| process.id)
            .is_some_and(|id| id.tgid == pid)
    });
    let calls: Vec<&str> = own.map(|(_, change)| change.call.as_str()).collect();
    for call in [
        "setresgid",
        "setresuid",
        "setfsuid",
        "setreuid",
        "setregid",
        "setfsgid",
        "setgid",
        "setuid",
    ] {
        let count = calls.iter().filter(|known| **known == call).count();
        ensure!(count >= 4, "{count} times {call} in four threads: {calls:?}");
    }
    drop(got);
    agent.nothing_lost()
}

fn forged() -> Result<()> {
    let agent = Agent::start(CONFIG, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    ensure!(Path::new("/proc/self").exists(), "no /proc");
    for (index, moment) in ["call", "exec", "fork", "exit", "set"].into_iter().enumerate() {
        let base = 0x5e45_0100 + index as u32 * 0x100;
        let pid = succeed(helper("forged")?.args([moment, &base.to_string()]))?;
        let history = stream.history(pid)?;
        let changes = credentials(&history);
        let told: Vec<_> = changes.iter().map(|change| told(change)).collect();
        let found = changes
            .iter()
            .find(|change| change.cause() == CredentialCause::Unexplained)
            .with_context(|| format!("nothing is unexplained at {moment}: {told:?}"))?;
        let before = found.before.context("nothing before")?;
        ensure!(
            before.uid == base && before.suid == base + 2,
            "{moment}: {found:?}"
        );
        ensure!(
            found.after.is_some_and(|after| after.uid == 0),
            "{moment}: {found:?}"
        );
        let noticed = if moment == "set" { "call" } else { moment };
        ensure!(found.noticed == noticed, "{moment}: {found:?}");
        let unexplained = changes
            .iter()
            .filter(|change| change.cause() == CredentialCause::Unexplained);
        ensure!(unexplained.count() == 1, "{moment}: {told:?}");
    }
    agent.nothing_lost()
}
