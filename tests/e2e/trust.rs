//! A host, its collector and those who ask things of it, over TLS, as the programs that people run.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_tests::{
    agent::Agent,
    cgroup::Cgroup,
    collector::Collector,
    command::{helper, sensor, spawn, succeed, wait},
    patience::{patience, wait_for},
    wire::Wire,
};

use crate::case;

/// What the host is called.
const HOST: &str = "web-7.example.org";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("trust::a_host_enrols_delivers_and_is_revoked", revoked),
        case("trust::hosts_know_what_is_normal_on_others", compared),
        case("trust::what_is_asked_is_done_if_the_host_allows_it", commands),
        case("trust::evidence_that_was_asked_for_comes_whole", evidence),
        case("trust::an_isolated_host_is_let_go_by_its_collector", isolated),
    ]
}

fn revoked() -> Result<()> {
    let collector = Collector::start_secure()?;
    let agent = Agent::start_enrolled("", &collector, HOST)?;
    // On a host where nothing happens, nothing is sent.
    succeed(&mut Command::new("/bin/true"))?;
    wait_for("a batch to be stored", patience(20), || {
        let uplink = agent.status()?.uplink.unwrap_or_default();
        Ok((uplink.batches_acked > 0).then_some(()))
    })?;
    let (_, listed) = collector.ask(&["identities"])?;
    ensure!(
        listed.starts_with(&format!("agent {HOST}: certificate until 2")) && listed.contains(", connected"),
        "{listed}"
    );
    let (good, said) = collector.ask(&["revoke", "--host", HOST])?;
    ensure!(good && said.contains("1 certificates that were valid"), "{said}");
    wait_for("the agent to say that it is revoked", patience(60), || {
        let uplink = agent.status()?.uplink.unwrap_or_default();
        let told =
            uplink.last_error == "it has revoked this certificate; to come back, enrol with a new token";
        Ok((!uplink.connected && told).then_some(()))
    })?;
    agent.nothing_lost()
}

fn commands() -> Result<()> {
    let collector = Collector::start_secure()?;
    let agent = Agent::start_enrolled("[remote]\nallow = [\"kill\", \"status\"]\n", &collector, HOST)?;
    let mut victim = spawn(Command::new("/bin/sleep").arg("1000"))?;
    let pid = victim.id().to_string();
    let (good, said) = collector.ask(&["command", HOST, "kill", &pid, "--id", "k1", "--why", "a test"])?;
    ensure!(good && said.contains(": done"), "{said}");
    let ended = wait(&mut victim)?;
    ensure!(!ended.success(), "it ended with {ended}");
    let (good, again) = collector.ask(&["command", HOST, "kill", &pid, "--id", "k1", "--why", "a test"])?;
    ensure!(good && again == said, "{again}");

    let (good, said) = collector.ask(&["command", HOST, "isolate"])?;
    ensure!(
        !good && said.contains("refused: this host does not allow its collector to ask for that: [remote] allow has no \"isolate\""),
        "{said}"
    );
    let (good, said) = collector.ask(&["command", HOST, "status"])?;
    let line = format!("{:>8} ", agent.pid());
    ensure!(good && said.lines().any(|text| text.starts_with(&line)), "{said}");

    // Who asked stands on both ends.
    let audit = Command::new(sensor()?)
        .args(["audit", "list"])
        .arg(agent.state().join("audit.jsonl"))
        .output()?;
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    ensure!(
        audit.contains("uid 0 on the collector's host by the collector"),
        "{audit}"
    );
    ensure!(
        audit.contains("requested by uid 0 on the collector's host by the collector: isolate: refused: this host does not allow"),
        "{audit}"
    );
    let (good, said) = collector.ask(&["audit"])?;
    ensure!(
        good && said.contains(&format!(
            "asked agent {HOST} by uid 0 on the collector's host: k1: kill process {pid}"
        )),
        "{said}"
    );
    agent.nothing_lost()
}

