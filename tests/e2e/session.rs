//! Who comes and goes.

use std::{fs, path::Path, process::Command, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Event, Filter, Session, event};
use sensor_tests::{
    agent::Agent,
    command::{NOBODY, helper, real_path, succeed},
    status,
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![case("session::what_wtmp_and_btmp_record", files)];
    if is_su("/usr/bin/su") {
        trials.push(case("session::who_becomes_whom", elevation));
    }
    if Path::new("/proc/self/loginuid").exists() {
        trials.push(case("session::login_that_only_the_kernel_shows", login_uid));
    }
    // It switches auditing on, which is for the whole machine.
    if std::env::var_os("SENSOR_TEST_VM").is_some() {
        trials.push(case("session::what_pam_tells_the_kernel", audit));
    }
    trials
}

/// The real one, not a shell's.
fn is_su(path: &str) -> bool {
    fs::canonicalize(path).is_ok_and(|path| path.ends_with("su"))
}

fn start() -> Result<(Agent, Stream)> {
    let folder = tempfile::tempdir()?.keep();
    let config = format!(
        "[session]\nwtmp = {:?}\nbtmp = {:?}\n",
        folder.join("wtmp"),
        folder.join("btmp")
    );
    fs::write(folder.join("wtmp"), "")?;
    let agent = Agent::start(&config, None)?;
    fs::write(agent.folder().join("logs"), folder.to_string_lossy().as_bytes())?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    Ok((agent, stream))
}

fn log(agent: &Agent, file: &str, rest: [&str; 4]) -> Result<u32> {
    let folder = fs::read_to_string(agent.folder().join("logs"))?;
    let path = format!("{folder}/{file}");
    fs::File::options().append(true).create(true).open(&path)?;
    succeed(helper("log-session")?.arg(path).args(rest))
}

fn session(
    stream: &Stream,
    signal: &str,
    fits: impl Fn(&Event, &Session) -> bool,
) -> Result<(Event, Session)> {
    stream.wait_for(signal, |entry| {
        let Some(sensor_proto::v1::entry::Body::Event(event)) = &entry.body else {
            return None;
        };
        match &event.body {
            Some(event::Body::Session(session)) if session.signal == signal && fits(event, session) => {
                Some((event.clone(), session.clone()))
            }
            _ => None,
        }
    })
}

fn count(stream: &Stream, signal: &str) -> usize {
    let got = stream.got();
    sensor_tests::history::events(&got.entries)
        .filter(
            |event| matches!(&event.body, Some(event::Body::Session(session)) if session.signal == signal),
        )
        .count()
}

/// What was seen, and what was counted as said before, of a signal.
fn tally(agent: &Agent, signal: &str) -> Result<(u64, u64)> {
    let status = agent.status()?;
    let account = status
        .accounts
        .iter()
        .find(|account| account.signal == signal)
        .context("no account")?;
    ensure!(status::adds_up(account), "{account:?}");
    Ok((account.seen, account.aggregated))
}

fn files() -> Result<()> {
    let (agent, stream) = start()?;
    log(&agent, "wtmp", ["7", "pts/7", "alice", "192.0.2.7"])?;
    let (_, login) = session(&stream, "login", |_, login| login.user == "alice")?;
    ensure!(
        (&*login.terminal, &*login.remote, &*login.source) == ("pts/7", "192.0.2.7", "utmp"),
        "{login:?}"
    );
    log(&agent, "btmp", ["6", "ssh:notty", "oracle", "192.0.2.8"])?;
    let (_, failure) = session(&stream, "auth_failure", |_, failure| failure.user == "oracle")?;
    ensure!(failure.remote == "192.0.2.8", "{failure:?}");
    log(&agent, "wtmp", ["8", "pts/7", "", ""])?;
    session(&stream, "logout", |_, logout| {
        logout.user == "alice" && logout.terminal == "pts/7"
    })?;
    for signal in ["login", "logout", "auth_failure"] {
        ensure!(count(&stream, signal) == 1, "{signal}");
        ensure!(
            tally(&agent, signal)? == (1, 0),
            "{signal}: {:?}",
            tally(&agent, signal)?
        );
    }
    agent.nothing_lost()
}

fn elevation() -> Result<()> {
    let (agent, stream) = start()?;
    let su = succeed(
        Command::new("/usr/bin/su")
            .args(["-s", "/bin/sh", "nobody", "-c", "exec /bin/true"])
            .stdin(Stdio::null()),
    )?;
    let (event, elevation) = session(&stream, "elevation", |_, elevation| elevation.uid == Some(NOBODY))?;
    ensure!(
        elevation.from_uid == Some(0) && elevation.user == "nobody",
        "{elevation:?}"
    );
    ensure!(elevation.program.ends_with("/su"), "{elevation:?}");
    ensure!(
        event
            .process
            .as_ref()
            .and_then(|process| process.id)
            .is_some_and(|id| id.tgid == su),
        "{event:?}"
    );
    stream.fence()?;
    ensure!(
        count(&stream, "elevation") == 1,
        "{} elevations",
        count(&stream, "elevation")
    );
    agent.nothing_lost()
}

fn login_uid() -> Result<()> {
    let (agent, stream) = start()?;
    let pid = succeed(helper("login-uid")?.args(["4242", "/bin/true"]))?;
    let (_, login) = session(&stream, "login", |_, login| login.uid == Some(4242))?;
    ensure!(login.source == "kernel", "{login:?}");
    // Before or after it has become the shell of the session.
    let programs = [real_path("/bin/true")?, real_path(std::env::current_exe()?)?];
    ensure!(programs.contains(&login.program), "{login:?} of {pid}");
    ensure!(count(&stream, "login") == 1, "{} logins", count(&stream, "login"));
    agent.nothing_lost()
}

fn audit() -> Result<()> {
    let (agent, stream) = start()?;
    let text = "op=PAM:authentication grantors=? acct=\"mallory\" exe=\"/usr/sbin/sshd\" hostname=192.0.2.9 addr=192.0.2.9 terminal=ssh res=failed";
    succeed(helper("audit")?.arg(text))?;
    // The same happening by another voice.
    log(&agent, "btmp", ["6", "ssh:notty", "mallory", "192.0.2.9"])?;
    let (_, failure) = session(&stream, "auth_failure", |_, failure| failure.user == "mallory")?;
    ensure!(failure.remote == "192.0.2.9", "{failure:?}");
    sensor_tests::patience::wait_for("both voices", sensor_tests::patience::patience(10), || {
        Ok((tally(&agent, "auth_failure")? == (2, 1)).then_some(()))
    })?;
    ensure!(
        count(&stream, "auth_failure") == 1,
        "{} failures",
        count(&stream, "auth_failure")
    );
    agent.nothing_lost()
}
