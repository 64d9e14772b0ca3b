//! What is left out on purpose: by rules, by folding, and what is looked at more closely.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Account, Filter, Operation, Status, event};
use sensor_tests::{
    agent::Agent,
    cgroup::Cgroup,
    command::{NOBODY, as_nobody, helper, marker, real_path, spawn, succeed, wait},
    history::History,
    patience::{patience, wait_for},
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("mute::each_kind_of_rule_leaves_out_what_it_is_for", rules),
        case("mute::the_kernel_learns_what_the_agent_leaves_out", taught),
        case("mute::rules_change_while_events_come", changes),
        case("mute::a_bad_configuration_changes_nothing", bad),
        case("mute::what_is_done_again_is_one_event", folded),
        case("mute::a_watched_file_is_reported_when_it_is_read", watched),
    ]
}

/// Files made in `folder` by `command`, as an agent reports them.
fn made(stream: &Stream, command: &mut Command, folder: &Path, count: u32) -> Result<usize> {
    let pid = succeed(command.arg(folder).args([&count.to_string(), "1", "0"]))?;
    let history = stream.history(pid)?;
    ensure!(
        history.order() == ["fork", "exec", "exit"],
        "a process is told of whatever is muted: {:?}",
        history.order()
    );
    let created = history
        .operations()
        .into_iter()
        .filter(|operation| operation.signal == "file_create");
    Ok(created
        .filter(|operation| Path::new(&operation.path).starts_with(folder))
        .count())
}

fn account(status: &Status, signal: &str) -> Result<Account> {
    let found = status.accounts.iter().find(|account| account.signal == signal);
    found.cloned().with_context(|| format!("no account of {signal}"))
}

fn eaten(status: &Status, kind: &str) -> u64 {
    let mutes = status.mutes.iter().filter(|mute| mute.kind == kind);
    mutes.map(|mute| mute.events).sum()
}

fn rules() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = real_path(folder.path())?;
    let [muted, heard] = ["muted", "heard"].map(|name| Path::new(&path).join(name));
    for folder in [&muted, &heard] {
        fs::create_dir(folder)?;
        std::os::unix::fs::chown(folder, Some(NOBODY), None)?;
    }
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    // The same program under another name, for the rule of executables.
    let copy = Path::new(&path).join("copy");
    fs::copy(std::env::current_exe()?, &copy)?;
    let cgroup = Cgroup::new(&format!("{}-muted", marker()))?;
    let agent = Agent::start(
        &format!(
            "[capture]\noff = [\"file_unlink\"]\n[capture.mute]\npaths = [{muted:?}]\nexecutables = [{copy:?}]\n\
             cgroups = [{:?}]\nusers = [{NOBODY}]\nnetworks = [\"127.9.0.0/16\"]\n",
            cgroup.path()
        ),
        None,
    )?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let maker = || helper("create-files");
    ensure!(
        made(&stream, &mut maker()?, &heard, 20)? == 20,
        "too much is muted"
    );
    ensure!(
        made(&stream, &mut maker()?, &muted, 20)? == 0,
        "the path is not muted"
    );
    let mut other = Command::new(&copy);
    other.args(["helper", "create-files"]).stdin(Stdio::null());
    ensure!(
        made(&stream, &mut other, &heard, 20)? == 0,
        "the executable is not muted"
    );
    ensure!(
        made(&stream, cgroup.enter(&mut maker()?), &heard, 20)? == 0,
        "the cgroup is not muted"
    );
    ensure!(
        made(&stream, as_nobody(&mut maker()?), &heard, 20)? == 0,
        "the user is not muted"
    );
    for (address, reported) in [("127.9.1.1", false), ("127.8.1.1", true)] {
        // Nobody listens there: an attempt is all that is wanted.
        let attempt = std::net::TcpStream::connect((address, 1));
        ensure!(attempt.is_err(), "something listens on {address}");
        stream.fence()?;
        let own = History::of(&stream.got().entries, std::process::id());
        let connects = own.bodies(|body| match body {
            event::Body::Connect(connect) => connect.tuple.clone(),
            _ => None,
        });
        let is_reported = connects.iter().any(|(_, tuple)| tuple.remote_address == address);
        ensure!(is_reported == reported, "{address} reported: {is_reported}");
    }
    agent.nothing_lost()?;
    let status = agent.status()?;
    for (kind, least) in [
        ("signal", 20),
        ("path", 20),
        ("executable", 20),
        ("cgroup", 20),
        ("user", 20),
        ("network", 2),
    ] {
        ensure!(
            eaten(&status, kind) >= least,
            "{kind} left out {}: {:#?}",
            eaten(&status, kind),
            status.mutes
        );
    }
    Ok(())
}

