//! What a person has the agent do, and what is written down of it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Filter, Outcome, Result as ActionResult, entry};
use sensor_tests::{
    agent::Agent,
    command::{as_nobody, helper, sensor, spawn, wait},
    patience::{patience, wait_for},
    stack::Stack,
    stream::Stream,
};

use crate::{
    case,
    cli::sensor_for_all,
    measures::{Suspect, say},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("orders::a_family_ends_whole_and_nobody_else", family),
        case("orders::whoever_waits_for_a_stopped_child_is_at_rest", held),
        case("orders::a_fork_bomb_is_ended_whole", bomb),
        case("orders::an_audit_that_was_touched_is_found_out", touched),
        case("orders::what_is_suspended_goes_on_again", suspend),
        case("orders::the_guard_stands_before_people_too", guarded),
        case("orders::no_name_and_no_way_gets_around_the_guard", bypassed),
        case("orders::nobody_but_root_gives_orders", as_nobody_else),
    ]
}

/// What `sensor respond` says, and whether it was content.
pub(crate) fn respond(stack: &Stack, args: &[&str]) -> Result<(bool, String)> {
    let (code, said) = say(&stack.agent, args)?;
    Ok((code == Some(0), said))
}

/// What `sensor audit` says of a running agent's audit.
pub(crate) fn audit(stack: &Stack, command: &str) -> Result<String> {
    let output = Command::new(sensor()?)
        .args(["audit", command])
        .arg(stack.agent.state().join("audit.jsonl"))
        .output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{said}");
    Ok(said)
}

/// The next outcome for process `pid` that is not a question.
pub(crate) fn outcome(stream: &Stream, pid: u32) -> Result<Outcome> {
    stream.wait_for("an outcome", |entry| match &entry.body {
        Some(entry::Body::Outcome(outcome)) => {
            let target = outcome.action.as_ref()?.target?;
            (target.tgid == pid && outcome.result != ActionResult::Asked as i32).then(|| outcome.clone())
        }
        _ => None,
    })
}

/// A shell that starts what `script` says, and prints a process id for each; ended at the end.
struct Shell {
    child: Child,
    pids: Vec<u32>,
}

impl Shell {
    fn start(script: &str, lines: usize) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = spawn(&mut command)?;
        let output = BufReader::new(child.stdout.take().context("the shell has no output")?);
        let pids = output.lines().take(lines).map(|line| Ok(line?.trim().parse()?));
        let pids = pids.collect::<Result<Vec<u32>>>()?;
        Ok(Self { child, pids })
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in &self.pids {
            // What a failed case has left alive would live for ten minutes, and hold the output of the tests open.
            let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }
}

/// The state letter of a process; `None` if there is none any more.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

fn family() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let other = Shell::start("sleep 600 & echo $!; wait", 1)?;
    // The last one has lost its parent, and is init's.
    let script =
        "sleep 600 & echo $!; sh -c 'sleep 600 & echo $!; wait' & (sleep 600 & sleep 0.3; echo $!); wait";
    let family = Shell::start(script, 3)?;
    let root = family.child.id();
    stream.fence()?;
    let (_, plan) = respond(&stack, &["kill", "--tree", "--dry-run", &root.to_string()])?;
    ensure!(plan.contains("kill_tree would hit 5 processes"), "{plan}");
    ensure!(
        family.pids.iter().all(|pid| lives(*pid)),
        "a dry run has killed: {plan}"
    );

    let (good, said) = respond(&stack, &["kill", "--tree", &root.to_string(), "--why", "a test"])?;
    ensure!(
        good && said.contains("done, 5 processes were killed and have ended"),
        "{said}"
    );
    let outcome = outcome(&stream, root)?;
    ensure!(outcome.result == ActionResult::Done as i32, "{outcome:?}");
    ensure!(outcome.detail.contains("5 processes were killed"), "{outcome:?}");
    ensure!(outcome.who.contains("uid 0"), "{outcome:?}");
    ensure!(
        !family.pids.iter().any(|pid| lives(*pid)),
        "something of it lives: {:?}",
        family.pids
    );
    ensure!(lives(other.pids[0]), "a stranger was killed");
    let (_, _) = respond(&stack, &["kill", "--tree", &other.child.id().to_string()])?;

    let list = audit(&stack, "list")?;
    ensure!(
        list.contains("a test") && list.contains("done by root (uid 0)"),
        "{list}"
    );
    let verdict = audit(&stack, "verify")?;
    ensure!(verdict.starts_with("intact"), "{verdict}");
    ensure!(!outcome.audit_digest.is_empty(), "{outcome:?}");
    Ok(())
}

