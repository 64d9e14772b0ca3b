//! Orders of system calls that are new to a workload.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Account, Event, Filter, Profile, Sequence, event};
use sensor_tests::{
    agent::Agent,
    cgroup::Cgroup,
    command::{helper, marker, spawn, wait},
    helper::UNUSUAL,
    history::events,
    patience::{patience, wait_for},
    stream::Stream,
};

use crate::case;

/// What the helper does all the time, up to where it goes another way.
const USUAL: [&str; 5] = ["getppid", "getuid", "getgid", "nanosleep", "access"];

/// New orders that are reported of a workload in a second, at most.
const REPORTS_MAX: u64 = 64;
/// Orders that are kept of a workload.
const WINDOWS_MAX: u32 = 16_384;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("sequence::exactly_what_is_new_is_reported_once", || {
            unless_skipped(exactly)
        }),
        case("sequence::a_flood_of_what_is_new_is_counted", flood),
        case(
            "sequence::a_workload_that_is_too_varied_is_not_enforced",
            too_varied,
        ),
        case("sequence::what_was_learned_outlives_the_agent", || {
            unless_skipped(outlives)
        }),
        case("sequence::a_damaged_file_is_set_aside", damaged),
        case("sequence::off_auto_and_on", off_auto_and_on),
    ]
}

fn config(learning: &str) -> String {
    format!("[capture]\nsequences = \"auto\"\nsequence_learning = \"{learning}\"\n")
}

/// How often a case is tried on a kernel that skips runs of programs.
const TRIALS: u32 = 5;

/// An order is exact only where the kernel skipped no run of the program, which it may since Linux 7.0: then the case is tried again.
fn unless_skipped(case: impl Fn(&mut Scene) -> Result<()>) -> Result<()> {
    for trial in 1.. {
        let mut scene = Scene::new("1s", 0)?;
        let Err(error) = case(&mut scene) else { break };
        let skipped = scene.agent.status()?.recursion_misses;
        ensure!(
            skipped > 0 && trial < TRIALS,
            "{error:?}; the kernel skipped {skipped} runs"
        );
        eprintln!("trial {trial}: the kernel skipped {skipped} runs");
    }
    Ok(())
}

/// An agent, a reader, and a program in a cgroup of its own that does the usual.
struct Scene {
    agent: Agent,
    stream: Stream,
    cgroup: Cgroup,
    file: PathBuf,
    program: Child,
}

impl Scene {
    fn new(learning: &str, calls: u32) -> Result<Self> {
        let agent = Agent::start(&config(learning), None)?;
        let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
        let cgroup = Cgroup::new(&marker())?;
        let file = agent.folder().join("go");
        let mut command = helper("sequences")?;
        command.arg(&file).arg(calls.to_string());
        let program = spawn(cgroup.enter(&mut command))?;
        Ok(Self {
            agent,
            stream,
            cgroup,
            file,
            program,
        })
    }

    fn workload(&self) -> String {
        format!("cgroup:{}", self.cgroup.path())
    }

    /// Waits until what is known of the program's workload is as `wanted`.
    fn wait_until(&self, what: &str, wanted: impl Fn(&Profile) -> bool) -> Result<Profile> {
        let workload = self.workload();
        wait_for(what, patience(20), || {
            let profiles = self.agent.status()?.profiles;
            Ok(profiles
                .into_iter()
                .find(|profile| profile.workload == workload && wanted(profile)))
        })
    }

    /// Lets the program do something else, to its end. The new orders that came.
    fn go(&mut self) -> Result<Vec<(Event, Sequence)>> {
        fs::write(&self.file, "")?;
        let status = wait(&mut self.program)?;
        ensure!(status.success(), "the program ended with {status}");
        self.stream.history(self.program.id())?;
        let got = self.stream.got();
        let pid = self.program.id();
        let ours = events(&got.entries).filter(|event| {
            let id = event.process.as_ref().and_then(|process| process.id);
            id.is_some_and(|id| id.tgid == pid)
        });
        Ok(ours
            .filter_map(|event| match &event.body {
                Some(event::Body::Sequence(sequence)) => Some((event.clone(), sequence.clone())),
                _ => None,
            })
            .collect())
    }

    /// Another agent, and another reader.
    fn restart(&mut self, learning: &str) -> Result<()> {
        self.agent.restart(&config(learning))?;
        self.stream = Stream::from_agent(&self.agent.socket(), Filter::default())?;
        Ok(())
    }

