//! What is done to the kernel, to the processes that a host hangs on, and to what programs load.

use std::{fs, path::Path, process::Command, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Filter, Operation, Severity, entry};
use sensor_tests::{
    agent::Agent,
    bpf,
    command::{helper, real_path, spawn, succeed, wait},
    history::History,
    patience::{patience, wait_for},
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        case("integrity::signals_to_protected_processes", protected),
        case("integrity::variables_that_loaders_follow", variables),
        case(
            "integrity::programs_that_are_taken_off_are_put_back_and_told",
            taken_off,
        ),
    ];
    if Path::new("/proc/sys/vm/swappiness").exists() {
        trials.push(case("integrity::parameters_of_the_kernel", sysctl));
    }
    if Path::new(TRACING).exists() {
        trials.push(case("integrity::tracing_of_the_kernel", || tracing(CONFIG)));
        trials.push(case("integrity::tracing_of_the_kernel_on_the_best_hooks", || {
            tracing(BEST)
        }));
    }
    if Path::new(LOCKDOWN).exists() {
        trials.push(case("integrity::lockdown_of_the_kernel", || lockdown(CONFIG)));
        trials.push(case(
            "integrity::lockdown_of_the_kernel_on_the_best_hooks",
            || lockdown(BEST),
        ));
    }
    if module().is_some() {
        trials.push(case("integrity::modules", modules));
        trials.push(case("integrity::modules_on_the_best_hooks", modules_by_file));
    }
    if std::env::var_os("SENSOR_TEST_VM").is_some() {
        trials.push(case("integrity::what_lockdown_forbids", forbidden));
    }
    trials
}

const CONFIG: &str = "[capture]\ncalls = true\n";
const BEST: &str = "[capture]\ncalls = true\nmax_rung = \"lsm\"\n";
const TRACING: &str = "/sys/kernel/tracing/tracing_on";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// The operations of a process by which it made `signal`.
fn of<'a>(history: &'a History, signal: &str) -> Vec<&'a Operation> {
    let mut operations = history.operations();
    operations.retain(|operation| operation.signal == signal);
    operations
}

fn detail<'a>(operation: &'a Operation, name: &str) -> Option<(u64, &'a str)> {
    let found = operation.details.iter().find(|detail| detail.name == name)?;
    Some((found.number, &found.text))
}

/// Runs a line of the shell's own, in a process of its own.
fn shell(line: &str) -> Result<u32> {
    succeed(Command::new("/bin/sh").args(["-c", line]).stdin(Stdio::null()))
}

fn protected() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = format!("{}/guarded", real_path(folder.path())?);
    fs::copy(std::env::current_exe()?, &path)?;
    let start = || {
        let mut command = Command::new(&path);
        spawn(
            command
                .args([sensor_tests::helper::SWITCH, "wait"])
                .stdin(Stdio::piped()),
        )
    };
    // One from before the agent, and one from after.
    let mut before = start()?;
    let agent = Agent::start(&format!("{CONFIG}[respond]\nprotected = [{path:?}]\n"), None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let mut after = start()?;
    let mut other = spawn(helper("wait")?.stdin(Stdio::piped()))?;
    // The agent has heard of it once its exec has come.
    stream.fence()?;
    for (target, signal, number, text) in [(&before, "TERM", 15, "SIGTERM"), (&after, "KILL", 9, "SIGKILL")] {
        let history = stream.history(shell(&format!("kill -{signal} {}", target.id()))?)?;
        let signals = of(&history, "process_signal");
        ensure!(signals.len() == 1, "{signals:#?}");
        ensure!(signals[0].path == path, "{:?}", signals[0]);
        let pid = detail(signals[0], "pid").map(|(number, _)| number);
        ensure!(pid == Some(target.id().into()), "{:?}", signals[0]);
        ensure!(
            detail(signals[0], "signal") == Some((number, text)),
            "{:?}",
            signals[0]
        );
        ensure!(
            detail(signals[0], "result") == Some((0, "delivered")),
            "{:?}",
            signals[0]
        );
    }
    let history = stream.history(shell(&format!("kill -CONT 1; kill -TERM {}", other.id()))?)?;
    ensure!(
        of(&history, "process_signal").is_empty(),
        "{:#?}",
        of(&history, "process_signal")
    );
    for child in [&mut before, &mut after, &mut other] {
        wait(child)?;
    }
    agent.nothing_lost()
}

