//! Rules: real programs provoke them, they are changed while events come, and what is wrong with them is told.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use sensor_proto::v1::{Entry, Filter, Incident, RulesStatus, Severity, entry};
use sensor_tests::{
    agent::Agent,
    command::{helper, sensor, succeed},
    patience::{patience, wait_for},
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case(
            "rules::a_program_provokes_a_rule_and_the_incident_carries_it",
            provoked,
        ),
        case("rules::a_file_provokes_a_rule", provoked_by_file),
        case("rules::a_low_level_is_evidence_and_opens_nothing", evidence),
        case("rules::the_old_rules_stay_if_the_new_ones_are_bad", changed),
        case("rules::none_is_missed_while_rules_are_read_again", storm),
        case("rules::check_names_each_fault_and_what_cannot_match", check),
        case("rules::hundreds_of_others_are_told_apart", hundreds),
        case("rules::are_listed_explained_and_tested", told),
    ]
}

/// A rule for programs with a word among their arguments.
fn rule(name: &str, level: &str, word: &str) -> String {
    format!(
        "title: {name}\nid: {name}\ndescription: Why {name} is bad.\nlevel: {level}\n\
         logsource:\n  product: linux\n  category: process_creation\ndetection:\n  word:\n    CommandLine|contains: {word}\n  \
         condition: word\n"
    )
}

fn config(folder: &Path) -> String {
    format!("[rules]\nbuiltin = false\npaths = [{folder:?}]\n")
}

/// Runs a program with a word among its arguments; its process id.
fn run_with(word: &str) -> Result<u32> {
    succeed(helper("exit")?.args(["0", word]))
}

fn incident_of(pid: u32) -> impl Fn(&Entry) -> Option<Incident> {
    move |entry| match &entry.body {
        Some(entry::Body::Incident(incident)) => {
            let id = incident.process.as_ref()?.id?;
            (id.tgid == pid).then(|| incident.clone())
        }
        _ => None,
    }
}

/// The rules by which something of a process was found.
fn found_of(stream: &Stream, pid: u32) -> Vec<String> {
    let got = stream.got();
    let signals = got.entries.iter().filter_map(|entry| match &entry.body {
        Some(entry::Body::Signal(signal)) => {
            let id = signal.event.as_ref()?.process.as_ref()?.id?;
            (id.tgid == pid).then(|| signal.rule.as_ref().map(|rule| rule.id.clone()))?
        }
        _ => None,
    });
    signals.collect()
}

fn provoked() -> Result<()> {
    let agent = Agent::start("[rules]\n", None)?;
    let RulesStatus { active, idle, faults } = agent.status()?.rules.context("no rules")?;
    ensure!(
        active >= 60 && (idle, faults) == (0, 0),
        "{active} rules, {idle} idle, {faults} faults"
    );
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    // Nobody is there: it is the words that matter, and nothing reads them.
    let pid = run_with("exec 3<>/dev/tcp/192.0.2.1/9")?;
    let incident = stream.wait_for("an incident", incident_of(pid))?;
    ensure!(incident.severity() == Severity::High, "{incident:#?}");
    ensure!(
        incident.summary.contains("uses the network as a file"),
        "{:?}",
        incident.summary
    );
    // There may be more evidence, depending on where the tests lie.
    let is_high =
        |signal: &&sensor_proto::v1::Signal| signal.rule.as_ref().is_some_and(|rule| rule.level == "high");
    let signal = incident.signals.iter().find(is_high).context("no evidence")?;
    let rule = signal.rule.as_ref().context("no rule")?;
    ensure!(rule.id.len() == 36, "{rule:?}");
    ensure!(
        signal.techniques.iter().any(|id| id == "T1059.004"),
        "{:?}",
        signal.techniques
    );
    ensure!(
        signal
            .reasons
            .iter()
            .any(|reason| reason.contains("shortest way to a reverse shell"))
            && signal
                .reasons
                .iter()
                .any(|reason| reason.contains("/dev/tcp/192.0.2.1")),
        "{:?}",
        signal.reasons
    );
    agent.nothing_lost()
}

