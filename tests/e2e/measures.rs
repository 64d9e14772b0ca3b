//! What the agent does beyond signals: executables that the kernel refuses, files in quarantine, bundles, a host that is cut off, and all of it undone.

mod account;
mod lasting;
mod network;

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{ActionKind, Filter, Outcome, Result as ActionResult, Severity, entry};
use sensor_tests::{
    agent::Agent,
    cgroup::Cgroup,
    command::{helper, sensor, spawn},
    patience::{patience, wait_for},
    stream::Stream,
    tiny,
};

use crate::{case, knowledge::ask};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case(
            "measures::a_block_outlives_the_agent_and_is_undone_by_the_next",
            blocked,
        ),
        case(
            "measures::evidence_then_death_then_a_block_as_the_policy_asks",
            in_order,
        ),
        case(
            "measures::what_the_kernel_forgot_holds_again_for_the_time_that_is_left",
            lasting::forgotten,
        ),
        case(
            "measures::what_somebody_takes_apart_is_put_back_and_told",
            lasting::tampered,
        ),
        case("measures::a_file_is_taken_away_and_put_back", quarantined),
        case(
            "measures::a_user_is_locked_out_and_let_in_again",
            account::revoked,
        ),
        case(
            "measures::where_a_process_connects_to_is_blocked_and_unblocked",
            network::destination,
        ),
        case(
            "measures::a_process_is_disconnected_and_connected_again",
            network::disconnected,
        ),
        case("measures::a_host_is_cut_off_and_connected_again", isolated),
        case(
            "measures::an_isolation_holds_without_its_agent_and_ends_by_itself",
            held_alone,
        ),
        case(
            "measures::what_a_rule_names_by_its_path_dies_before_its_first_instruction",
            named,
        ),
        case(
            "measures::a_changed_policy_is_in_force_without_a_restart",
            changed,
        ),
        case(
            "measures::what_waits_for_a_person_waits_for_the_next_agent_too",
            waiting,
        ),
    ]
}

/// A folder for verdicts that outlive the agents of a test.
struct Bpffs(tempfile::TempDir);

