//! How soon what a rule names is dead, how long a family takes, and whether anybody else is hit.

use std::{
    collections::HashMap,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use sensor_proto::v1::{Filter, Outcome, Result as ActionResult, entry};
use sensor_tests::{
    agent::Agent,
    command::{helper, sensor, spawn},
    numbers::Numbers,
    patience::{patience, wait_for},
    stream::Stream,
};

/// Among the arguments of what is to be killed.
const WORD: &str = "word-of-the-killed";

/// An agent that kills whatever has the words among its arguments.
struct Killer {
    agent: Agent,
    stream: Stream,
    _rules: tempfile::TempDir,
}

impl Killer {
    fn start(words: &str) -> Result<Self> {
        let rules = tempfile::tempdir()?;
        let rule = format!(
            "title: killed\nid: killed\nlevel: high\nlogsource:\n  product: linux\n  category: process_creation\n\
             detection:\n  word:\n    CommandLine|contains: ' {words}'\n  condition: word\n"
        );
        std::fs::write(rules.path().join("rule.yml"), rule)?;
        let agent = Agent::start(
            &format!(
                "[rules]\nbuiltin = true\npaths = [{:?}]\n[respond]\nmode = \"act\"\nmin_severity = \"critical\"\n\
                 max_kills_per_minute = 1000\nmax_kills_per_day = 10000\n[[respond.rules]]\nseverity = \"high\"\nsubjects = [\"*\"]\n",
                rules.path()
            ),
            None,
        )?;
        let filter = Filter {
            signals: vec!["outcome".into()],
            ..Filter::default()
        };
        let stream = Stream::from_agent(&agent.socket(), filter)?;
        Ok(Self {
            agent,
            stream,
            _rules: rules,
        })
    }

    fn outcomes(&self) -> Vec<Outcome> {
        let got = self.stream.got();
        let outcomes = got.entries.iter().filter_map(|entry| match &entry.body {
            Some(entry::Body::Outcome(outcome)) => Some(outcome.clone()),
            _ => None,
        });
        outcomes.collect()
    }
}

/// From the kernel's time of the exec to the process being dead, in microseconds.
pub(super) fn one_by_one(rounds: usize, numbers: &mut Numbers) -> Result<()> {
    let killer = Killer::start(&format!("wait {WORD}"))?;
    let mut ends = HashMap::new();
    for _ in 0..rounds {
        let mut child = spawn(helper("wait")?.arg(WORD).stdin(Stdio::piped()))?;
        // It would end by itself at the end of its input.
        let _input = child.stdin.take();
        let status = child.wait()?;
        ends.insert(
            child.id(),
            SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64,
        );
        ensure!(status.signal() == Some(9), "it ended with {status}");
    }
    let outcomes = wait_for("all outcomes", patience(10), || {
        let outcomes = killer.outcomes();
        Ok((outcomes.len() >= rounds).then_some(outcomes))
    })?;
    let mut latencies: Vec<u64> = outcomes
        .iter()
        .filter(|outcome| outcome.result() == ActionResult::Done)
        .filter_map(|outcome| {
            // The agent waits for the end for a moment only; what took longer is known by who waited for it here.
            if !outcome.detail.contains("had not yet ended") {
                return Some(outcome.latency_ns);
            }
            let process = outcome.action.as_ref()?.target.as_ref()?;
            let begun = outcome.time_ns.saturating_sub(outcome.latency_ns);
            Some(ends.get(&process.tgid)?.saturating_sub(begun))
        })
        .collect();
    ensure!(
        latencies.len() == rounds,
        "{} of {rounds} were killed",
        latencies.len()
    );
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100] as f64 / 1_000.0;
    println!(
        "user_kill_us: p50 {:.0}, p99 {:.0}, from the kernel's time of the exec, over {rounds} processes; wanted: 300, 2000",
        at(50),
        at(99)
    );
    numbers.put("user_kill_us_p50", at(50).round());
    numbers.put("user_kill_us_p99", at(99).round());
    Ok(())
}

/// A shell and as many processes as it starts; ended at the end.
struct Family(Child);

impl Drop for Family {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From the order to the end of the last of them.
pub(super) fn family(members: usize, numbers: &mut Numbers) -> Result<()> {
    let killer = Killer::start(WORD)?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let script = format!("i=1; while [ $i -lt {members} ]; do sleep 600 & i=$((i+1)); done; wait");
        let mut command = Command::new("/bin/sh");
        let family = Family(spawn(command.args(["-c", &script]).stdin(Stdio::null()))?);
        let root = family.0.id().to_string();
        let respond = |arguments: &[&str]| -> Result<String> {
            let output = Command::new(sensor()?)
                .arg("respond")
                .args(arguments)
                .arg("--socket")
                .arg(killer.agent.socket())
                .output()?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        wait_for("all of them", patience(60), || {
            let plan = respond(&["kill", "--tree", "--dry-run", &root])?;
            Ok(plan.contains(&format!("{members} processes")).then_some(()))
        })?;
        let begun = respond(&["kill", "--tree", &root])?;
        let number: u64 = begun
            .split(':')
            .next()
            .unwrap_or_default()
            .parse()
            .context(begun.clone())?;
        let outcome = wait_for("the outcome", patience(60), || {
            Ok(killer
                .outcomes()
                .into_iter()
                .find(|outcome| outcome.number == number))
        })?;
        ensure!(
            outcome.result() == ActionResult::Done && outcome.detail.starts_with(&members.to_string()),
            "{outcome:?}"
        );
        times.push(outcome.latency_ns as f64 / 1e6);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "tree_kill_ms: {:.0} ({:.0} to {:.0}) for {members} processes",
        times[1], times[0], times[2]
    );
    numbers.put("tree_kill_ms", times[1].round());
    Ok(())
}

/// Whoever inherits the process id of what is to be killed. An agent kills so many in a minute and no more: each round has its own.
pub(super) fn heirs(rounds: usize, each: usize, numbers: &mut Numbers) -> Result<()> {
    let (mut reused, mut killed) = (0, 0);
    for _ in 0..rounds {
        // The helper that is told the word shall not be killed for it.
        let _killer = Killer::start(&format!("0 {WORD}"))?;
        let output = helper("reuse")?.args([&each.to_string(), WORD]).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = said.split_whitespace();
        let mut number = || words.nth(1).and_then(|word| word.parse::<u32>().ok());
        let (more_reused, more_killed) = number().zip(number()).context(said.clone())?;
        reused += more_reused;
        killed += more_killed;
    }
    println!("wrong_kills: {killed} of {reused} who inherited a process id; wanted: 0");
    numbers.put("wrong_kills", killed);
    numbers.put("wrong_kill_rounds", reused);
    Ok(())
}
