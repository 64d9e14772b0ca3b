//! What was learned, looked at and carried elsewhere, and what somebody has said is no attack.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Filter, entry};
use sensor_tests::{
    agent::Agent,
    cgroup::Cgroup,
    command::{helper, sensor, spawn, wait},
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("knowledge::what_was_learned_outlives_the_agent", learned),
        case(
            "knowledge::an_incident_that_was_none_is_none_the_next_time",
            feedback,
        ),
    ]
}

const CONFIG: &str = "[detect]\nlearn_events = 20\nlearn_minutes = 0\n";
const UNIT: &str = "sensor-test-known.service";
const SUBJECT: &str = "unit:sensor-test-known.service";

/// A command of the agent's program, and what it printed.
pub(crate) fn ask(agent: &Agent, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(sensor()?);
    let output = command
        .args(arguments)
        .arg("--socket")
        .arg(agent.socket())
        .output()?;
    ensure!(
        output.status.success(),
        "{arguments:?} ended with {} and said {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// A service does as it is told.
fn serve(cgroup: &Cgroup, orders: &str) -> Result<()> {
    let mut command = helper("service")?;
    command.arg("/bin/sh").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = spawn(cgroup.enter(&mut command))?;
    let mut input = child.stdin.take().context("it has no input")?;
    input.write_all(orders.as_bytes())?;
    drop(input);
    ensure!(wait(&mut child)?.success(), "the service did not end well");
    Ok(())
}

fn learned() -> Result<()> {
    let mut agent = Agent::start(CONFIG, None)?;
    let cgroup = Cgroup::new(UNIT)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    serve(&cgroup, "spawn 60 /bin/true\n")?;
    stream.fence()?;
    let list = ask(&agent, &["models", "list"])?;
    let line = |text: &str| {
        text.lines()
            .find(|line| line.starts_with(SUBJECT))
            .map(str::to_owned)
    };
    let before = line(&list).context(list)?;
    ensure!(before.ends_with("ready"), "{before}");
    let shown = ask(&agent, &["models", "show", SUBJECT])?;
    // In a VM it is a link to a program that is many.
    let program = std::fs::canonicalize("/bin/true")?;
    let program = program.to_string_lossy();
    ensure!(shown.contains("normal:") && shown.contains(&*program), "{shown}");
    let file = agent.folder().join("models.export");
    let path = file.to_string_lossy().into_owned();
    ask(&agent, &["models", "export", &path])?;

    agent.restart(CONFIG)?;
    let after = ask(&agent, &["models", "list"])?;
    ensure!(
        line(&after) == Some(before.clone()),
        "before {before}, after {after}"
    );
    ask(&agent, &["models", "forget", SUBJECT])?;
    let forgotten = ask(&agent, &["models", "list"])?;
    ensure!(line(&forgotten).is_none(), "{forgotten}");
    ask(&agent, &["models", "import", &path])?;
    let imported = ask(&agent, &["models", "list"])?;
    ensure!(
        line(&imported) == Some(before.clone()),
        "before {before}, after {imported}"
    );

    std::fs::write(&file, "something else")?;
    let error = ask(&agent, &["models", "import", &path]).expect_err("it is no export");
    ensure!(error.to_string().contains("does not begin with"), "{error}");
    agent.stop()?;
    std::fs::write(agent.state().join("models"), "SNSD damaged")?;
    agent.restart(CONFIG)?;
    ensure!(
        agent.state().join("models.damaged").exists(),
        "nothing was set aside"
    );
    Ok(())
}

fn feedback() -> Result<()> {
    let agent = Agent::start(CONFIG, None)?;
    let cgroup = Cgroup::new(UNIT)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    serve(&cgroup, "spawn 60 /bin/true\nshell\nclose\n")?;
    let id = stream.wait_for("an incident", |entry| match &entry.body {
        Some(entry::Body::Incident(incident)) if incident.subject == SUBJECT => Some(incident.id.clone()),
        _ => None,
    })?;
    let said = ask(
        &agent,
        &["feedback", &id, "--false-positive", "--why", "it is a test"],
    )?;
    ensure!(said.contains(SUBJECT) && said.contains("it is a test"), "{said}");
    stream.fence()?;
    let incidents = || {
        let got = stream.got();
        let incident = |entry: &&sensor_proto::v1::Entry| matches!(&entry.body, Some(entry::Body::Incident(incident)) if incident.subject == SUBJECT);
        got.entries.iter().filter(incident).count()
    };
    let before = incidents();
    serve(&cgroup, "shell\nclose\n")?;
    stream.fence()?;
    ensure!(incidents() == before, "the same is an incident again");
    let list = ask(&agent, &["feedback", "--list"])?;
    let exception = list.split(' ').next().context("no exception")?.to_owned();
    ask(&agent, &["feedback", "--remove", &exception])?;
    ensure!(
        ask(&agent, &["feedback", "--list"])? == "no exceptions\n",
        "it is still there"
    );
    agent.nothing_lost()
}