    fn account(&self) -> Result<Account> {
        let status = self.agent.status()?;
        let account = status
            .accounts
            .into_iter()
            .find(|account| account.signal == "sequence");
        account.context("there is no account of sequences")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn exactly(scene: &mut Scene) -> Result<()> {
    let learned = scene.wait_until("the program to be learned", |profile| profile.state == "enforced")?;
    ensure!(
        learned.windows >= USUAL.len() as u32,
        "only {} windows are known",
        learned.windows
    );
    let found = scene.go()?;
    let wanted = just_what_is_unusual(&found)?;
    for (event, _) in &found {
        let process = event.process.as_ref().context("an event of nobody")?;
        ensure!(
            process.workload == scene.workload(),
            "the workload is {:?}",
            process.workload
        );
        ensure!(process.tid == scene.program.id(), "the thread is {}", process.tid);
    }
    scene.agent.nothing_lost()?;
    let account = scene.account()?;
    // Other workloads of this host may have something new as well.
    ensure!(
        account.delivered >= wanted && account.aggregated >= 1,
        "what came again is not counted: {account:?}"
    );
    Ok(())
}

/// How many that is.
fn just_what_is_unusual(found: &[(Event, Sequence)]) -> Result<u64> {
    let unusual = UNUSUAL.map(|(_, name)| name);
    let all = [&USUAL[..], &unusual, &unusual].concat();
    // Every window of it that ends with something unusual; the last is the first that was all unusual, again.
    let wanted: Vec<&[&str]> = all.windows(6).take(2 * unusual.len() - 1).collect();
    let calls: Vec<_> = found.iter().map(|(_, sequence)| &sequence.calls).collect();
    ensure!(calls == wanted, "reported were {calls:#?}, not {wanted:#?}");
    Ok(wanted.len() as u64)
}

/// The other agent would learn for an hour.
fn outlives(scene: &mut Scene) -> Result<()> {
    let learned = scene.wait_until("the program to be learned", |profile| profile.state == "enforced")?;
    scene.restart("1h")?;
    let again = scene.wait_until("the program to be known again", |_| true)?;
    ensure!(
        again.state == "enforced" && again.windows >= learned.windows,
        "{learned:?} has become {again:?}"
    );
    // Its thread begins anew with the other agent: it needs six calls for its first window.
    thread::sleep(Duration::from_millis(200));
    let found = scene.go()?;
    just_what_is_unusual(&found)?;
    scene.agent.nothing_lost()
}

fn damaged() -> Result<()> {
    let mut scene = Scene::new("1s", 0)?;
    scene.wait_until("the program to be learned", |profile| profile.state == "enforced")?;
    scene.agent.stop()?;
    let state = scene.agent.state();
    let mut bytes = fs::read(state.join("sequences"))?;
    bytes.pop();
    fs::write(state.join("sequences"), &bytes)?;
    scene.restart("1h")?;
    let anew = scene.wait_until("the program to be learned anew", |_| true)?;
    ensure!(anew.state == "learning", "{anew:?} is of a damaged file");
    let aside = state.join("sequences.damaged");
    ensure!(fs::read(&aside)? == bytes, "the damaged file is not kept");
    let messages = scene.agent.daemon().messages();
    ensure!(
        messages.contains("sequences is of no use") && messages.contains(&*aside.to_string_lossy()),
        "it does not say so: {messages}"
    );
    Ok(())
}

fn flood() -> Result<()> {
    const CALLS: u32 = 3_000;
    let mut scene = Scene::new("1s", CALLS)?;
    scene.wait_until("the program to be learned", |profile| profile.state == "enforced")?;
    let found = scene.go()?;
    scene.agent.nothing_lost()?;
    let account = scene.account()?;
    ensure!(
        account.seen >= u64::from(CALLS) * 9 / 10 && account.seen == account.delivered + account.aggregated,
        "not everything is accounted for: {account:?}"
    );
    let last = &found.last().context("nothing was reported")?.1;
    ensure!(
        found.len() as u64 * 4 < u64::from(CALLS) && found.len() as u64 >= REPORTS_MAX,
        "{} were reported of {CALLS}",
        found.len()
    );
    ensure!(
        last.calls
            .last()
            .is_some_and(|call| call == "getpgid" || call == "getsid"),
        "what came after the flood is not there: {last:?}"
    );
    let withheld: u64 = found.iter().map(|(_, sequence)| sequence.withheld).sum();
    // What is neither reported nor withheld came again.
    ensure!(
        withheld > 0 && withheld <= account.aggregated,
        "{withheld} are said to be withheld, {account:?}"
    );
    Ok(())
}

fn too_varied() -> Result<()> {
    let mut scene = Scene::new("1h", 4 * WINDOWS_MAX)?;
    scene.wait_until("the program to be profiled", |profile| {
        profile.windows >= USUAL.len() as u32
    })?;
    let found = scene.go()?;
    let full = scene.wait_until("the profile to be full", |profile| profile.state == "full")?;
    // Two CPUs that count at once may miss one; here there is one.
    ensure!(full.windows == WINDOWS_MAX, "{} windows are kept", full.windows);
    ensure!(full.unstored > 0, "that more were seen is not counted");
    ensure!(found.is_empty(), "what is being learned was reported: {found:?}");
    Ok(())
}

fn off_auto_and_on() -> Result<()> {
    for (sequences, is_on, with_host) in [("off", false, false), ("auto", true, false), ("on", true, true)] {
        let agent = Agent::start(&format!("[capture]\nsequences = \"{sequences}\"\n"), None)?;
        let hook = |status: &sensor_proto::v1::Status| {
            let hook = status.hooks.iter().find(|hook| hook.signal == "sequence");
            hook.map(|hook| hook.rung.clone()).unwrap_or_default()
        };
        let cgroup = Cgroup::new(&marker())?;
        let mut command = helper("wait")?;
        let mut program = spawn(cgroup.enter(command.stdin(Stdio::piped())))?;
        let workload = format!("cgroup:{}", cgroup.path());
        let has = |name: &str| -> Result<bool> {
            let profiles = agent.status()?.profiles;
            Ok(profiles.iter().any(|profile| profile.workload == name))
        };
        let result = (|| {
            if is_on {
                wait_for("the cgroup to be profiled", patience(10), || {
                    Ok(has(&workload)?.then_some(()))
                })?;
            }
            let rung = hook(&agent.status()?);
            ensure!((rung == "off") != is_on, "{sequences}: the hook is {rung:?}");
            ensure!(
                has(&workload)? == is_on && has("host")? == with_host,
                "{sequences}: profiled are {:?}",
                agent.status()?.profiles
            );
            Ok(())
        })();
        program.kill()?;
        program.wait()?;
        result?;
    }
    Ok(())
}