fn provoked_by_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = "title: moved\nid: moved\nlevel: medium\nlogsource:\n  category: file_event\ndetection:\n  a:\n    \
                TargetFilename|endswith: /wanted\n  condition: a\n";
    fs::write(folder.path().join("moved.yml"), text)?;
    let agent = Agent::start(&config(folder.path()), None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    // Whoever makes a file under another name and renames it is found as well.
    let made = folder.path().join("made");
    fs::write(&made, "")?;
    fs::rename(&made, folder.path().join("wanted"))?;
    let incident = stream.wait_for("an incident", incident_of(std::process::id()))?;
    let reasons = &incident.signals.first().context("no evidence")?.reasons;
    ensure!(
        reasons.iter().any(|reason| reason.contains("/wanted")),
        "{reasons:?}"
    );
    Ok(())
}

fn evidence() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("hint.yml"), rule("hint", "low", "word-hint"))?;
    let agent = Agent::start(&config(folder.path()), None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let pid = run_with("word-hint")?;
    stream.fence()?;
    ensure!(found_of(&stream, pid) == ["hint"], "{:?}", found_of(&stream, pid));
    let opened = stream.got().entries.iter().find_map(incident_of(pid));
    ensure!(opened.is_none(), "{opened:#?}");
    Ok(())
}

fn changed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("one.yml"), rule("one", "medium", "word-one"))?;
    let agent = Agent::start(&config(folder.path()), None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let found = |word: &str| -> Result<Vec<String>> {
        let pid = run_with(word)?;
        stream.fence()?;
        Ok(found_of(&stream, pid))
    };
    ensure!(found("word-one")? == ["one"], "the first rule does not match");

    fs::write(at("two.yml"), rule("two", "medium", "word-two"))?;
    fs::write(
        at("bad.yml"),
        rule("bad", "medium", "x").replace("contains", "contians"),
    )?;
    let refused = reload(&agent)?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success(), "bad rules were taken");
    for part in [
        "bad.yml:10: error: Unknown modifier 'contians'; use contains",
        "that are in use stay",
    ] {
        ensure!(said.contains(part), "the agent says {said:?}, without {part:?}");
    }
    ensure!(found("word-one")? == ["one"], "the old rules are gone");
    ensure!(
        found("word-two")?.is_empty(),
        "the new rules are in force, by half"
    );

    fs::remove_file(at("bad.yml"))?;
    fs::remove_file(at("one.yml"))?;
    let taken = reload(&agent)?;
    let said = String::from_utf8_lossy(&taken.stdout).into_owned();
    ensure!(
        taken.status.success() && said.contains("1 of 1 rules in use"),
        "{taken:?}"
    );
    ensure!(found("word-two")? == ["two"], "the new rules are not in force");
    ensure!(found("word-one")?.is_empty(), "the old rules are still in force");

    fs::write(at("one.yml"), rule("one", "medium", "word-one"))?;
    let pid = i32::try_from(agent.pid())?;
    kill_process(Pid::from_raw(pid).context("no process")?, Signal::HUP)?;
    wait_for("SIGHUP to bring the rule back", patience(10), || {
        let rules = agent.status()?.rules.unwrap_or_default();
        Ok((rules.active == 2).then_some(()))
    })?;
    ensure!(found("word-one")? == ["one"], "the rule is not back");
    agent.nothing_lost()
}

