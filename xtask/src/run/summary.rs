//! What the agent says about itself, for people.

use std::{fmt::Write as _, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::cargo;

/// The parts of `sensor status -o json` that are shown here.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Status {
    version: String,
    kernel: String,
    accounts: Vec<Account>,
    hooks: Vec<Hook>,
    peak_rss_bytes: Number,
    respond_mode: String,
    incidents: Number,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Account {
    signal: String,
    seen: Number,
    delivered: Number,
    muted: Number,
    aggregated: Number,
    lost: Number,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Hook {
    signal: String,
    rung: String,
}

/// A 64-bit number, which canonical proto JSON writes as text.
#[derive(Deserialize, Default, Clone, Copy)]
#[serde(from = "Value")]
struct Number(u64);

impl From<Value> for Number {
    fn from(value: Value) -> Self {
        let text = value.as_str().and_then(|text| text.parse().ok());
        Self(value.as_u64().or(text).unwrap_or_default())
    }
}

/// Asks the agent at `socket`.
pub(crate) fn status(sensor: &Path, socket: &Path) -> Result<Status> {
    let output = cargo::output(
        Command::new(sensor)
            .args(["status", "-o", "json", "--socket"])
            .arg(socket),
    )?;
    serde_json::from_str(&output).context("sensor status printed what is not its JSON")
}

/// One line for the beginning.
pub(crate) fn greeting(status: &Status) -> String {
    let Status {
        version,
        kernel,
        respond_mode,
        ..
    } = status;
    let attached = status
        .hooks
        .iter()
        .filter(|hook| !matches!(hook.rung.as_str(), "" | "off"))
        .count();
    format!(
        "sensor {version} on kernel {kernel}: {attached} of {} signals captured, response mode {respond_mode}. \
         Ctrl-C ends it.",
        status.hooks.len()
    )
}

/// The table for the end.
pub(crate) fn table(status: &Status) -> String {
    let mut text = format!(
        "{:<12}{:>12}{:>12}{:>12}{:>12}{:>12}\n",
        "signal", "seen", "delivered", "muted", "aggregated", "lost"
    );
    let off = |signal: &str| {
        let hook = status.hooks.iter().find(|hook| hook.signal == signal);
        hook.is_some_and(|hook| hook.rung == "off")
    };
    let accounts = status.accounts.iter();
    for Account {
        signal,
        seen,
        delivered,
        muted,
        aggregated,
        lost,
    } in accounts.filter(|account| account.seen.0 > 0 || !off(&account.signal))
    {
        let (seen, delivered, muted) = (seen.0, delivered.0, muted.0);
        let (aggregated, lost) = (aggregated.0, lost.0);
        let _ = writeln!(
            text,
            "{signal:<12}{seen:>12}{delivered:>12}{muted:>12}{aggregated:>12}{lost:>12}"
        );
    }
    let mib = status.peak_rss_bytes.0 as f64 / (1024.0 * 1024.0);
    let _ = write!(
        text,
        "incidents {}, peak memory of the agent {mib:.1} MiB",
        status.incidents.0
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_text_and_as_numbers() {
        let status: Status = serde_json::from_str(
            r#"{"accounts":[{"signal":"exec","seen":"18446744073709551615","lost":3}],"peak_rss_bytes":"2097152"}"#,
        )
        .expect("status");
        assert_eq!(status.accounts[0].seen.0, u64::MAX);
        assert_eq!(status.accounts[0].lost.0, 3);
        assert_eq!(status.accounts[0].muted.0, 0);
        assert!(table(&status).ends_with("peak memory of the agent 2.0 MiB"));
    }
}