fn variables() -> Result<()> {
    let agent = Agent::start("", None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let wanted = [
        "LD_LIBRARY_PATH=/nowhere:/else",
        "LD_PRELOAD=",
        "PYTHONPATH=/tmp/x",
    ];
    let mut command = Command::new("/bin/true");
    command
        .env_clear()
        .env("SECRET", "LD_PRELOAD=no")
        .env("LDX", "no")
        .env("XLD_PRELOAD", "no");
    for variable in wanted {
        let (name, value) = variable.split_once('=').context("no value")?;
        command.env(name, value);
    }
    let history = stream.history(succeed(&mut command)?)?;
    let (_, exec) = history.exec()?;
    ensure!(exec.variables == wanted && !exec.variables_unread, "{exec:?}");

    let mut many = Command::new("/bin/true");
    many.env_clear()
        .envs((0..400).map(|number| (format!("A{number:03}"), "x")));
    let history = stream.history(succeed(many.env("LD_AUDIT", "late"))?)?;
    let (_, exec) = history.exec()?;
    ensure!(exec.variables.is_empty() && exec.variables_unread, "{exec:?}");
    agent.nothing_lost()
}

/// Programs on cgroups are those that others can take off. What is theirs is told from what was there before.
fn taken_off() -> Result<()> {
    let before = bpf::cgroup_links()?;
    let agent = Agent::start(CONFIG, None)?;
    let ours = || -> Result<Vec<(u32, u32)>> {
        let mut links = bpf::cgroup_links()?;
        links.retain(|link| !before.contains(link));
        Ok(links)
    };
    let attached = ours()?;
    if attached.is_empty() {
        eprintln!("nothing is attached to cgroups here");
        return Ok(());
    }
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    for (link, _) in &attached {
        bpf::detach(*link)?;
    }
    let put_back = wait_for("the programs to be attached again", patience(15), || {
        let links = ours()?;
        Ok((links.len() == attached.len()).then_some(links))
    })?;
    ensure!(
        put_back
            .iter()
            .all(|(link, _)| attached.iter().all(|(former, _)| former != link)),
        "{put_back:?} were never taken off"
    );
    let told = stream.wait("an incident for each", |got| {
        let incidents = got.entries.iter().filter_map(|entry| match &entry.body {
            Some(entry::Body::Incident(incident)) => Some(incident.clone()),
            _ => None,
        });
        let incidents: Vec<_> = incidents.collect();
        (incidents.len() >= attached.len()).then_some(incidents)
    })?;
    for incident in told {
        ensure!(
            incident.severity() == Severity::High && incident.subject == "host",
            "{incident:#?}"
        );
        for part in ["Somebody took the kernel program '", "it was attached again"] {
            ensure!(incident.summary.contains(part), "{incident:#?}");
        }
    }
    // And once more, by the links that it has now.
    bpf::detach(put_back[0].0)?;
    wait_for("the program to be attached once more", patience(15), || {
        Ok((ours()?.len() == attached.len()).then_some(()))
    })?;
    agent.nothing_lost()
}

fn sysctl() -> Result<()> {
    let agent = Agent::start(CONFIG, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let path = "/proc/sys/vm/swappiness";
    let value = fs::read_to_string(path)?;
    let value = value.trim();
    // A shell that reads byte by byte is given no more than one of it.
    let pid = shell(&format!("value=$(cat {path}); echo $value > {path}"))?;
    let history = stream.history(pid)?;
    let writes = of(&history, "sysctl");
    ensure!(writes.len() == 1 && writes[0].path == path, "{writes:#?}");
    let status = agent.status()?;
    let hook = status
        .hooks
        .iter()
        .find(|hook| hook.signal == "sysctl")
        .context("no hook")?;
    if hook.rung == "cgroup/sysctl" {
        ensure!(
            (&*writes[0].previous, &*writes[0].target) == (value, value),
            "{writes:#?}"
        );
    }
    agent.nothing_lost()
}

fn tracing(config: &str) -> Result<()> {
    let agent = Agent::start(config, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let history = stream.history(shell(&format!("on=$(cat {TRACING}); echo $on > {TRACING}"))?)?;
    let changes = of(&history, "tracing");
    ensure!(changes.len() == 1 && changes[0].path == TRACING, "{changes:#?}");

    let history = stream.history(succeed(&mut helper("kprobe")?)?)?;
    let changes = of(&history, "tracing");
    ensure!(
        changes.len() == 1 && changes[0].call == "perf_event_open",
        "{changes:#?}"
    );
    agent.nothing_lost()
}

fn lockdown(config: &str) -> Result<()> {
    let agent = Agent::start(config, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let history = stream.history(shell(&format!(": >> {LOCKDOWN}"))?)?;
    let changes = of(&history, "lockdown");
    ensure!(changes.len() == 1 && changes[0].path == LOCKDOWN, "{changes:#?}");
    agent.nothing_lost()
}

/// Whether a signal comes from hooks of the security modules.
fn is_asked(agent: &Agent, signal: &str) -> Result<bool> {
    let hooks = agent.status()?.hooks;
    let rung = hooks
        .iter()
        .find(|hook| hook.signal == signal)
        .context("no hook")?;
    Ok(rung.rung.starts_with("lsm/"))
}

fn forbidden() -> Result<()> {
    let agent = Agent::start(BEST, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let history = stream.history(succeed(&mut helper("ports")?)?)?;
    let asked: Vec<_> = of(&history, "lockdown")
        .into_iter()
        .map(|asked| (asked.call.as_str(), detail(asked, "reason").map(|(_, name)| name)))
        .collect();
    let expected: &[_] = if is_asked(&agent, "lockdown")? {
        &[("locked_down", Some("LOCKDOWN_IOPORT"))]
    } else {
        &[]
    };
    ensure!(asked == expected, "{asked:?}");
    agent.nothing_lost()
}

/// A module for this kernel, where the machine was given one.
fn module() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let path = format!("/lib/test-modules/{}/dummy.ko", release.trim());
    Path::new(&path).exists().then_some(path)
}

fn modules() -> Result<()> {
    let agent = Agent::start(CONFIG, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let path = module().context("no module")?;
    let history = stream.history(succeed(Command::new("insmod").args([&path, "numdummies=0"]))?)?;
    let loads = of(&history, "module");
    let told: Vec<_> = loads
        .iter()
        .map(|load| (load.call.as_str(), load.path.as_str()))
        .collect();
    ensure!(told.contains(&("module_load", "dummy")), "{told:?}");
    ensure!(
        told.iter().any(|(call, _)| call.ends_with("init_module")),
        "{told:?}"
    );
    unload(&stream)?;
    agent.nothing_lost()
}

/// Takes the module out again, which is told.
fn unload(stream: &Stream) -> Result<()> {
    let history = stream.history(succeed(Command::new("rmmod").arg("dummy"))?)?;
    let told: Vec<_> = of(&history, "module")
        .iter()
        .map(|load| (load.call.clone(), load.path.clone()))
        .collect();
    ensure!(told == [("delete_module".into(), "dummy".into())], "{told:?}");
    Ok(())
}

/// The hook tells of the file before the kernel has read it; that one is gone, the call tells.
fn modules_by_file() -> Result<()> {
    let agent = Agent::start(BEST, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let path = module().context("no module")?;
    let history = stream.history(succeed(Command::new("insmod").args([&path, "numdummies=0"]))?)?;
    if is_asked(&agent, "module")? {
        let loads = of(&history, "module");
        let [load] = &loads[..] else {
            anyhow::bail!("{loads:#?}");
        };
        let from_file = load.call == "kernel_read_file" && load.path == path;
        ensure!(from_file || load.call == "kernel_load_data", "{load:#?}");
        ensure!(load.attempt, "{load:#?}");
    }
    unload(&stream)?;
    agent.nothing_lost()
}
