//! From what is unusual to what is done about it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Incident, Outcome, Result as ActionResult, Side, entry};
use sensor_tests::{
    cgroup::Cgroup,
    command::{helper, real_path, spawn},
    patience::{patience, wait_for},
    stack::Stack,
    stream::Stream,
};

use crate::{
    case,
    measures::{Suspect, rule},
    orders::{audit, outcome, respond},
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        case(
            "respond::shell_of_a_service_is_killed_and_the_service_lives_on",
            kill,
        ),
        case("respond::observe_mode_says_it_and_does_nothing", observe),
        case("respond::protected_program_is_not_killed", protected),
        case("respond::a_person_is_asked_and_approves", approved),
        case("respond::a_person_is_asked_and_denies", denied),
        case("respond::what_nobody_answers_to_lapses", lapsed),
        case(
            "respond::whoever_has_become_a_protected_program_is_spared",
            turned_protected,
        ),
        case("respond::beyond_the_limit_a_person_is_asked", limited),
        case("respond::whoever_inherits_a_process_id_is_not_killed", inherited),
    ];
    // The ids of a machine that others use are not made few.
    if std::env::var_os("SENSOR_TEST_VM").is_some() {
        trials.push(case("respond::where_ids_are_few_nobody_else_is_killed", few_ids));
    }
    trials
}

const SHELL: &str = "/bin/sh";
const UNIT: &str = "sensor-test.service";

fn kill() -> Result<()> {
    let trial = Attack::begin("act", "[]")?;
    let (mut service, shell) = (trial.service, trial.shell);
    let end = service.say("end")?;
    ensure!(end == "signal 9", "the shell ended with {end}");
    let (incident, outcome) = trial.found;
    ensure!(outcome.result == ActionResult::Done as i32, "{outcome:?}");
    ensure!(
        incident.summary.contains(UNIT),
        "the incident does not name the service: {:?}",
        incident.summary
    );
    ensure!(incident.subject.contains(UNIT), "subject {:?}", incident.subject);
    ensure!(
        incident.signals.iter().any(|signal| !signal.reasons.is_empty()),
        "no reason: {incident:#?}"
    );
    let origin = incident.origin.context("nobody says how it came in")?;
    ensure!(
        origin.entry == "service" && origin.side() == Side::External,
        "the service was nobody's login: {origin:?}"
    );
    let history = trial.stream.history(shell)?;
    ensure!(history.exit()?.signal == Some(9), "exit {:?}", history.exit()?);
    let answer = service.say("spawn 1 /bin/true")?;
    ensure!(answer == "spawned 1", "the service says {answer:?}");
    Ok(())
}

fn observe() -> Result<()> {
    let mut trial = Attack::begin("observe", "[]")?;
    let outcome = &trial.found.1;
    ensure!(outcome.result == ActionResult::Observed as i32, "{outcome:?}");
    trial.shell_lives_on()
}

fn protected() -> Result<()> {
    let mut trial = Attack::begin("act", &format!("[{:?}]", real_path(SHELL)?))?;
    let outcome = &trial.found.1;
    ensure!(outcome.result == ActionResult::Refused as i32, "{outcome:?}");
    ensure!(
        outcome.detail.contains("protected"),
        "the reason is {:?}",
        outcome.detail
    );
    trial.shell_lives_on()
}

fn approved() -> Result<()> {
    let trial = Attack::begin("ask", "[]")?;
    let question = &trial.found.1;
    ensure!(question.result == ActionResult::Asked as i32, "{question:?}");
    let (_, pending) = respond(&trial.stack, &["pending"])?;
    ensure!(
        pending.contains(&trial.shell.to_string()) && pending.contains(UNIT),
        "the shell does not wait: {pending}"
    );
    let number = question.number.to_string();
    let (good, said) = respond(&trial.stack, &["approve", &number, "--why", "not ours"])?;
    ensure!(good && said.contains("done"), "{said}");
    let outcome = outcome(&trial.stream, trial.shell)?;
    ensure!(
        outcome.result == ActionResult::Done as i32 && outcome.number == question.number,
        "{outcome:?}"
    );
    let mut service = trial.service;
    let end = service.say("end")?;
    ensure!(end == "signal 9", "the shell ended with {end}");
    let list = audit(&trial.stack, "list")?;
    for step in [
        "proposed by policy",
        "asked by policy",
        "approved by root (uid 0): not ours",
        "done by root",
    ] {
        ensure!(list.contains(step), "the audit says nothing of {step:?}:\n{list}");
    }
    Ok(())
}

