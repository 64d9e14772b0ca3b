//! Verdicts outlive who imposed them.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor::{
    enforce::{Enforcer, Options, Subject},
    time::BootTime,
};
use sensor_tests::{
    command::spawn,
    patience::{patience, wait_for},
};

use super::{
    Stage,
    exec::{End, Victim},
    later,
};
use crate::case;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        case("enforce::a_verdict_outlives_its_agent_and_ends_in_time", outlives),
        case("enforce::the_next_agent_finds_and_lifts_it", found),
        case("enforce::programs_of_another_version_are_replaced", replaced),
    ]
}

/// First argument that makes this program an agent with one verdict.
const SWITCH: &str = "enforce";

/// `enforce BPFFS CGROUP SECONDS PATH`: refuses a path, says so, and waits to be ended.
pub(crate) fn play() -> Option<Result<()>> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != SWITCH {
        return None;
    }
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    Some(agent(&args))
}

fn agent(args: &[String]) -> Result<()> {
    let argument = |index: usize| args.get(index).context("an argument is missing");
    let mut enforcer = Enforcer::open(Options {
        bpffs: Some(argument(0)?.into()),
        cgroup: Some(argument(1)?.into()),
    })?;
    enforcer.impose(&Subject::Path(argument(3)?.into()), later(argument(2)?.parse()?))?;
    println!("ready");
    loop {
        sleep(Duration::from_secs(60));
    }
}

/// Another process imposes a verdict on `path` and is killed.
fn killed_agent(stage: &Stage, seconds: u64, path: PathBuf) -> Result<()> {
    let mut agent = spawn(
        Command::new(std::env::current_exe()?)
            .arg(SWITCH)
            .arg(stage.bpffs())
            .arg(stage.cgroup.unified()?)
            .arg(seconds.to_string())
            .arg(path)
            .stdout(Stdio::piped()),
    )?;
    let ready = ready(&mut agent);
    agent.kill()?;
    agent.wait()?;
    ready
}

fn ready(agent: &mut Child) -> Result<()> {
    let mut line = String::new();
    let output = agent.stdout.take().context("no output")?;
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line.trim() == "ready", "the agent says {line:?}");
    Ok(())
}

fn outlives() -> Result<()> {
    let mut stage = Stage::set()?;
    let victim = Victim::new(&stage, "victim")?;
    let seconds = patience(3).as_secs();
    killed_agent(&stage, seconds, victim.program.clone())?;
    ensure!(
        victim.start()? == End::Refused,
        "it ran as soon as the agent was dead"
    );
    wait_for("the verdict to end with nobody there", patience(10), || {
        Ok((victim.start()? == End::Ran).then_some(()))
    })?;
    stage.enforcer = Enforcer::open(stage.options()?)?;
    ensure!(stage.is_anything_kept(), "it went by itself");
    let ended = stage.enforcer.sweep(BootTime::now())?;
    ensure!(
        ended.len() == 1 && ended.iter().all(|verdict| verdict.hits > 0),
        "{ended:?}"
    );
    ensure!(!stage.is_anything_kept(), "something is kept for nothing");
    Ok(())
}

fn found() -> Result<()> {
    let mut stage = Stage::set()?;
    let victim = Victim::new(&stage, "victim")?;
    killed_agent(&stage, 600, victim.program.clone())?;
    ensure!(
        victim.start()? == End::Refused,
        "it ran as soon as the agent was dead"
    );
    stage.enforcer = Enforcer::open(stage.options()?)?;
    let subject = Subject::Path(victim.program.clone());
    let verdicts = stage.enforcer.list()?;
    ensure!(
        verdicts
            .iter()
            .map(|verdict| (&verdict.subject, verdict.hits))
            .eq([(&subject, 1)]),
        "{verdicts:?}"
    );
    ensure!(victim.start()? == End::Refused, "it ran after the agent was back");
    ensure!(stage.enforcer.lift(&subject)?, "there was nothing to lift");
    ensure!(victim.start()? == End::Ran, "it is refused after it was lifted");
    ensure!(!stage.is_anything_kept(), "something is kept for nothing");
    Ok(())
}

/// A name in place of the version, as a former one would have left it: the programs stay, and are replaced by ours.
fn replaced() -> Result<()> {
    let mut stage = Stage::set()?;
    let victim = Victim::new(&stage, "victim")?;
    stage.impose(&Subject::Path(victim.program.clone()))?;
    let folder = std::fs::read_dir(stage.bpffs().join("sensor"))?
        .next()
        .context("nothing is kept")??;
    let links = folder.path().join("links");
    let version = std::fs::read_dir(&links)?
        .next()
        .context("nothing is attached")??;
    std::fs::rename(version.path(), links.join("former"))?;
    stage.enforcer = Enforcer::open(stage.options()?)?;
    let names: Vec<_> = std::fs::read_dir(&links)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    ensure!(names == [version.file_name()], "attached are {names:?}");
    ensure!(
        victim.start()? == End::Refused,
        "it ran after the programs were replaced"
    );
    Ok(())
}
