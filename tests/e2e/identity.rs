//! Who did it: users, cgroups, processes that were there before, and the agent itself.

use std::{fs, process::Command, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::Event;
use sensor_tests::{
    agent::Agent,
    cgroup::Cgroup,
    command::{NOBODY, as_nobody, helper, marker, real_path, run, sensor, spawn, succeed, wait},
    history::events,
    stack::Stack,
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("identity::user_after_setuid", user),
        case("identity::cgroup_by_its_path", cgroup),
        case(
            "identity::process_that_was_there_before_the_agent",
            before_the_agent,
        ),
        case("identity::agent_is_not_in_its_own_stream", not_the_agent_itself),
        case(
            "identity::second_process_of_the_agents_program_is_seen",
            same_program,
        ),
    ]
}

fn user() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let marker = marker();
    let pid = succeed(as_nobody(Command::new("/bin/true").arg(&marker)))?;
    let history = stream.history(pid)?;
    let (process, _) = history.exec()?;
    let ids = [process.uid, process.euid, process.gid, process.egid];
    ensure!(ids == [NOBODY; 4], "uid, euid, gid, egid are {ids:?}");
    ensure!(process.user == "nobody", "user {:?}", process.user);
    Ok(())
}

fn cgroup() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let cgroup = Cgroup::new(&marker())?;
    let pid = succeed(cgroup.enter(Command::new("/bin/true").arg(marker())))?;
    let history = stream.history(pid)?;
    let (process, _) = history.exec()?;
    ensure!(
        process.cgroup == cgroup.path(),
        "cgroup {:?}, expected {:?}",
        process.cgroup,
        cgroup.path()
    );
    ensure!(process.cgroup_id != 0, "no cgroup id");
    Ok(())
}

/// Its first event is its end: all that is known of it comes from the snapshot.
fn before_the_agent() -> Result<()> {
    let marker = marker();
    let mut child = spawn(as_nobody(helper("wait")?.arg(&marker)).stdin(Stdio::piped()))?;
    let pid = child.id();
    let start_ticks = start_ticks(pid)?;
    let agent = Agent::start("", None)?;
    let stream = Stream::from_agent(&agent.socket(), Default::default())?;
    drop(child.stdin.take());
    wait(&mut child)?;

    let history = stream.history(pid)?;
    ensure!(
        history.order() == ["exit"],
        "expected nothing but its end, got {:?}",
        history.order()
    );
    let process = history.events[0]
        .process
        .as_ref()
        .context("the event has no process")?;
    let executable = real_path(std::env::current_exe()?)?;
    ensure!(
        process.executable == executable,
        "executable {:?}",
        process.executable
    );
    ensure!(
        process.args.last() == Some(&marker),
        "arguments {:?}",
        process.args
    );
    ensure!(
        process.parent_id.map(|id| id.tgid) == Some(std::process::id()),
        "parent {:?}",
        process.parent_id
    );
    ensure!(
        process.parent_executable == executable,
        "parent's executable {:?}",
        process.parent_executable
    );
    ensure!(
        process.uid == NOBODY && process.user == "nobody",
        "user {} {:?}",
        process.uid,
        process.user
    );
    let nanoseconds = history.id()?.start_time_ns;
    ensure!(
        nanoseconds / 10_000_000 == start_ticks,
        "started at {nanoseconds} ns, by /proc {start_ticks} x 10 ms"
    );
    Ok(())
}

/// Field 22 of /proc/PID/stat, counted behind the name, which may contain anything.
fn start_ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?;
    Ok(rest
        .split(' ')
        .nth(19)
        .context("/proc/PID/stat is short")?
        .parse()?)
}

fn not_the_agent_itself() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    // Makes the agent answer on its socket, read /proc and deliver batches.
    for _ in 0..20 {
        stack.agent.status()?;
        stream.fence()?;
    }
    let got = stream.got();
    let agent = stack.agent.pid();
    let own: Vec<&Event> = events(&got.entries)
        .filter(|event| tgid(event) == Some(agent))
        .collect();
    ensure!(own.is_empty(), "the agent reports itself: {own:#?}");
    Ok(())
}

fn same_program() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let sensor = sensor()?;
    for argument in ["--version", "doctor"] {
        let (pid, _) = run(Command::new(&sensor).arg(argument).stdout(Stdio::null()))?;
        let history = stream.history(pid)?;
        history.complete(1)?;
        let (process, _) = history.exec()?;
        ensure!(
            process.executable == real_path(&sensor)?,
            "executable {:?}",
            process.executable
        );
        ensure!(process.args[1..] == [argument], "arguments {:?}", process.args);
    }
    Ok(())
}

fn tgid(event: &Event) -> Option<u32> {
    event.process.as_ref()?.id.map(|id| id.tgid)
}