fn denied() -> Result<()> {
    let mut trial = Attack::begin("ask", "[]")?;
    let number = trial.found.1.number.to_string();
    let (good, said) = respond(&trial.stack, &["deny", &number])?;
    ensure!(good && said.contains("denied"), "{said}");
    let (_, pending) = respond(&trial.stack, &["pending"])?;
    ensure!(pending.contains("nothing waits"), "{pending}");
    trial.shell_lives_on()
}

/// Waits to be ended.
fn suspect(word: &str) -> Result<Suspect> {
    Ok(Suspect(spawn(helper("wait")?.arg(word).stdin(Stdio::piped()))?))
}

fn lives(suspect: &mut Suspect) -> Result<bool> {
    Ok(suspect.0.try_wait()?.is_none())
}

/// An agent that answers to a word among the arguments, as `config` says.
fn answering(word: &str, config: &str) -> Result<(Stack, tempfile::TempDir)> {
    let rules = tempfile::tempdir()?;
    rule(rules.path(), word)?;
    let stack = Stack::start(&format!(
        "[rules]\nbuiltin = false\npaths = [{:?}]\n[respond]\n{config}",
        rules.path()
    ))?;
    Ok((stack, rules))
}

/// The outcome for a process that is such a result.
fn such(stream: &Stream, pid: u32, result: ActionResult) -> Result<Outcome> {
    stream.wait_for(&format!("{result:?} for process {pid}"), |entry| {
        let Some(entry::Body::Outcome(outcome)) = &entry.body else {
            return None;
        };
        let target = outcome.action.as_ref()?.target?;
        (target.tgid == pid && outcome.result() == result).then(|| outcome.clone())
    })
}

fn lapsed() -> Result<()> {
    const WORD: &str = "word-of-who-lapses";
    let (stack, _rules) = answering(WORD, "mode = \"ask\"\nask_within = \"2s\"\n")?;
    let stream = stack.subscribe()?;
    let mut suspect = suspect(WORD)?;
    let asked = such(&stream, suspect.0.id(), ActionResult::Asked)?;
    let lapsed = such(&stream, suspect.0.id(), ActionResult::Lapsed)?;
    ensure!(
        lapsed.number == asked.number && lapsed.who == "time",
        "{lapsed:?}"
    );
    let waited = lapsed.time_ns.saturating_sub(asked.time_ns);
    ensure!(
        (1_500_000_000..10_000_000_000).contains(&waited),
        "it lapsed after {waited} ns"
    );
    let (good, said) = respond(&stack, &["approve", &asked.number.to_string()])?;
    ensure!(!good && said.contains("nothing waits"), "{said}");
    ensure!(lives(&mut suspect)?, "it was killed");
    Ok(())
}

fn turned_protected() -> Result<()> {
    const WORD: &str = "word-of-one-who-turns";
    let folder = tempfile::tempdir()?;
    let program = folder.path().canonicalize()?.join("needed");
    let wait = helper("wait")?;
    fs::copy(wait.get_program(), &program)?;
    let (stack, _rules) = answering(WORD, &format!("mode = \"ask\"\nprotected = [{program:?}]\n"))?;
    let stream = stack.subscribe()?;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "read go; exec \"$0\" \"$@\""]);
    shell.arg(&program).args(wait.get_args()).arg(WORD);
    let mut suspect = Suspect(spawn(shell.stdin(Stdio::piped()))?);
    let pid = suspect.0.id();
    let number = such(&stream, pid, ActionResult::Asked)?.number.to_string();
    writeln!(suspect.0.stdin.as_mut().context("no input")?, "go")?;
    wait_for("the other program", patience(10), || {
        let runs = fs::read_link(format!("/proc/{pid}/exe"))?;
        Ok((runs == program).then_some(()))
    })?;
    let (_, said) = respond(&stack, &["approve", &number])?;
    ensure!(said.contains("protected list"), "{said}");
    such(&stream, pid, ActionResult::Refused)?;
    ensure!(lives(&mut suspect)?, "it was killed");
    let list = audit(&stack, "list")?;
    ensure!(
        list.contains("protected list"),
        "the audit does not say why:\n{list}"
    );
    Ok(())
}