impl Bpffs {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("bpf")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Where nothing was ever kept, nothing is mounted.
        let _ = rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// What `sensor respond` says, and how it ends.
pub(crate) fn say(agent: &Agent, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(sensor()?);
    let command = command.arg("respond").args(arguments);
    let output = command.arg("--socket").arg(agent.socket()).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

/// The number under which `sensor respond` did something, or has begun to, or has not.
fn respond(agent: &Agent, arguments: &[&str]) -> Result<String> {
    let (_, said) = say(agent, arguments)?;
    let number = said.split(':').next().context("no answer")?.trim().to_owned();
    ensure!(number.parse::<u64>().is_ok(), "{said}");
    Ok(number)
}

/// The outcome under a number, once it is there and no question.
fn outcome(stream: &Stream, number: &str) -> Result<Outcome> {
    let number: u64 = number.parse()?;
    stream.wait_for("an outcome", |entry| match &entry.body {
        Some(entry::Body::Outcome(outcome))
            if outcome.number == number && outcome.result() != ActionResult::Asked =>
        {
            Some(outcome.clone())
        }
        _ => None,
    })
}

fn done(stream: &Stream, number: &str) -> Result<Outcome> {
    let outcome = outcome(stream, number)?;
    ensure!(outcome.result() == ActionResult::Done, "{outcome:?}");
    Ok(outcome)
}

/// Whether a program whose first act is to create a file gets to do so.
fn acts(program: &Path, file: &Path) -> Result<bool> {
    let _ = fs::remove_file(file);
    // The kernel denies it, or ends it: what the shell says of that is no matter.
    let _ = Command::new(program).arg(file).status();
    Ok(file.exists())
}

fn blocked() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let config = format!("[respond]\nbpffs = {:?}\n", bpffs.path());
    let mut agent = Agent::start(&config, None)?;
    let folder = agent.folder().canonicalize()?;
    let (program, file) = (folder.join("program"), folder.join("file"));
    tiny::write(&program)?;
    ensure!(acts(&program, &file)?, "the program does not work");
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let path = program.to_str().context("a path")?;
    let number = respond(&agent, &["block", path, "--for", "1h", "--why", "a test"])?;
    done(&stream, &number)?;
    ensure!(!acts(&program, &file)?, "it ran");
    let moved = folder.join("moved");
    fs::rename(&program, &moved)?;
    ensure!(!acts(&moved, &file)?, "it ran under another name");
    fs::rename(&moved, &program)?;

    agent.daemon().kill()?;
    ensure!(!acts(&program, &file)?, "it ran once the agent was dead");
    agent.revive(&config)?;
    ensure!(!acts(&program, &file)?, "it ran under the next agent");
    let holding = wait_for("what is refused", patience(10), || {
        let said = ask(&agent, &["respond", "holding"])?;
        Ok(said.contains(path).then_some(said))
    })?;
    ensure!(holding.contains("ends in 59m"), "{holding}");
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let undone = respond(&agent, &["undo", &number])?;
    done(&stream, &undone)?;
    ensure!(acts(&program, &file)?, "it is refused still");

    for protected in ["/usr/sbin/sshd", "/usr/lib/systemd/systemd", "relative"] {
        let (code, said) = say(&agent, &["block", protected])?;
        ensure!(code == Some(1), "{said}");
        ensure!(
            said.contains("protected list")
                || said.contains("not an absolute path")
                || said.contains("no address"),
            "{said}"
        );
    }
    let (code, said) = say(&agent, &["block", "0.0.0.0/0"])?;
    ensure!(
        code == Some(1) && said.contains("refused") && said.contains("own addresses"),
        "{said}"
    );
    Ok(())
}

/// Ended at the end, whatever becomes of the test.
pub(crate) struct Suspect(pub(crate) Child);

impl Drop for Suspect {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits to be ended, run as `program`, which is a copy of the helper.
fn suspect(program: &Path, arguments: &[&str]) -> Result<Suspect> {
    let mut command = Command::new(program);
    command.args(helper("wait")?.get_args()).args(arguments);
    Ok(Suspect(spawn(command.stdin(Stdio::piped()))?))
}

/// A rule for programs with a word among their arguments.
pub(crate) fn rule(folder: &Path, word: &str) -> Result<()> {
    let rule = format!(
        "title: {word}\nid: {word}\nlevel: high\nlogsource:\n  product: linux\n  category: process_creation\n\
         detection:\n  word:\n    CommandLine|contains: {word}\n  condition: word\n"
    );
    Ok(fs::write(folder.join("rule.yml"), rule)?)
}

/// Rules that name an executable by its path alone are for the kernel, where the policy would end it.
fn named() -> Result<()> {
    let (bpffs, rules, programs) = (Bpffs::new()?, tempfile::tempdir()?, tempfile::tempdir()?);
    let folder = programs.path().canonicalize()?;
    let (program, file) = (folder.join("tiny"), folder.join("file"));
    tiny::write(&program)?;
    let name_it = |path: &Path| {
        let rule = format!(
            "title: named\nid: named\nlevel: high\nlogsource:\n  product: linux\n  category: process_creation\n\
             detection:\n  a:\n    Image: {}\n  condition: a\n",
            path.display()
        );
        fs::write(rules.path().join("rule.yml"), rule)
    };
    name_it(&program)?;
    let config = |mode: &str| {
        format!(
            "[rules]\nbuiltin = false\npaths = [{:?}]\n[respond]\nmode = {mode:?}\nbpffs = {:?}\n",
            rules.path(),
            bpffs.path()
        )
    };
    let agent = Agent::start(&config("act"), None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let path = program.to_str().context("a path")?;
    wait_for("the kernel to refuse it", patience(10), || {
        Ok(ask(&agent, &["respond", "holding"])?.contains(path).then_some(()))
    })?;
    for _ in 0..20 {
        ensure!(!acts(&program, &file)?, "it ran");
    }
    let told = stream.wait_for("what the kernel refused", |entry| match &entry.body {
        Some(entry::Body::Outcome(outcome)) if outcome.result() == ActionResult::Stopped => {
            Some(outcome.clone())
        }
        _ => None,
    })?;
    ensure!(
        told.number > 0 && told.detail.contains(path) && told.detail.contains("the kernel has refused"),
        "{told:?}"
    );
    ensure!(
        told.detail.contains("; the last who tried was process "),
        "{told:?}"
    );
    // Whether it was ended in its exec or not let in: the rule has found it, and whoever tried.
    let incident = stream.wait_for("an incident", |entry| match &entry.body {
        Some(entry::Body::Incident(incident)) => Some(incident.clone()),
        _ => None,
    })?;
    ensure!(
        incident.summary.contains("named") && incident.severity() == Severity::High,
        "{incident:#?}"
    );
    let audit = fs::read_to_string(agent.state().join("audit.jsonl"))?;
    ensure!(
        audit.contains(&format!(
            "the kernel refuses 1 executables that rules name: {path}"
        )),
        "{audit}"
    );

    agent.reload(&config("observe"))?;
    wait_for("it to be let run", patience(10), || {
        Ok(acts(&program, &file)?.then_some(()))
    })?;
    agent.reload(&config("act"))?;
    wait_for("it to be refused again", patience(10), || {
        Ok((!acts(&program, &file)?).then_some(()))
    })?;
    // The rule is for another now; and no rule keeps a host from what it cannot do without.
    name_it(Path::new("/bin/sh"))?;
    agent.reload(&config("act"))?;
    wait_for("it to be let run", patience(10), || {
        Ok(acts(&program, &file)?.then_some(()))
    })?;
    let holding = ask(&agent, &["respond", "holding"])?;
    ensure!(!holding.contains("/bin/sh"), "{holding}");
    Ok(())
}

/// The mode, the guard's list, and what never runs.
fn changed() -> Result<()> {
    const WORD: &str = "word-of-the-policy";
    let (bpffs, rules, programs) = (Bpffs::new()?, tempfile::tempdir()?, tempfile::tempdir()?);
    rule(rules.path(), WORD)?;
    let at = |name: &str| -> Result<PathBuf> { Ok(programs.path().canonicalize()?.join(name)) };
    let (program, tiny, file) = (at("suspect")?, at("tiny")?, at("file")?);
    fs::copy(helper("wait")?.get_program(), &program)?;
    tiny::write(&tiny)?;
    let respond = |more: &str| {
        format!(
            "[rules]\nbuiltin = false\npaths = [{:?}]\n[respond]\nbpffs = {:?}\n{more}",
            rules.path(),
            bpffs.path()
        )
    };
    let agent = Agent::start(&respond(""), None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let outcome_of = |pid: u32| {
        stream.wait_for("an outcome", |entry| match &entry.body {
            Some(entry::Body::Outcome(outcome)) => {
                let process = outcome.action.as_ref()?.target.as_ref()?;
                (process.tgid == pid).then(|| outcome.result())
            }
            _ => None,
        })
    };
    let first = suspect(&program, &[WORD])?;
    ensure!(outcome_of(first.0.id())? == ActionResult::Observed);
    // What a person has blocked for as long as can be stays so, whatever is read again.
    let ordered = at("ordered")?;
    tiny::write(&ordered)?;
    let path = ordered.to_str().context("a path")?;
    let number = self::respond(&agent, &["block", path, "--for", "30d"])?;
    done(&stream, &number)?;

    let said = agent.reload(&respond(&format!(
        "mode = \"act\"\nblock_executables = [{tiny:?}]\n"
    )))?;
    ensure!(
        said.contains("in force: respond.block_executables, respond.mode"),
        "{said}"
    );
    ensure!(agent.status()?.respond_mode == "act");
    let mut second = suspect(&program, &[WORD])?;
    ensure!(outcome_of(second.0.id())? == ActionResult::Done);
    ensure!(!second.0.wait()?.success(), "it ended by itself");
    wait_for("the program to be refused", patience(10), || {
        Ok((!acts(&tiny, &file)?).then_some(()))
    })?;

    agent.reload(&respond(&format!("mode = \"act\"\nprotected = [{program:?}]\n")))?;
    let third = suspect(&program, &[WORD])?;
    ensure!(outcome_of(third.0.id())? == ActionResult::Refused);
    wait_for("the program to be let in again", patience(10), || {
        Ok(acts(&tiny, &file)?.then_some(()))
    })?;

    // Another file by now: it is the path that is blocked.
    fs::rename(&ordered, at("moved")?)?;
    tiny::write(&ordered)?;
    ensure!(
        !acts(&ordered, &file)?,
        "what a person blocked was let run by a reload"
    );
    let said = agent.reload(&respond("cgroup = \"/sys/fs/cgroup\"\n"))?;
    ensure!(said.contains("after a restart: respond.cgroup"), "{said}");
    let error = agent.reload(&respond("max_kills_per_day = -1\n"));
    ensure!(format!("{:#}", error.expect_err("it is refused")).contains("nothing has changed"));
    ensure!(agent.status()?.respond_mode == "observe");
    agent.nothing_lost()
}

fn in_order() -> Result<()> {
    const WORD: &str = "word-of-the-suspect";
    let (bpffs, rules) = (Bpffs::new()?, tempfile::tempdir()?);
    rule(rules.path(), WORD)?;
    let agent = Agent::start(
        &format!(
            "[rules]\nbuiltin = false\npaths = [{:?}]\n[respond]\nmode = \"act\"\naction = [\"collect\", \"kill\", \"block\"]\nbpffs = {:?}\n",
            rules.path(),
            bpffs.path()
        ),
        None,
    )?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    // What is blocked is known by its inode, too: not the program of all these tests.
    let program = agent.folder().canonicalize()?.join("suspect");
    fs::copy(helper("wait")?.get_program(), &program)?;
    let mut suspect = suspect(&program, &[WORD, "--password=hunter2hunter2"])?;
    let mut outcomes = Vec::new();
    for kind in [ActionKind::Collect, ActionKind::Kill, ActionKind::Block] {
        let outcome = stream.wait_for("an outcome", |entry| match &entry.body {
            Some(entry::Body::Outcome(outcome)) => {
                let is_it = outcome.action.as_ref()?.kind() == kind;
                is_it.then(|| outcome.clone())
            }
            _ => None,
        })?;
        ensure!(outcome.result() == ActionResult::Done, "{outcome:?}");
        outcomes.push(outcome);
    }
    ensure!(
        outcomes[0].audit_number < outcomes[1].audit_number,
        "it was killed before its evidence was taken: {outcomes:?}"
    );
    let end = suspect.0.wait()?;
    ensure!(!end.success(), "it ended by itself");
    let bundles = fs::read_dir(agent.state().join("forensics"))?.filter_map(Result::ok);
    let bundles: Vec<PathBuf> = bundles.map(|entry| entry.path()).collect();
    let [bundle] = &bundles[..] else {
        anyhow::bail!("not one bundle: {bundles:?}")
    };
    let verified = Command::new(sensor()?)
        .args(["forensics", "verify"])
        .arg(bundle)
        .output()?;
    ensure!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    let events = part(bundle, "events.jsonl")?;
    ensure!(
        events.contains("\"exec\"") && events.contains(WORD) && !events.contains("hunter2"),
        "{events}"
    );
    let again = Command::new(&program)
        .args(helper("exit")?.get_args())
        .arg("0")
        .status();
    ensure!(!again.is_ok_and(|status| status.success()), "it ran again");

    let incident = outcomes[0]
        .action
        .as_ref()
        .map(|action| action.incident_id.clone())
        .unwrap_or_default();
    let told = wait_for("the story", patience(10), || {
        let told = ask(&agent, &["incidents", "show", &incident])?;
        Ok(told.contains("block").then_some(told))
    })?;
    ensure!(
        told.contains("collect evidence of") && told.contains("kill ["),
        "{told}"
    );
    ensure!(
        !told.contains("hunter2") && told.contains("<redacted>"),
        "a secret is told: {told}"
    );
    for file in ["sensor.db", "sensor.db-wal", "audit.jsonl"] {
        let kept = fs::read(agent.state().join(file)).unwrap_or_default();
        let has_secret = kept.windows(7).any(|window| window == b"hunter2");
        ensure!(!has_secret, "a secret is kept in {file}");
    }
    Ok(())
}

/// A part of a bundle.
fn part(bundle: &Path, name: &str) -> Result<String> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(fs::File::open(bundle)?)?);
    for entry in tar.entries()? {
        let mut entry = entry?;
        if entry.path()?.ends_with(name) {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            return Ok(text);
        }
    }
    anyhow::bail!("there is no {name}")
}

fn quarantined() -> Result<()> {
    let agent = Agent::start("[respond]\nbpffs = \"\"\n", None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let file = agent.folder().canonicalize()?.join("dropper");
    fs::write(&file, b"#!/bin/sh\necho bad\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o751))?;
    let path = file.to_str().context("a path")?;
    let number = respond(&agent, &["quarantine", path])?;
    done(&stream, &number)?;
    ensure!(!file.exists(), "it is still there");
    // Another one from the same place; by its number, the first comes back.
    fs::write(&file, b"another")?;
    let second = respond(&agent, &["quarantine", path])?;
    done(&stream, &second)?;
    let holding = ask(&agent, &["respond", "holding"])?;
    ensure!(
        holding == format!("{number}: file {path}, in quarantine\n{second}: file {path}, in quarantine\n"),
        "{holding}"
    );
    let undone = respond(&agent, &["undo", &number])?;
    done(&stream, &undone)?;
    ensure!(
        fs::read(&file)? == b"#!/bin/sh\necho bad\n",
        "it is not what it was"
    );
    let (code, said) = say(&agent, &["undo", &number])?;
    ensure!(code == Some(1) && said.contains("holds no more"), "{said}");
    let (code, said) = say(&agent, &["restore", path])?;
    ensure!(
        code == Some(1) && said.contains("something is there now"),
        "{said}"
    );
    ensure!(
        fs::metadata(&file)?.permissions().mode() & 0o7777 == 0o751,
        "its mode is another"
    );
    let number = respond(&agent, &["quarantine", "/etc/passwd"])?;
    let outcome = outcome(&stream, &number)?;
    ensure!(outcome.result() == ActionResult::Refused, "{outcome:?}");
    ensure!(Path::new("/etc/passwd").exists(), "the accounts are gone");
    Ok(())
}

/// The host is played by a cgroup: nothing else is cut off.
fn isolated() -> Result<()> {
    let cgroup = Cgroup::new("sensor-isolated")?;
    let bpffs = Bpffs::new()?;
    let agent = Agent::start(
        &format!(
            "[respond]\nbpffs = {:?}\ncgroup = {:?}\nisolate_allow = [\"192.0.2.9:53\", \"2001:db8::/64\"]\n",
            bpffs.path(),
            cgroup.unified()?
        ),
        None,
    )?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let plan = ask(&agent, &["respond", "isolate", "--dry-run"])?;
    ensure!(
        plan.contains("isolate would hit this host; the guard lets it"),
        "{plan}"
    );
    let number = respond(&agent, &["isolate", "--for", "30m", "--why", "a drill"])?;
    done(&stream, &number)?;
    let holding = wait_for("what is refused", patience(10), || {
        let said = ask(&agent, &["respond", "holding"])?;
        Ok(said.contains("network of this host").then_some(said))
    })?;
    ensure!(holding.contains("ends in 29m"), "{holding}");
    let short = respond(&agent, &["isolate", "--for", "1s"])?;
    done(&stream, &short)?;
    let over = stream.wait_for("its end", |entry| match &entry.body {
        Some(entry::Body::Outcome(outcome)) if outcome.result() == ActionResult::Expired => {
            Some(outcome.clone())
        }
        _ => None,
    })?;
    ensure!(over.number.to_string() == short, "{over:?}");
    let number = respond(&agent, &["isolate"])?;
    done(&stream, &number)?;
    let undone = respond(&agent, &["release"])?;
    done(&stream, &undone)?;
    wait_for("nothing to be refused", patience(10), || {
        Ok(ask(&agent, &["respond", "holding"])?
            .contains("nothing is held")
            .then_some(()))
    })
}

/// The agent is killed while it holds; the next one says that it is over.
fn held_alone() -> Result<()> {
    let cgroup = Cgroup::new("sensor-held-alone")?;
    let bpffs = Bpffs::new()?;
    let config = format!(
        "[respond]\nbpffs = {:?}\ncgroup = {:?}\n",
        bpffs.path(),
        cgroup.unified()?
    );
    // 192.0.2.0/24 is for documentation. Nothing is sent: it is asked whether it could be.
    let is_cut_off = || -> Result<bool> {
        let mut command = helper("udp-client")?;
        command.args(["192.0.2.7:9", "0", "1", "connected"]);
        let output = cgroup.enter(&mut command).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(said.contains("Operation not permitted"))
    };
    let mut agent = Agent::start(&config, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    ensure!(!is_cut_off()?, "it was cut off before");
    let number = respond(&agent, &["isolate", "--for", "30s"])?;
    done(&stream, &number)?;
    ensure!(is_cut_off()?, "it is not cut off");
    agent.daemon().kill()?;
    ensure!(is_cut_off()?, "it is connected once the agent is dead");
    agent.revive(&config)?;
    ensure!(is_cut_off()?, "it is connected under the next agent");
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let undone = respond(&agent, &["undo", &number])?;
    done(&stream, &undone)?;
    ensure!(!is_cut_off()?, "it is cut off still");

    let number = respond(&agent, &["isolate", "--for", "3s"])?;
    done(&stream, &number)?;
    ensure!(is_cut_off()?, "it is not cut off");
    agent.daemon().kill()?;
    wait_for("its end, without an agent", patience(10), || {
        Ok((!is_cut_off()?).then_some(()))
    })?;
    agent.revive(&config)?;
    wait_for("its end to be told", patience(10), || {
        let history = ask(&agent, &["respond", "history"])?;
        let line = history
            .lines()
            .find(|line| line.contains(&format!("{number}:")) && line.contains("its time is over"));
        Ok(line.map(str::to_owned))
    })
    .or_else(|error| Err(error.context(ask(&agent, &["respond", "history"])?)))?;
    Ok(())
}

fn waiting() -> Result<()> {
    const WORD: &str = "word-of-who-waits";
    let rules = tempfile::tempdir()?;
    rule(rules.path(), WORD)?;
    let config = format!(
        "[rules]\nbuiltin = false\npaths = [{:?}]\n[respond]\nmode = \"ask\"\nbpffs = \"\"\n",
        rules.path()
    );
    let mut agent = Agent::start(&config, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let mut suspect = Suspect(spawn(helper("wait")?.arg(WORD).stdin(Stdio::piped()))?);
    let asked = stream.wait_for("a question", |entry| match &entry.body {
        Some(entry::Body::Outcome(outcome)) if outcome.result() == ActionResult::Asked => {
            Some(outcome.clone())
        }
        _ => None,
    })?;
    agent.revive(&config)?;
    let pending = ask(&agent, &["respond", "pending"])?;
    ensure!(
        pending.starts_with(&format!("{}: kill [{}]", asked.number, suspect.0.id())),
        "{pending}"
    );
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    ask(&agent, &["respond", "approve", &asked.number.to_string()])?;
    done(&stream, &asked.number.to_string())?;
    ensure!(!suspect.0.wait()?.success(), "it ended by itself");
    Ok(())
}