/// The host is played by a cgroup that the agent is in, and its collector is elsewhere: what the agent reaches of it, others on the host do not.
fn isolated() -> Result<()> {
    let (wire, cgroup, bpffs) = (Wire::new()?, Cgroup::new("sensor-let-go")?, tempfile::tempdir()?);
    let mut collector = Collector::start_in(&wire.namespace, wire.far, tempfile::tempdir()?)?;
    let agent = Agent::start_enrolled(
        &format!(
            "[remote]\nallow = [\"isolate\", \"undo\"]\n[respond]\nbpffs = {:?}\ncgroup = {:?}\n",
            bpffs.path().join("bpf"),
            cgroup.unified()?
        ),
        &collector,
        HOST,
    )?;
    std::fs::write(cgroup.unified()?.join("cgroup.procs"), agent.pid().to_string())?;
    let reaches = || -> Result<bool> {
        let mut command = helper("udp-client")?;
        let end = format!("{}:9", wire.far);
        command.args([&*end, "0", "1", "connected"]);
        let output = cgroup.enter(&mut command).output()?;
        Ok(!String::from_utf8_lossy(&output.stderr).contains("Operation not permitted"))
    };
    ensure!(reaches()?, "it was cut off before");
    let (good, said) = collector.ask(&["command", HOST, "isolate", "--why", "a drill"])?;
    ensure!(good && said.contains("begun as number "), "{said}");
    let number = said.trim().rsplit(' ').next().context("no number")?.to_owned();
    wait_for("the others on the host to be cut off", patience(10), || {
        Ok((!reaches()?).then_some(()))
    })?;
    // Whatever was connected before: it finds its collector again.
    collector.crash_and_restart()?;
    let acked = || -> Result<u64> { Ok(agent.status()?.uplink.unwrap_or_default().batches_acked) };
    let before = acked()?;
    wait_for("a batch to be stored", patience(60), || {
        succeed(&mut Command::new("/bin/true"))?;
        Ok((acked()? > before).then_some(()))
    })?;
    ensure!(!reaches()?, "others on the host are connected by now");
    let (good, said) = collector.ask(&["command", HOST, "undo", &number, "--why", "the drill is over"])?;
    ensure!(good, "{said}");
    wait_for("the host to be let go", patience(20), || {
        Ok(reaches()?.then_some(()))
    })?;
    drop(agent);
    let _ = rustix::mount::unmount(bpffs.path().join("bpf"), rustix::mount::UnmountFlags::DETACH);
    Ok(())
}

fn evidence() -> Result<()> {
    let collector = Collector::start_secure()?;
    let agent = Agent::start_enrolled("", &collector, HOST)?;
    let mut suspect = spawn(Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()))?;
    let pid = suspect.id().to_string();
    let (good, said) = collector.ask(&["command", HOST, "collect", &pid, "--wait", "60s"])?;
    ensure!(good && said.contains(": done"), "{said}");
    let sha256 = said
        .trim()
        .rsplit("the bundle is ")
        .next()
        .context("no bundle")?
        .to_owned();
    wait_for("the bundle to come", patience(30), || {
        let (_, listed) = collector.ask(&["bundles", "list"])?;
        Ok(listed.contains("whole since").then_some(()))
    })?;
    let file = agent.folder().join("bundle");
    let (good, said) =
        collector.ask(&["bundles", "get", &sha256, "--output", &file.display().to_string()])?;
    ensure!(good, "{said}");
    let key = Command::new(sensor()?)
        .args(["forensics", "key", "--state"])
        .arg(agent.state())
        .output()?;
    let verified = Command::new(sensor()?)
        .args([
            "forensics",
            "verify",
            "--key",
            String::from_utf8_lossy(&key.stdout).trim(),
        ])
        .arg(&file)
        .output()?;
    ensure!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    let _ = suspect.kill();
    wait(&mut suspect)?;
    Ok(())
}

/// What is normal on a host is known to the others, each of which is told of all but itself.
fn compared() -> Result<()> {
    let collector = Collector::start_secure()?;
    let config = "[detect]\nfleet_interval = \"1s\"\n";
    let hosts: Vec<Agent> = ["a.example.org", "b.example.org", "c.example.org"]
        .into_iter()
        .map(|name| Agent::start_enrolled(config, &collector, name))
        .collect::<Result<_>>()?;
    // Something that is a fact of this host, which all three watch.
    succeed(&mut Command::new("/bin/true"))?;
    for host in &hosts {
        wait_for("what the other hosts know", patience(30), || {
            let heard = host.status()?.fleet;
            Ok(heard.filter(|fleet| fleet.hosts == 2 && fleet.facts > 0))
        })?;
    }
    let status = Command::new(sensor()?)
        .args(["status", "--socket"])
        .arg(hosts[0].socket())
        .output()?;
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    ensure!(said.contains("fleet       2 other hosts, which know "), "{said}");
    hosts.iter().try_for_each(Agent::nothing_lost)
}
