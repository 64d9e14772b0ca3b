//! What detection makes of a recording, and of attacks after a day of what is normal.

use std::{
    fs,
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_tests::{
    agent::Agent,
    command::{self, sensor, succeed},
    patience::{patience, wait_for},
    scenario::{Attack, Stage, World, attacks},
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        case("detect::recording_is_replayed_with_the_same_incidents", recording),
        case("detect::what_is_no_recording_is_refused", no_recording),
    ];
    // A machine that is emulated takes minutes for what is normal alone, and has not these programs.
    if std::env::var_os("SENSOR_TEST_VM").is_none() {
        let missing = World::missing();
        if !missing.is_empty() {
            eprintln!("scenarios are ignored: install {}", missing.join(", "));
        }
        let mut played: Vec<Trial> = attacks().into_iter().map(scenario).collect();
        played.push(case("detect::what_is_normal_stays_within_the_budget", normal));
        trials.extend(
            played
                .into_iter()
                .map(|trial| trial.with_ignored_flag(!missing.is_empty())),
        );
    }
    trials
}

fn replay(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(sensor()?).arg("replay").args(arguments).output()?)
}

fn recording() -> Result<()> {
    let agent = Agent::start("", None)?;
    let file = agent.folder().join("host.rec");
    let mut record = Command::new(sensor()?);
    record
        .arg("record")
        .arg(&file)
        .arg("--socket")
        .arg(agent.socket());
    let mut recorder = command::spawn(record.args(["--duration", "3s"]))?;
    wait_for("the beginning of a recording", patience(10), || {
        Ok(fs::metadata(&file).is_ok_and(|file| file.len() > 0).then_some(()))
    })?;
    let marker = command::marker();
    succeed(Command::new("/bin/true").arg(&marker))?;
    ensure!(command::wait(&mut recorder)?.success(), "it did not record");
    let path = file.to_string_lossy().into_owned();
    let [once, again] = [replay(&["--json", &path])?, replay(&["--json", &path])?];
    ensure!(once.status.success(), "{}", String::from_utf8_lossy(&once.stderr));
    ensure!(
        once.stdout == again.stdout,
        "the same recording gives other incidents"
    );
    let said = String::from_utf8_lossy(&once.stderr).into_owned();
    ensure!(
        said.contains("events") && !said.contains(" in 0 events"),
        "{said}"
    );
    ensure!(fs::metadata(&file)?.len() > 1_000, "the recording is empty");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file)?.permissions());
    ensure!(mode & 0o077 == 0, "others may read it: {mode:o}");
    agent.nothing_lost()
}

fn no_recording() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file");
    fs::write(&path, "#!/bin/sh\n")?;
    let output = replay(&[&path.to_string_lossy()])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{}", output.status);
    ensure!(said.contains("this is no recording"), "{said}");
    Ok(())
}

/// The stage is set once: what is normal takes longer than any attack. An error is why it cannot be.
static STAGE: Mutex<Option<Result<Option<Stage>, String>>> = Mutex::new(None);

/// Nothing of it may outlive the tests.
pub(crate) fn end_stage() {
    STAGE.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Three days beyond what is learned, and then the same in another order: one incident a day is allowed, half as much again for chance.
fn normal() -> Result<()> {
    let mut stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(stage) = set(&mut stage)? else {
        return Ok(());
    };
    let incidents = stage.false_incidents(72)?;
    ensure!(
        incidents <= 6,
        "{incidents} incidents in four days of what is normal"
    );
    Ok(())
}

fn set(stage: &mut Option<Result<Option<Stage>, String>>) -> Result<Option<&mut Stage>> {
    let stage = stage.get_or_insert_with(|| Stage::set().map_err(|error| format!("{error:#}")));
    let stage = stage.as_mut().map_err(|why| anyhow::anyhow!("{why}"))?;
    if stage.is_none() {
        eprintln!("the programs for it are not here");
    }
    Ok(stage.as_mut())
}

fn scenario(attack: Attack) -> Trial {
    Trial::test(format!("detect::scenario_{}", attack.name), move || {
        judge(&attack).map_err(|error| {
            let message = format!("{error:#}");
            eprintln!("{message}");
            message.into()
        })
    })
}

fn judge(attack: &Attack) -> Result<()> {
    let mut stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(stage) = set(&mut stage)? else {
        return Ok(());
    };
    let outcome = stage.judge(attack).context(attack.name)?;
    let shown = || -> String {
        let lines = outcome.incidents.iter().map(|incident| {
            format!(
                "\n  {} {} {} {:?} {}",
                incident["subject"],
                incident["origin"]["side"],
                incident["summary"],
                techniques(incident),
                incident["origin"]["reasons"]
            )
        });
        lines.collect()
    };
    ensure!(outcome.detected, "{} is not an incident:{}", attack.name, shown());
    ensure!(
        outcome.attributed,
        "{} is not called {:?} and {}:{}",
        attack.name,
        attack.techniques,
        attack.side,
        shown()
    );
    Ok(())
}

/// The techniques that the evidence names.
fn techniques(incident: &serde_json::Value) -> Vec<&str> {
    let signals = incident["signals"].as_array().into_iter().flatten();
    let named = signals.flat_map(|signal| signal["techniques"].as_array().into_iter().flatten());
    named.filter_map(serde_json::Value::as_str).collect()
}
