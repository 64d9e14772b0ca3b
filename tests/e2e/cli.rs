//! What the agent's program says to people, and how it ends.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_tests::{
    SIGNALS,
    command::{as_nobody, sensor},
    stack::Stack,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("cli::doctor_finds_this_kernel_fit", doctor),
        case(
            "cli::doctor_without_root_says_what_it_could_not_check",
            doctor_without_root,
        ),
        case("cli::run_without_root_names_the_remedy", run_without_root),
        case(
            "cli::bad_configuration_is_refused_with_its_line",
            bad_configuration,
        ),
        case("cli::status_is_json_that_adds_up", status),
    ]
}

fn doctor() -> Result<()> {
    let output = Command::new(sensor()?).arg("doctor").output()?;
    ensure!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    for signal in SIGNALS.iter().copied() {
        ensure!(text.contains(signal), "it says nothing of {signal}: {text}");
    }
    Ok(())
}

fn doctor_without_root() -> Result<()> {
    let (_folder, sensor) = sensor_for_all()?;
    let output = as_nobody(Command::new(sensor).arg("doctor")).output()?;
    let text = said(&output).to_lowercase();
    ensure!(
        text.contains("root") || text.contains("cap_"),
        "it does not say what it lacks: {text}"
    );
    ensure!(
        text.contains("not check"),
        "it does not say that it could not check something: {text}"
    );
    Ok(())
}

fn run_without_root() -> Result<()> {
    let (folder, sensor) = sensor_for_all()?;
    let socket = folder.path().join("sensor.sock");
    let output = as_nobody(Command::new(sensor).arg("run").arg("--socket").arg(socket)).output()?;
    ensure!(output.status.code() == Some(2), "{}", said(&output));
    let text = said(&output).to_lowercase();
    ensure!(
        text.contains("root") || text.contains("cap_bpf"),
        "it names no remedy: {text}"
    );
    Ok(())
}

fn bad_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sensor.toml");
    for (text, line) in [
        ("[respond]\nmode = \"attack\"\n", 2),
        ("[respond]\n\nmod = \"act\"\n", 3),
        ("[respond\n", 1),
    ] {
        fs::write(&file, text)?;
        let output = Command::new(sensor()?)
            .arg("run")
            .arg("--config")
            .arg(&file)
            .output()?;
        ensure!(output.status.code() == Some(2), "{text:?}: {}", said(&output));
        let place = format!("{}:{line}", file.display());
        ensure!(
            said(&output).contains(&place),
            "{text:?}: it does not name {place}: {}",
            said(&output)
        );
    }
    Ok(())
}

fn status() -> Result<()> {
    let stack = Stack::shared()?;
    stack.agent.nothing_lost()?;
    let output = Command::new(sensor()?)
        .args(["status", "-o", "json", "--socket"])
        .arg(stack.agent.socket())
        .output()?;
    ensure!(output.status.success(), "{}", said(&output));
    let status: Value = serde_json::from_slice(&output.stdout)?;
    let accounts = status["accounts"].as_array().context("no accounts")?;
    ensure!(
        accounts.iter().any(|account| account["signal"] == "exec"),
        "no account of exec: {accounts:#?}"
    );
    ensure!(number(&status["rss_bytes"]) > 0, "no memory: {status:#}");
    for account in accounts {
        let lost = number(&account["lost"]);
        ensure!(lost == 0, "lost {lost}: {account}");
        ensure!(
            number(&account["delivered"]) <= number(&account["seen"]),
            "{account}"
        );
    }
    Ok(())
}

/// 64-bit numbers are texts in canonical proto JSON, and absent where they are zero.
fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or_default()
}

/// A copy of the agent's program in a folder that everybody may enter.
pub(crate) fn sensor_for_all() -> Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
    let copy = folder.path().join("sensor");
    fs::copy(sensor()?, &copy)?;
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o755))?;
    Ok((folder, copy))
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    format!("{}: {}", output.status, String::from_utf8_lossy(&text))
}