/// A rule that stays is in force all the time, and the events that come meanwhile are all judged.
fn storm() -> Result<()> {
    const RELOADS: u32 = 20;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("steady.yml"), rule("steady", "medium", "word-steady"))?;
    let agent = Agent::start(&config(folder.path()), None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let pids = std::thread::scope(|scope| -> Result<Vec<u32>> {
        let reloads = scope.spawn(|| -> Result<()> {
            for number in 0..RELOADS {
                // Each is another set of rules; every other one is refused.
                let modifier = if number % 2 == 0 { "contains" } else { "contians" };
                let text = rule("other", "medium", &format!("word-{number}")).replace("contains", modifier);
                fs::write(at("other.yml"), text)?;
                let output = reload(&agent)?;
                ensure!(output.status.success() == (number % 2 == 0), "{output:?}");
            }
            Ok(())
        });
        let mut pids = Vec::new();
        while !reloads.is_finished() || pids.is_empty() {
            pids.push(run_with("word-steady")?);
        }
        reloads.join().ok().context("the thread panicked")??;
        Ok(pids)
    })?;
    stream.fence()?;
    let missed: Vec<&u32> = pids
        .iter()
        .filter(|pid| found_of(&stream, **pid) != ["steady"])
        .collect();
    ensure!(
        missed.is_empty(),
        "of {} programs, {missed:?} were not found",
        pids.len()
    );
    agent.nothing_lost()
}

fn reload(agent: &Agent) -> Result<Output> {
    let mut command = Command::new(sensor()?);
    Ok(command
        .args(["reload", "--socket"])
        .arg(agent.socket())
        .output()?)
}

/// What `sensor rules` says, and with which exit code.
fn ask(arguments: &[&str]) -> Result<(String, Option<i32>)> {
    let output = Command::new(sensor()?).arg("rules").args(arguments).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((String::from_utf8_lossy(&said).into_owned(), output.status.code()))
}

fn told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().context("a path")?;
    fs::write(folder.path().join("one.yml"), rule("one", "high", "word-one"))?;
    let tests = folder.path().join("one.test.yml");
    fs::write(
        &tests,
        "positive:\n  - why: has the word\n    event: {CommandLine: x word-one}\n\
         negative:\n  - why: has another\n    event: {CommandLine: x word-two}\n",
    )?;
    let (said, code) = ask(&["list"])?;
    ensure!(code == Some(0) && said.lines().count() > 60, "{said}");
    let id = said.lines().nth(1).and_then(|line| line.split(' ').next());
    let (said, code) = ask(&["explain", id.context("no rule")?])?;
    for part in ["  why  ", "  looks like it  ", "  techniques  ", "it can match"] {
        ensure!(
            code == Some(0) && said.contains(part),
            "without {part:?}:\n{said}"
        );
    }
    let (said, code) = ask(&["list", path])?;
    let line = format!("{:<36}  {:<13}  {:<10}  one\n", "one", "high", "-");
    ensure!(code == Some(0) && said.ends_with(&line), "{said:?}");
    let (said, code) = ask(&["explain", "nobody"])?;
    ensure!(
        code == Some(1) && said.contains("neither a rule nor a file"),
        "{said}"
    );
    let (said, code) = ask(&["test", path])?;
    ensure!(
        code == Some(0) && said == "2 tests in 1 file; 0 without any\n",
        "{said:?}"
    );
    fs::write(
        &tests,
        "negative:\n  - why: has the word\n    event: {CommandLine: x word-one}\n",
    )?;
    let (said, code) = ask(&["test", path])?;
    ensure!(
        code == Some(1) && said.contains("one.test.yml: has the word: "),
        "{said}"
    );
    // Nobody is led astray by what a rule calls itself.
    let hostile =
        rule("\"\\e[2Jnice\\r\\u202e\"", "high", "x").replace("id: \"\\e[2Jnice\\r\\u202e\"", "id: h");
    fs::write(folder.path().join("hostile.yml"), hostile)?;
    for arguments in [["list", path], ["check", path], ["explain", path]] {
        let (said, _) = ask(&arguments)?;
        let bad = said
            .chars()
            .find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        ensure!(bad.is_none(), "{arguments:?}: {said:?}");
    }
    Ok(())
}