/// A parent in vfork(2) is not stopped before its child goes on: a tree that waits for that waits until its time is up.
/// While it goes off.
fn bomb() -> Result<()> {
    const MOST: &str = "400";
    const WORD: &str = "word-of-the-bomb";
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let members = || {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let of = |path: std::path::PathBuf| std::fs::read(path.join("cmdline")).unwrap_or_default();
        let has_word = |line: Vec<u8>| line.windows(WORD.len()).any(|part| part == WORD.as_bytes());
        entries.filter(|entry| has_word(of(entry.path()))).count()
    };
    let mut child = spawn(helper("fork-bomb")?.args([MOST, WORD]))?;
    let root = child.id();
    // As soon as the agent has heard of it.
    wait_for("the order to be taken", patience(10), || {
        let (good, said) = respond(&stack, &["kill", "--tree", &root.to_string(), "--why", "a test"])?;
        if !good {
            eprintln!("{said}");
        }
        Ok(good.then_some(()))
    })?;
    let outcome = outcome(&stream, root)?;
    wait(&mut child)?;
    eprintln!("{}", outcome.detail);
    ensure!(outcome.result == ActionResult::Done as i32, "{outcome:?}");
    wait_for("nothing to be left of it", patience(5), || {
        Ok((members() == 0).then_some(()))
    })?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    ensure!(members() == 0, "{} of it live again", members());
    Ok(())
}

/// In the midst of the file, and at its end.
fn touched() -> Result<()> {
    let stack = Stack::start("")?;
    let shell = Shell::start("echo $$; sleep 600", 1)?;
    stack.subscribe()?.fence()?;
    for order in ["suspend", "resume", "suspend", "resume"] {
        let (good, said) = respond(&stack, &[order, &shell.pids[0].to_string()])?;
        ensure!(good, "{said}");
    }
    let verified = audit(&stack, "verify")?;
    let path = stack.agent.state().join("audit.jsonl");
    let whole = std::fs::read_to_string(&path)?;
    let lines: Vec<&str> = whole.lines().collect();
    ensure!(lines.len() >= 8, "{whole}");
    for (name, text) in [
        ("changed", whole.replacen("suspend", "resume", 1)),
        ("left out", [&lines[..2], &lines[3..]].concat().join("\n") + "\n"),
        ("moved", {
            let mut moved = lines.clone();
            moved.swap(2, 4);
            moved.join("\n") + "\n"
        }),
        ("put in", {
            let mut more = lines.clone();
            more.insert(3, lines[5]);
            more.join("\n") + "\n"
        }),
    ] {
        std::fs::write(&path, text)?;
        let error = audit(&stack, "verify").expect_err("it is found out");
        ensure!(format!("{error:#}").contains("line"), "{name}: {error:#}");
    }
    std::fs::write(&path, &whole)?;
    ensure!(audit(&stack, "verify")? == verified);
    Ok(())
}

fn held() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let folder = tempfile::tempdir()?;
    let fifo = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU)?;
    let mut parent = spawn(helper("spawn-held")?.arg(&fifo).stdin(Stdio::null()))?;
    let root = parent.id();
    let children = Path::new("/proc").join(format!("{root}/task/{root}/children"));
    let child = wait_for("the child", patience(5), || {
        let listed = std::fs::read_to_string(&children)?;
        Ok(listed
            .trim()
            .parse::<u32>()
            .ok()
            .filter(|_| state(root) == Some('D')))
    })?;
    stream.fence()?;
    let (good, said) = respond(&stack, &["kill", "--tree", &root.to_string()])?;
    ensure!(good, "{said}");
    let outcome = outcome(&stream, root)?;
    let (ended, left) = (wait(&mut parent)?, lives(child));
    ensure!(
        outcome.detail.contains("2 processes were killed") && !outcome.detail.contains("still more"),
        "{outcome:?}"
    );
    ensure!(
        !ended.success() && !left,
        "the parent: {ended}; the child lives: {left}"
    );
    Ok(())
}

fn suspend() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let shell = Shell::start("echo $$; exec sleep 600", 1)?;
    let pid = shell.child.id();
    stream.fence()?;
    let (good, said) = respond(&stack, &["suspend", &pid.to_string()])?;
    ensure!(good && said.contains("done"), "{said}");
    let until = |wanted: &str| {
        wait_for("the process's state", patience(5), || {
            Ok(state(pid)
                .is_some_and(|state| wanted.contains(state))
                .then_some(()))
        })
    };
    until("T")?;
    let number = said.split(':').next().unwrap_or_default();
    let (good, said) = respond(&stack, &["undo", number])?;
    ensure!(good && said.contains("goes on"), "{said}");
    until("SR")
}

