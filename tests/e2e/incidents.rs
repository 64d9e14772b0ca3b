//! The incident book: what was found is told as a story, goes on after a restart, and ends with a verdict.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Entry, Filter, Incident, entry};
use sensor_tests::{
    agent::Agent,
    command::{helper, sensor, succeed},
    patience::{patience, wait_for},
    stream::Stream,
};

use crate::{case, knowledge::ask};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case(
            "incidents::a_story_goes_on_after_a_restart_and_ends_with_a_verdict",
            story,
        ),
        case("incidents::a_damaged_book_is_set_aside", damaged),
        case(
            "incidents::a_megabyte_of_hostile_arguments_is_shown_harmlessly",
            hostile,
        ),
    ]
}

/// What the rule of these tests looks for among arguments.
const WORD: &str = "word-of-the-incident-book";

const RULE: &str = "title: Says a word\nid: says-a-word\ndescription: Why it is bad.\nlevel: high\n\
    tags: [attack.exfiltration, attack.t1048]\nlogsource:\n  product: linux\n  category: process_creation\n\
    detection:\n  word:\n    CommandLine|contains: word-of-the-incident-book\n  condition: word\n";

fn say_it(args: &[&str]) -> Result<u32> {
    succeed(helper("exit")?.args(["0", WORD]).args(args))
}

fn incident(stream: &Stream, pid: u32) -> Result<Incident> {
    stream.wait_for("an incident", |entry: &Entry| match &entry.body {
        Some(entry::Body::Incident(incident)) => {
            let id = incident.process.as_ref()?.id?;
            (id.tgid == pid).then(|| incident.clone())
        }
        _ => None,
    })
}

fn story() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("rule.yml"), RULE)?;
    let config = format!("[rules]\nbuiltin = false\npaths = [{:?}]\n", folder.path());
    let mut agent = Agent::start(&config, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let pid = say_it(&["\u{1b}[2J\u{202e}txt"])?;
    let id = incident(&stream, pid)?.id;
    let show = |agent: &Agent| ask(agent, &["incidents", "show", &id[..12]]);
    let told = wait_for("its story", patience(10), || Ok(show(&agent).ok()))?;
    for part in [
        "HIGH",
        "Says a word",
        "T1048 (exfiltration)",
        "What happened",
        "Processes",
        "sha256 ",
        "See what went out and where to",
        &format!("[{pid}]"),
        "\\x1b[2J\\u{202e}txt",
    ] {
        ensure!(told.contains(part), "nothing of {part:?} in\n{told}");
    }
    ensure!(
        !told.contains(['\u{1b}', '\u{202e}']),
        "the terminal is steered: {told:?}"
    );
    let outcome = wait_for("what would have been done", patience(10), || {
        Ok(show(&agent).ok().filter(|told| told.contains("observed only")))
    });
    outcome.with_context(|| told.clone())?;

    agent.restart(&config)?;
    let list = ask(&agent, &["incidents", "list"])?;
    let line = list
        .lines()
        .find(|line| line.contains(&id))
        .context(list.clone())?;
    ensure!(line.contains(" open "), "{line}");
    say_it(&[])?;
    let twice = wait_for("the same again", patience(10), || {
        Ok(show(&agent).ok().filter(|told| told.contains("seen 2 times")))
    });
    twice.with_context(|| show(&agent).unwrap_or_default())?;

    ask(
        &agent,
        &[
            "incidents",
            "close",
            &id,
            "--verdict",
            "benign",
            "--why",
            "a drill",
        ],
    )?;
    let list = ask(&agent, &["incidents", "list"])?;
    ensure!(!list.contains(&id), "{list}");
    let list = ask(&agent, &["incidents", "list", "--all", "--output", "json"])?;
    ensure!(list.contains(&id) && list.contains("a drill"), "{list}");
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let next = incident(&stream, say_it(&[])?)?;
    ensure!(next.id != id && next.count == 1, "{next:#?}");
    let told = show(&agent)?;
    ensure!(told.contains("benign, by root (uid 0): a drill"), "{told}");
    Ok(())
}

fn damaged() -> Result<()> {
    let mut agent = Agent::start("", None)?;
    agent.stop()?;
    let book = agent.state().join("sensor.db");
    fs::write(&book, vec![7; 8_192])?;
    agent.restart("")?;
    ensure!(ask(&agent, &["incidents", "list"])?.contains("no incidents"));
    let mut names = fs::read_dir(agent.state())?.filter_map(std::result::Result::ok);
    ensure!(
        names.any(|entry| entry.file_name().to_string_lossy().contains(".corrupt-")),
        "it was not set aside"
    );
    Ok(())
}

/// Terminal escapes, a line that looks like one of ours, text that runs backwards, and as much of it as the kernel takes.
fn hostile() -> Result<()> {
    const LINE: &str = "CRITICAL 0123456789abcdef of nobody";
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("rule.yml"), RULE)?;
    let rules = format!("[rules]\nbuiltin = false\npaths = [{:?}]\n", folder.path());
    let agent = Agent::start(
        &format!(
            "{rules}[respond]\nmode = \"ask\"\n[[respond.rules]]\nseverity = \"high\"\nsubjects = [\"*\"]\n"
        ),
        None,
    )?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let title = format!("\u{1b}]0;owned\u{7}\u{9b}2J\n{LINE}\n\u{202e}txt.exe");
    let long = title.repeat(2_000);
    let mut args = vec![&*title];
    args.resize(9, &*long);
    ensure!(args.iter().map(|arg| arg.len()).sum::<usize>() > 800_000);
    let id = incident(&stream, say_it(&args)?)?.id;
    let told = wait_for("what waits", patience(10), || {
        let told = ask(&agent, &["respond", "pending"])?;
        Ok(told.contains(&id).then_some(told))
    });
    told.or_else(|_| ask(&agent, &["respond", "pending"]))?;
    let audit = agent.state().join("audit.jsonl");
    let audit = audit.to_string_lossy();
    for command in [
        &["incidents", "list"][..],
        &["incidents", "show", &id],
        &["incidents", "list", "--output", "json"],
        &["incidents", "show", &id, "--output", "json"],
        &["respond", "pending"],
        &["respond", "history"],
        &["respond", "holding"],
        &["audit", "list", &audit],
        &["models", "list"],
    ] {
        let told = match command {
            ["audit", ..] => {
                let output = Command::new(sensor()?).args(command).output()?;
                ensure!(output.status.success(), "{output:?}");
                String::from_utf8(output.stdout)?
            }
            _ => ask(&agent, command)?,
        };
        ensure!(!told.trim().is_empty(), "{command:?} says nothing");
        let steers = |character: char| character != '\n' && character.is_control() || character == '\u{202e}';
        ensure!(
            !told.contains(steers) && !told.lines().any(|line| line.starts_with(LINE)),
            "{command:?} steers the terminal: {:?}",
            told.chars().take(4_000).collect::<String>()
        );
        ensure!(told.len() < 256 << 10, "{command:?}: {} bytes", told.len());
    }
    ensure!(fs::metadata(&*audit)?.len() < 64 << 10, "the audit is flooded");
    agent.nothing_lost()
}