fn limited() -> Result<()> {
    const WORD: &str = "word-of-who-is-too-many";
    let (stack, _rules) = answering(WORD, "mode = \"act\"\nmax_kills_per_minute = 1\n")?;
    let stream = stack.subscribe()?;
    let first = suspect(WORD)?;
    such(&stream, first.0.id(), ActionResult::Done)?;
    let mut second = suspect(WORD)?;
    let asked = such(&stream, second.0.id(), ActionResult::Asked)?;
    ensure!(asked.detail.contains("respond.max_kills_per_minute"), "{asked:?}");
    ensure!(lives(&mut second)?, "it was killed");
    stream.wait_for("an incident about the limit", |entry| match &entry.body {
        Some(entry::Body::Incident(incident)) => incident
            .summary
            .contains("Automatic response is at its limit")
            .then_some(()),
        _ => None,
    })?;
    let (good, said) = respond(
        &stack,
        &["approve", &asked.number.to_string(), "--why", "it is bad"],
    )?;
    ensure!(good && said.contains("done"), "{said}");
    such(&stream, second.0.id(), ActionResult::Done)?;
    // Who orders more is asked whether they mean it.
    let mut third = suspect("somebody-else")?;
    stream.fence()?;
    let (_, said) = respond(&stack, &["kill", &third.0.id().to_string()])?;
    let asked = such(&stream, third.0.id(), ActionResult::Asked)?;
    ensure!(
        said.contains(&format!("sensor respond approve {}", asked.number)),
        "{said}"
    );
    ensure!(lives(&mut third)?, "it was killed");
    Ok(())
}