/// What is muted does not reach the agent any more once it has been there.
fn taught() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cgroup = Cgroup::new(&format!("{}-taught", marker()))?;
    let agent = Agent::start(
        &format!(
            "[capture]\nring_bytes_bulk = 65536\nwatermark_bytes = 4096\n[capture.mute]\ncgroups = [{:?}]\n",
            cgroup.path()
        ),
        None,
    )?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let maker = || -> Result<usize> {
        let mut command = helper("create-files")?;
        made(&stream, cgroup.enter(&mut command), folder.path(), 200)
    };
    maker()?;
    // The agent is stopped: what happens now has no place in so small a ring, unless it never gets there.
    let before = account(&agent.status()?, "file_create")?;
    let child = {
        let _stopped = Stopped::new(agent.pid())?;
        let mut command = helper("create-files")?;
        succeed(
            cgroup
                .enter(&mut command)
                .arg(folder.path())
                .args(["2000", "1", "0"]),
        )?
    };
    stream.history(child)?;
    let after = agent.settled()?;
    let after_account = account(&after, "file_create")?;
    ensure!(
        after_account.muted + after.recursion_misses >= before.muted + 2000
            && after_account.lost == before.lost,
        "the kernel does not mute by itself: {before:?}, {after_account:?}"
    );
    Ok(())
}

fn changes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = real_path(folder.path())?;
    let agent = Agent::start("", None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let mut child = spawn(helper("create-files")?.arg(&path).args(["1500", "1", "1"]))?;
    sleep(Duration::from_millis(300));
    for round in 0..6 {
        let paths = if round % 2 == 0 {
            format!("[capture.mute]\npaths = [{path:?}]\n")
        } else {
            String::new()
        };
        let said = agent.reload(&paths)?;
        ensure!(said.contains("capture.mute.paths"), "the agent says {said:?}");
        sleep(Duration::from_millis(200));
    }
    let pid = child.id();
    ensure!(wait(&mut child)?.success(), "the helper failed");
    let history = stream.history(pid)?;
    let created: BTreeSet<_> = history
        .operations()
        .into_iter()
        .filter(|operation| operation.signal == "file_create" && operation.path.starts_with(&path))
        .map(|operation| operation.path.clone())
        .collect();
    ensure!(
        !created.is_empty() && created.len() < 1500,
        "{} of 1500 are reported: rules had no effect, or lasted",
        created.len()
    );
    let status = agent.settled()?;
    ensure!(
        status.accounts.iter().all(|account| account.lost == 0),
        "events were lost: {:#?}",
        status.accounts
    );
    // The rule is gone by now, and its count with it; the account is not. Where the kernel lets programs be preempted (7.2), it skips
    // runs of a program that another task is in, and counts them.
    let told = account(&status, "file_create")?.muted + created.len() as u64;
    ensure!(
        told + status.recursion_misses >= 1500,
        "{told} of 1500 are reported or muted, {} runs were skipped",
        status.recursion_misses
    );
    ensure!(eaten(&status, "path") == 0, "{:?}", status.mutes);
    Ok(())
}