fn guarded() -> Result<()> {
    let stack = Stack::shared()?;
    for kind in [&["kill", "1"][..], &["suspend", "1"], &["kill", "--tree", "1"]] {
        let (_, said) = respond(&stack, kind)?;
        ensure!(said.contains("refused, process 1 is never a target"), "{said}");
    }
    let agent = stack.agent.pid().to_string();
    let (_, said) = respond(&stack, &["kill", &agent])?;
    ensure!(
        said.contains("refused, sensor itself is never a target"),
        "{said}"
    );
    let (good, said) = respond(&stack, &["approve", "999999"])?;
    ensure!(
        !good && said.contains("nothing waits under number 999999"),
        "{said}"
    );
    let (good, said) = respond(&stack, &["kill", "4194303"])?;
    ensure!(!good && said.contains("there is no process 4194303"), "{said}");
    let list = audit(&stack, "list")?;
    ensure!(list.contains("refused by root (uid 0): sensor itself"), "{list}");
    Ok(())
}

/// What is protected is so whatever it is called, whoever is its parent and whatever is to be done to it; each attempt is in the audit.
fn bypassed() -> Result<()> {
    let programs = tempfile::tempdir()?;
    let folder = programs.path().canonicalize()?;
    let (program, other, link) = (folder.join("daemon"), folder.join("other"), folder.join("link"));
    std::fs::copy(helper("wait")?.get_program(), &program)?;
    std::fs::hard_link(&program, &other)?;
    std::os::unix::fs::symlink(&program, &link)?;
    let agent = Agent::start(
        &format!("[respond]\nbpffs = \"\"\nprotected = [{program:?}]\n"),
        None,
    )?;
    let start = |program: &Path| -> Result<Suspect> {
        let mut command = Command::new(program);
        command.args(helper("wait")?.get_args()).stdin(Stdio::piped());
        Ok(Suspect(spawn(&mut command)?))
    };
    // A process is what the kernel says it runs: a link leads to that. Another name of the file is another program, as on hosts where one file is all programs.
    let by_names = [start(&program)?, start(&link)?];
    let role = helper("wait")?;
    let role: Vec<_> = role.get_args().map(std::ffi::OsStr::to_string_lossy).collect();
    // Somebody who is no part of the family keeps its input open.
    let input = folder.join("input");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &input,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )?;
    let _open = std::fs::File::options().read(true).write(true).open(&input)?;
    let script = format!(
        "sleep 600 & echo $!; {program:?} {} <{input:?} >/dev/null & echo $!; wait",
        role.join(" ")
    );
    let parent = Shell::start(&script, 2)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    stream.fence()?;
    let mut refused = Vec::new();
    for pid in by_names
        .iter()
        .map(|suspect| suspect.0.id())
        .chain([parent.pids[1]])
    {
        for kind in [&["kill"][..], &["kill", "--tree"], &["suspend"], &["disconnect"]] {
            refused.push(
                [kind, &[&*pid.to_string()]]
                    .concat()
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect(),
            );
        }
    }
    for path in [
        &program,
        &other,
        &link,
        &folder
            .join("../")
            .join(folder.file_name().context("a name")?)
            .join("daemon"),
    ] {
        for kind in ["block", "quarantine"] {
            refused.push(vec![kind.to_owned(), path.display().to_string()]);
        }
    }
    for words in [
        ["block", "127.0.0.0/8"],
        ["block", "::/0"],
        ["block", "/bin/sh"],
        ["revoke", "0"],
        ["quarantine", "/etc/passwd"],
    ] {
        refused.push(words.map(str::to_owned).to_vec());
    }
    let attempts = refused.len();
    for words in refused {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, said) = say(&agent, &words)?;
        ensure!(
            code == Some(1) && said.contains(": refused, "),
            "{words:?}: {said}"
        );
    }
    // With its parent, it is spared.
    let root = parent.child.id().to_string();
    let (_, plan) = say(&agent, &["kill", "--tree", "--dry-run", &root])?;
    let spared = format!("process {} ", parent.pids[1]);
    ensure!(
        plan.contains("would hit 2 processes") && plan.contains(&format!("{spared}would be spared")),
        "{plan}"
    );
    let (code, said) = say(&agent, &["kill", "--tree", &root])?;
    ensure!(
        code == Some(0) && said.contains(&format!("{spared}was spared")),
        "{said}"
    );
    ensure!(lives(parent.pids[1]) && !lives(parent.pids[0]), "{said}");
    for suspect in &by_names {
        ensure!(lives(suspect.0.id()), "something that is protected was ended");
    }
    ensure!(
        program.exists() && other.exists(),
        "something that is protected was taken away"
    );
    let audit = std::fs::read_to_string(agent.state().join("audit.jsonl"))?;
    let written = audit
        .lines()
        .filter(|line| line.contains("\"step\":\"refused\""))
        .count();
    ensure!(
        written == attempts,
        "{written} of {attempts} refusals are written down: {audit}"
    );
    Ok(())
}

fn as_nobody_else() -> Result<()> {
    let stack = Stack::shared()?;
    let (_folder, program) = sensor_for_all()?;
    let mut command = Command::new(program);
    command
        .args(["respond", "kill", "1", "--socket"])
        .arg(stack.agent.socket());
    let output = as_nobody(&mut command).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("may not"), "{said}");
    Ok(())
}