/// Ids come round within a few hundred forks: for one process, and for one with all that descends from it.
fn few_ids() -> Result<()> {
    const WORD: &str = "word-of-the-few";
    const FILE: &str = "/proc/sys/kernel/pid_max";
    const ROUNDS: u64 = 150;
    struct Restore(String);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ = fs::write(FILE, &self.0);
        }
    }
    for action in ["kill", "kill_tree"] {
        // The helper itself is not meant.
        let (stack, _rules) = answering(
            &format!("exit 0 {WORD}"),
            &format!(
                "mode = \"act\"\naction = {action:?}\nmax_kills_per_minute = 1000\nmax_kills_per_day = 10000\n"
            ),
        )?;
        let stream = stack.subscribe()?;
        let _restore = Restore(fs::read_to_string(FILE)?);
        fs::write(FILE, "700")?;
        let output = helper("reuse")?
            .args([&*ROUNDS.to_string(), WORD, "20"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{}: {said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        stream.fence()?;
        let got = stream.got();
        let acted = got.entries.iter().filter(|entry| {
            matches!(&entry.body, Some(entry::Body::Outcome(outcome))
                if matches!(outcome.result(), ActionResult::Done | ActionResult::Gone))
        });
        let acted = acted.count();
        eprintln!("{action}: {}, {acted} outcomes", said.trim());
        ensure!(acted as u64 >= ROUNDS / 2, "{acted} outcomes");
        ensure!(said.trim().ends_with("killed 0"), "{action}: {said}");
        let reused = format!("reused {} ", ROUNDS * 20);
        ensure!(said.starts_with(&reused), "{action}: {said}");
    }
    Ok(())
}

/// The process that a rule was for has ended, and another has its id, within the time in which `/proc` shows the same start for both.
fn inherited() -> Result<()> {
    const WORD: &str = "word-of-the-heirs";
    const ROUNDS: u32 = 1_000;
    let folder = tempfile::tempdir()?;
    let rule = format!(
        "title: heirs\nid: heirs\nlevel: high\nlogsource:\n  product: linux\n  category: process_creation\n\
         detection:\n  word:\n    CommandLine|contains: ' 0 {WORD}'\n  condition: word\n"
    );
    fs::write(folder.path().join("rule.yml"), rule)?;
    let stack = Stack::start(&format!(
        "[rules]\nbuiltin = false\npaths = [{:?}]\n[respond]\nmode = \"act\"\nmax_kills_per_minute = 1000\nmax_kills_per_day = 10000\n",
        folder.path()
    ))?;
    let stream = stack.subscribe()?;
    let output = helper("reuse")?.args([&ROUNDS.to_string(), WORD]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stream.fence()?;
    let got = stream.got();
    let outcomes = got.entries.iter().filter_map(|entry| match &entry.body {
        Some(entry::Body::Outcome(outcome)) => Some(outcome),
        _ => None,
    });
    let (mut done, mut gone) = (0, 0);
    for outcome in outcomes {
        match outcome.result() {
            ActionResult::Done => done += 1,
            ActionResult::Gone => gone += 1,
            other => anyhow::bail!("{other:?}: {outcome:?}"),
        }
    }
    eprintln!(
        "{}; {gone} had ended before they could be killed, {done} had not",
        said.trim()
    );
    let mut words = said.split_whitespace();
    let mut number = || words.nth(1).and_then(|word| word.parse::<u32>().ok());
    let (reused, killed) = (number().context("no number")?, number().context("no number")?);
    ensure!(
        reused >= ROUNDS * 9 / 10,
        "few process ids were inherited: {said}"
    );
    ensure!(gone > 0, "{gone} of {reused} had ended when the agent looked");
    ensure!(killed == 0, "{killed} heirs were killed");
    Ok(())
}

/// A service that has learned to start one program, and then starts a shell; and what the agent made of it.
/// Fields end in this order: the service before its cgroup, the reader before what it reads.
struct Attack {
    service: Service,
    shell: u32,
    found: (Incident, Outcome),
    stream: Stream,
    stack: Stack,
    _cgroup: Cgroup,
}

impl Attack {
    fn begin(mode: &str, protected: &str) -> Result<Self> {
        let stack = Stack::start(&format!(
            "[detect]\nlearn_events = 20\nlearn_minutes = 0\n[respond]\nmode = {mode:?}\nprotected = {protected}\n"
        ))?;
        let stream = stack.subscribe()?;
        let cgroup = Cgroup::new(UNIT)?;
        let mut service = Service::start(&cgroup)?;
        service.say("spawn 60 /bin/true")?;
        stream.fence()?;
        let answer = service.say("shell")?;
        let shell = answer.strip_prefix("shell ").and_then(|pid| pid.parse().ok());
        let shell = shell.with_context(|| format!("the service says {answer:?}"))?;
        let found = found(&stream, shell)?;
        Ok(Self {
            service,
            shell,
            found,
            stream,
            stack,
            _cgroup: cgroup,
        })
    }

    fn shell_lives_on(&mut self) -> Result<()> {
        ensure!(fs::exists(format!("/proc/{}", self.shell))?, "the shell is gone");
        let end = self.service.say("close")?;
        ensure!(end.starts_with("code "), "the shell ended with {end}");
        Ok(())
    }
}

/// The incident of process `shell`, and the outcome that belongs to it.
fn found(stream: &Stream, shell: u32) -> Result<(Incident, Outcome)> {
    let incident = stream.wait_for("an incident of the shell", |entry| match &entry.body {
        Some(entry::Body::Incident(incident)) => {
            let id = incident.process.as_ref().and_then(|process| process.id);
            id.is_some_and(|id| id.tgid == shell).then(|| incident.clone())
        }
        _ => None,
    })?;
    let outcome = stream.wait_for("an outcome for the shell", |entry| match &entry.body {
        Some(entry::Body::Outcome(outcome)) => {
            let action = outcome.action.as_ref()?;
            (action.target.is_some_and(|id| id.tgid == shell) && action.incident_id == incident.id)
                .then(|| outcome.clone())
        }
        _ => None,
    })?;
    Ok((incident, outcome))
}

/// The helper of that name, in its own cgroup.
struct Service {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Service {
    fn start(cgroup: &Cgroup) -> Result<Self> {
        let mut command = helper("service")?;
        command.arg(SHELL).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(cgroup.enter(&mut command))?;
        let orders = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("the service has no output")?);
        let (to, answers) = channel();
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(std::result::Result::ok)
                .try_for_each(|line| to.send(line))
        });
        Ok(Self {
            child,
            orders,
            answers,
        })
    }

    fn say(&mut self, order: &str) -> Result<String> {
        let orders = self.orders.as_mut().context("the service has no input")?;
        writeln!(orders, "{order}")?;
        self.answers
            .recv_timeout(patience(30))
            .with_context(|| format!("the service does not answer to {order:?}"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