/// A directory as a third party keeps it: rules for all sorts of systems, in folders, with what is no rule between them.
fn hundreds() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kinds = [
        (
            "windows",
            "product: windows\n  category: registry_set",
            "TargetObject",
        ),
        (
            "macos",
            "product: macos\n  category: process_creation",
            "CommandLine",
        ),
        ("cloud", "product: aws\n  service: cloudtrail", "eventName"),
        ("web", "category: webserver", "cs-uri-query"),
        ("hashes", "product: linux\n  category: process_creation", "Hashes"),
        (
            "programs",
            "product: linux\n  category: process_creation",
            "CommandLine",
        ),
        (
            "files",
            "product: linux\n  category: file_event",
            "TargetFilename",
        ),
        ("names", "category: dns_query", "QueryName"),
    ];
    for (kind, source, field) in kinds {
        let place = folder.path().join("rules").join(kind);
        fs::create_dir_all(&place)?;
        for number in 0..100 {
            let text = format!(
                "title: {kind} {number}\nid: {kind}-{number}\nstatus: test\nauthor: somebody\ndate: 2024-01-0{}\nreferences:\n  - \
                 https://example.org/{number}\ntags:\n  - attack.execution\n  - attack.t1059\nlogsource:\n  {source}\ndetection:\n  \
                 one_a:\n    {field}|contains|all: [word{number}, other]\n  one_b:\n    - {field}|endswith: x{number}\n    - \
                 {field}|re: '^a.{{{number},}}b$'\n  filter_main:\n    {field}|startswith: /opt/\n  condition: 1 of one_* and not 1 of \
                 filter_*\nfalsepositives:\n  - Unknown\nlevel: medium\n",
                number % 9 + 1
            );
            fs::write(place.join(format!("{number}.yml")), text)?;
        }
    }
    fs::write(folder.path().join("README.md"), "# Rules\n")?;
    fs::write(
        folder.path().join("rules/broken.yml"),
        "title: broken\nlogsource: [\n",
    )?;
    let (said, code) = ask(&["check", folder.path().to_str().context("a path")?])?;
    ensure!(code == Some(1), "{code:?}: {said}");
    for (kind, why) in [
        ("windows", "it cannot match: it is for the product windows"),
        ("macos", "it cannot match: it is for the product macos"),
        ("cloud", "it cannot match: it is for the product aws"),
        ("web", "it cannot match: "),
        (
            "hashes",
            "it cannot match: no event of its log source has the field Hashes",
        ),
    ] {
        let told = said
            .lines()
            .filter(|line| line.contains(&format!("{kind} ")) && line.contains(why));
        ensure!(told.count() == 100, "not 100 times {kind}, {why:?}:\n{said}");
    }
    ensure!(said.contains("rules/broken.yml:3: error: "), "{said}");
    ensure!(
        said.ends_with("800 rules: 300 can match here, 500 cannot; 1 error\n"),
        "{said}"
    );
    Ok(())
}

fn check() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
    write("good.yml", &rule("good", "high", "x"))?;
    write("again.yml", &rule("good", "high", "x"))?;
    write(
        "modifier.yml",
        &rule("modifier", "high", "x").replace("contains", "contians"),
    )?;
    write(
        "condition.yml",
        &rule("condition", "high", "x").replace("condition: word", "condition: wort"),
    )?;
    write(
        "regex.yml",
        &rule("regex", "high", "'(x'").replace("contains", "re"),
    )?;
    write(
        "windows.yml",
        &rule("windows", "high", "x").replace("linux", "windows"),
    )?;
    write(
        "field.yml",
        &rule("field", "high", "x").replace("CommandLine", "Hashes"),
    )?;
    write("yaml.yml", "title: yaml\n  detection: [\n")?;
    let (said, code) = ask(&["check", folder.path().to_str().context("a path")?])?;
    ensure!(code == Some(1), "{code:?}: {said}");
    for part in [
        "good.yml:1: error: its id 'good' is that of ",
        "modifier.yml:10: error: Unknown modifier 'contians'; use ",
        "condition.yml:11: error: ",
        "regex.yml:10: error: ",
        "yaml.yml:2: error: ",
        "windows.yml:1: windows: it cannot match: it is for the product windows",
        "field.yml:1: field: it cannot match: no event of its log source has the field Hashes",
        "3 rules: 1 can match here, 2 cannot; 5 errors",
    ] {
        ensure!(said.contains(part), "without {part:?}:\n{said}");
    }
    Ok(())
}
