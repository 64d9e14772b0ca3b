//! The configuration, read again while the agent runs.
//!
//! What is read is checked as at the start, and a file with a mistake changes nothing. Keys that can be put into force at once are; the
//! others are named, and wait for a restart.

use std::{sync::mpsc, time::Duration};

use tokio::sync::{Mutex, oneshot};

use crate::{
    config::{self, Config, ConfigError},
    pipeline::Command,
};

/// Keys of `[capture]` that are put into force without a restart; so is what lies below them.
const LIVE: [&str; 5] = ["share", "fold_window", "off", "watch", "mute"];

/// How long the pipeline may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the configuration as at the start.
pub type Read = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Why a configuration was not put into force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It has a mistake.
    #[error("{0}; nothing has changed")]
    Config(#[from] ConfigError),
    /// The kernel refused a part of it.
    #[error(
        "the kernel refused a part of the new configuration: {0}; restart the agent to have either the old or the new one whole"
    )]
    Refused(String),
    /// The agent is ending, or stuck.
    #[error("the agent did not answer; is it ending?")]
    NoAnswer,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys whose values have changed, and are in force.
    pub applied: Vec<String>,
    /// Keys whose values have changed, and wait for a restart.
    pub needs_restart: Vec<String>,
}

/// Reads and applies.
pub struct Reloader {
    read: Read,
    current: Mutex<Config>,
    pipeline: mpsc::Sender<Command>,
}

impl Reloader {
    /// Of an agent that began with `config`, which `read` reads again.
    #[must_use]
    pub fn new(config: Config, read: Read, pipeline: mpsc::Sender<Command>) -> Self {
        Self {
            read,
            current: Mutex::new(config),
            pipeline,
        }
    }

    /// Reads the configuration and puts what has changed into force. One at a time.
    ///
    /// # Errors
    /// If it is not valid, or could not be put into force.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let mut current = self.current.lock().await;
        let wanted = (self.read)()?;
        let reloaded = compare(&current, &wanted);
        if !reloaded.applied.is_empty() {
            let capture = with_live_keys(&current.capture, &wanted.capture);
            let (answer, answered) = oneshot::channel();
            self.pipeline
                .send(Command::Apply(Box::new(capture.clone()), answer))
                .map_err(|_| ReloadError::NoAnswer)?;
            let answered = tokio::time::timeout(PATIENCE, answered).await;
            let Ok(Ok(result)) = answered else {
                return Err(ReloadError::NoAnswer);
            };
            result.map_err(ReloadError::Refused)?;
            current.capture = capture;
        }
        tracing::info!("configuration read again: {reloaded}");
        Ok(reloaded)
    }
}

impl std::fmt::Display for Reloaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.applied.is_empty() && self.needs_restart.is_empty() {
            return f.write_str("nothing has changed");
        }
        if !self.applied.is_empty() {
            write!(f, "in force: {}", self.applied.join(", "))?;
        }
        if !self.needs_restart.is_empty() {
            let separator = if self.applied.is_empty() { "" } else { "; " };
            write!(f, "{separator}after a restart: {}", self.needs_restart.join(", "))?;
        }
        Ok(())
    }
}

fn with_live_keys(current: &config::Capture, wanted: &config::Capture) -> config::Capture {
    let config::Capture {
        share,
        fold_window,
        off,
        watch,
        mute,
        ..
    } = wanted.clone();
    config::Capture {
        share,
        fold_window,
        off,
        watch,
        mute,
        ..current.clone()
    }
}

/// The keys that differ, sorted into those that are live and those that are not.
fn compare(current: &Config, wanted: &Config) -> Reloaded {
    let mut keys = Vec::new();
    // What was read from TOML can be written as such.
    let tables = [current, wanted].map(|config| toml::Table::try_from(config).unwrap_or_default());
    differences("", &tables[0], &tables[1], &mut keys);
    let (applied, needs_restart) = keys.into_iter().partition(|key| is_live(key));
    Reloaded {
        applied,
        needs_restart,
    }
}

fn is_live(key: &str) -> bool {
    let Some(key) = key.strip_prefix("capture.") else {
        return false;
    };
    LIVE.contains(&key.split('.').next().unwrap_or(key))
}

fn differences(prefix: &str, one: &toml::Table, other: &toml::Table, keys: &mut Vec<String>) {
    for (name, value) in one {
        let key = format!("{prefix}{name}");
        match (value, other.get(name)) {
            (toml::Value::Table(one), Some(toml::Value::Table(other))) => {
                differences(&format!("{key}."), one, other, keys);
            }
            (value, counterpart) if Some(value) != counterpart => keys.push(key),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "x".as_ref()).unwrap()
    }

    #[test]
    fn changes_are_sorted_into_live_ones_and_others() {
        let wanted = config(
            "[capture]\nshare = 500\ncalls = false\n[capture.mute]\nusers = [7]\n[respond]\nmode = \"act\"\n",
        );
        let reloaded = compare(&Config::default(), &wanted);
        assert_eq!(reloaded.applied, ["capture.mute.users", "capture.share"]);
        assert_eq!(reloaded.needs_restart, ["capture.calls", "respond.mode"]);
        assert_eq!(
            reloaded.to_string(),
            "in force: capture.mute.users, capture.share; after a restart: capture.calls, respond.mode"
        );
        let live = with_live_keys(&Config::default().capture, &wanted.capture);
        assert_eq!((live.share, live.calls), (500, true));
        assert_eq!(compare(&wanted, &wanted).to_string(), "nothing has changed");
    }

    #[tokio::test]
    async fn a_mistake_changes_nothing() {
        let (commands, applied) = mpsc::channel();
        let read = || Config::parse("[capture]\nshare = 1\n", "/etc/sensor/sensor.toml".as_ref());
        let reloader = Reloader::new(Config::default(), Box::new(read), commands);
        let error = reloader.reload().await.unwrap_err().to_string();
        assert_eq!(
            error,
            "/etc/sensor/sensor.toml:2: [capture] share: 1 is not allowed; allowed are 100 to 1000000; nothing has changed"
        );
        assert!(applied.try_recv().is_err());
    }
}
