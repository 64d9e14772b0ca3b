//! Rings that are too small for what happens: what is lost is said, and whoever makes no noise is heard.

use std::{fs, process::Stdio, thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Filter, Loss, Result as Became, entry, event};
use sensor_tests::{
    agent::Agent,
    command::{helper, real_path, run, spawn, succeed, wait},
    stream::Stream,
};

use crate::{
    case,
    measures::{Suspect, rule},
    mute::Stopped,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("pressure::a_loss_is_told_and_the_account_adds_up", tiny),
        case("pressure::a_flood_has_its_share_and_others_are_heard", flood),
        case("pressure::after_a_loss_a_person_decides", distrusted),
    ]
}

/// The agent does not read while far more happens than its rings hold.
fn tiny() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(
        "[capture]\nring_bytes_critical = 8192\nring_bytes_bulk = 8192\nwatermark_bytes = 2048\n",
        None,
    )?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    {
        let _stopped = Stopped::new(agent.pid())?;
        succeed(helper("fork-storm")?.args(["200", ""]))?;
        succeed(helper("create-files")?.arg(folder.path()).args(["200", "2", "0"]))?;
    }
    let status = agent.settled()?;
    for signal in ["fork", "exit", "file_create", "file_unlink"] {
        let lost = status.accounts.iter().find(|account| account.signal == signal);
        let lost = lost.map_or(0, |account| account.lost);
        ensure!(lost > 100, "{lost} of {signal} were lost, in rings of two pages");
        stream.wait(&format!("the loss of {signal}"), |got| {
            let told = losses(&got.entries).filter(|loss| loss.signal == signal);
            (told.map(|loss| loss.count).sum::<u64>() >= lost).then_some(())
        })?;
    }
    let got = stream.got();
    for loss in losses(&got.entries) {
        ensure!(
            loss.from_ns < loss.to_ns && loss.stage == "ring" && !loss.reason.is_empty(),
            "a loss does not say when and why: {loss:?}"
        );
    }
    Ok(())
}

/// What was lost may be what explains an incident: nothing is ended because of it by the policy alone.
fn distrusted() -> Result<()> {
    const WORD: &str = "word-after-the-loss";
    let rules = tempfile::tempdir()?;
    rule(rules.path(), WORD)?;
    let agent = Agent::start(
        &format!(
            "[capture]\nring_bytes_critical = 8192\nwatermark_bytes = 2048\n[rules]\nbuiltin = false\npaths = [{:?}]\n\
             [respond]\nmode = \"act\"\nbpffs = \"\"\n",
            rules.path()
        ),
        None,
    )?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    {
        let _stopped = Stopped::new(agent.pid())?;
        succeed(helper("fork-storm")?.args(["200", ""]))?;
    }
    stream.wait("the loss of forks", |got| {
        losses(&got.entries)
            .any(|loss| loss.signal == "fork")
            .then_some(())
    })?;
    let mut suspect = Suspect(spawn(helper("wait")?.arg(WORD).stdin(Stdio::piped()))?);
    let outcome = stream.wait_for("an outcome", |entry| match &entry.body {
        Some(entry::Body::Outcome(outcome)) => Some(outcome.clone()),
        _ => None,
    })?;
    ensure!(
        outcome.result() == Became::Asked
            && outcome.detail.contains("events were lost within the last minute"),
        "{outcome:?}"
    );
    ensure!(suspect.0.try_wait()?.is_none(), "it was ended");
    Ok(())
}

fn flood() -> Result<()> {
    const QUIET: u32 = 20;
    let folder = tempfile::tempdir()?;
    let path = real_path(folder.path())?;
    let (noise, quiet) = (format!("{path}/noise"), format!("{path}/quiet"));
    fs::create_dir(&noise)?;
    fs::create_dir(&quiet)?;
    let agent = Agent::start("[capture]\nring_bytes_bulk = 2097152\nshare = 100\n", None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let (mut quiet_one, mut program) = (0, 0);
    {
        let _stopped = Stopped::new(agent.pid())?;
        let mut flood = spawn(helper("create-files")?.arg(&noise).args(["5000", "4", "0"]))?;
        sleep(Duration::from_millis(200));
        quiet_one += succeed(
            helper("create-files")?
                .arg(&quiet)
                .args([&QUIET.to_string(), "1", "50"]),
        )?;
        ensure!(wait(&mut flood)?.success(), "the flood failed");
        program += run(helper("exit")?.arg("7"))?.0;
    }
    // What is critical has rings of its own.
    stream.history(program)?.complete(1)?;
    let history = stream.history(quiet_one)?;
    let heard = history.bodies(|body| match body {
        event::Body::Operation(operation) if operation.path.starts_with(&quiet) => Some(()),
        _ => None,
    });
    let status = agent.settled()?;
    // From Linux 7.0 on whoever is preempted in a program keeps it from running for others, which the kernel counts.
    let skipped = status.recursion_misses;
    ensure!(
        heard.len() as u64 + skipped >= 2 * u64::from(QUIET),
        "{} of {} operations of the quiet process came, and the kernel skipped {skipped} runs",
        heard.len(),
        2 * QUIET
    );
    for account in &status.accounts {
        let is_critical = matches!(account.signal.as_str(), "exec" | "fork" | "exit");
        ensure!(!is_critical || account.lost == 0, "{account:?}");
    }
    stream.wait("the loss of the flood, with its reason", |got| {
        losses(&got.entries)
            .any(|loss| loss.signal == "file_create" && loss.reason.contains("share"))
            .then_some(())
    })
}

fn losses(entries: &[sensor_proto::v1::Entry]) -> impl Iterator<Item = &Loss> {
    entries.iter().filter_map(|entry| match &entry.body {
        Some(entry::Body::Loss(loss)) => Some(loss),
        _ => None,
    })
}