fn bad() -> Result<()> {
    let agent = Agent::start("[capture.mute]\nusers = [12345]\n", None)?;
    let audit = || -> Result<Vec<String>> {
        let text = fs::read_to_string(agent.state().join("audit.jsonl"))?;
        let is_one = |line: &&str| line.contains("\"step\":\"configured\"");
        Ok(text.lines().filter(is_one).map(str::to_owned).collect())
    };
    ensure!(
        matches!(&audit()?[..], [began] if began.contains("left out: user 12345")),
        "{:?}",
        audit()?
    );
    let error = agent
        .reload("[capture.mute]\npaths = [\"relative\"]\n")
        .expect_err("it is refused");
    let error = format!("{error:#}");
    for part in [
        "sensor.toml:2",
        "[capture.mute] paths",
        "absolute",
        "nothing has changed",
    ] {
        ensure!(error.contains(part), "the agent says {error:?}, without {part:?}");
    }
    ensure!(agent.status()?.mutes.len() == 1, "the rules have changed");
    let said = agent.reload("[capture]\ncalls = false\n[capture.mute]\nusers = [12345]\n")?;
    ensure!(
        said.contains("after a restart: capture.calls"),
        "the agent says {said:?}"
    );
    ensure!(audit()?.len() == 1, "nothing has changed: {:?}", audit()?);
    agent.reload(
        "[capture]\noff = [\"setsid\"]\n[capture.mute]\nusers = [12345]\npaths = [\"/nonexistent\"]\n",
    )?;
    let changed = wait_for("the change to be in the audit", patience(5), || {
        Ok(audit()?.get(1).cloned())
    })?;
    for part in [
        "\"who\":\"",
        "in force: capture.mute.paths, capture.off",
        "left out: signal setsid, path /nonexistent, user 12345",
    ] {
        ensure!(changed.contains(part), "{changed} is without {part:?}");
    }
    Ok(())
}

fn folded() -> Result<()> {
    const TIMES: u64 = 5000;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("again");
    fs::write(&file, "")?;
    let file = real_path(&file)?;
    let agent = Agent::start("", None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let pid = succeed(
        helper("open-file")?
            .arg(&file)
            .args([&TIMES.to_string(), "write"]),
    )?;
    let opens = stream.wait("all repetitions", |got| {
        let history = History::of(&got.entries, pid);
        let opens: Vec<Operation> = history
            .operations()
            .into_iter()
            .filter(|operation| operation.signal == "file_open" && operation.path == file)
            .cloned()
            .collect();
        (told(&opens) == TIMES).then_some(opens)
    })?;
    // One, and what came together in each second; on two CPUs, both twice.
    ensure!(
        opens.len() as u64 * 20 < TIMES,
        "{} events for {TIMES} opens",
        opens.len()
    );
    let repeats = opens.iter().filter_map(|open| open.repeats.as_ref());
    for repeats in repeats {
        ensure!(
            repeats.first_ns <= repeats.last_ns && repeats.first_ns > 1_600_000_000_000_000_000,
            "times make no sense: {repeats:?}"
        );
    }
    agent.nothing_lost()
}

/// How many opens these events stand for.
fn told(opens: &[Operation]) -> u64 {
    let count = |open: &Operation| open.repeats.as_ref().map_or(1, |repeats| repeats.count);
    opens.iter().map(count).sum()
}

fn watched() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = real_path(folder.path())?;
    let [secret, plain] = ["secret", "plain"].map(|name| format!("{path}/{name}"));
    fs::create_dir(format!("{path}/keys"))?;
    let key = format!("{path}/keys/key");
    for file in [&secret, &plain, &key] {
        fs::write(file, "")?;
    }
    let agent = Agent::start(
        &format!("[capture]\nwatch = [{secret:?}, \"{path}/keys\"]\n"),
        None,
    )?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let reads = |file: &str| -> Result<usize> {
        let pid = succeed(helper("open-file")?.args([file, "1", "read"]))?;
        let history = stream.history(pid)?;
        Ok(history
            .operations()
            .into_iter()
            .filter(|operation| operation.signal == "file_open" && operation.path == file)
            .count())
    };
    for (file, count) in [(&secret, 1), (&plain, 0), (&key, 1)] {
        ensure!(reads(file)? == count, "{file} is not reported {count} times");
    }
    // Another file takes its name: the name is watched, not the file.
    fs::rename(&plain, &secret)?;
    wait_for("the new file to be watched", patience(10), || {
        Ok((reads(&secret)? == 1).then_some(()))
    })
}

/// A process that does nothing for as long as this lives.
pub(crate) struct Stopped(i32);

impl Stopped {
    pub(crate) fn new(pid: u32) -> Result<Self> {
        signal(pid as i32, libc::SIGSTOP)?;
        Ok(Self(pid as i32))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = signal(self.0, libc::SIGCONT);
    }
}

fn signal(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: takes two numbers; the process is an agent that this test started and has not waited for.
    if unsafe { libc::kill(pid, signal) } != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot signal the agent");
    }
    Ok(())
}
