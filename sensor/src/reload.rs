//! The configuration, read again while the agent runs.
//!
//! What is read is checked as at the start, and a file with a mistake changes nothing. Keys that can be put into force at once are; the
//! others are named, and wait for a restart.

use tokio::sync::Mutex;

use crate::{
    config::{self, Config, ConfigError},
    orders::{NoAnswer, Orders},
    pipeline::Command,
    respond::{Person, Step},
    rules::{Fault, RuleSet},
};

/// Keys that are put into force without a restart, with what lies below them.
const LIVE: [&str; 7] = [
    "capture.share",
    "capture.fold_window",
    "capture.off",
    "capture.watch",
    "capture.mute",
    "respond",
    "rules",
];

/// What lies below a live key and waits for a restart: where the kernel keeps its verdicts, and whose sockets they are about.
const FIXED: [&str; 2] = ["respond.bpffs", "respond.cgroup"];

/// Reads the configuration as at the start.
pub type Read = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Why a configuration was not put into force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It has a mistake.
    #[error("{0}; nothing has changed")]
    Config(#[from] ConfigError),
    /// A rule has a mistake that those in use have not.
    #[error("{}; the rules and the configuration that are in use stay", listed(.0))]
    Rules(Vec<Fault>),
    /// The kernel refused a part of it.
    #[error(
        "the kernel refused a part of the new configuration: {0}; restart the agent to have either the old or the new one whole"
    )]
    Refused(String),
    /// The agent is ending, or stuck.
    #[error("the agent did not answer; is it ending?")]
    NoAnswer,
}

impl From<NoAnswer> for ReloadError {
    fn from(_: NoAnswer) -> Self {
        Self::NoAnswer
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys whose values have changed, and are in force.
    pub applied: Vec<String>,
    /// Keys whose values have changed, and wait for a restart.
    pub needs_restart: Vec<String>,
    /// Rules that are in use from now on, in words.
    pub rules: String,
}

/// Reads and applies.
pub struct Reloader {
    read: Read,
    current: Mutex<Current>,
    pipeline: Orders,
}

/// What is in force.
struct Current {
    config: Config,
    rules: RulesInUse,
}

/// Rules that the pipeline has, as far as that matters when they are read again.
#[derive(Clone, Debug, Default)]
pub struct RulesInUse {
    fingerprint: u64,
    /// What is wrong with those that were left out.
    faults: Vec<Fault>,
    in_words: String,
}

impl RulesInUse {
    /// Of this set.
    #[must_use]
    pub fn of(rules: &RuleSet) -> Self {
        Self {
            fingerprint: rules.fingerprint,
            faults: rules.errors().cloned().collect(),
            in_words: format!("{} of {} rules in use", rules.active(), rules.rules.len()),
        }
    }
}

impl Reloader {
    /// Of an agent that began with `config`, which `read` reads again, and with these rules.
    #[must_use]
    pub fn new(config: Config, rules: RulesInUse, read: Read, pipeline: Orders) -> Self {
        Self {
            read,
            current: Mutex::new(Current { config, rules }),
            pipeline,
        }
    }

    /// Reads the configuration and the rules, and puts what has changed into force, once all of it is known to be good. One at a time.
    /// `who` wants it: the audit says so.
    ///
    /// # Errors
    /// If it is not valid, or could not be put into force.
    pub async fn reload(&self, who: Box<str>) -> Result<Reloaded, ReloadError> {
        let mut current = self.current.lock().await;
        let wanted = (self.read)()?;
        let rules = changed_rules(&wanted.rules, &current.rules).await?;
        let mut reloaded = compare(&current.config, &wanted);
        let changes = !reloaded.applied.is_empty() || rules.is_some();
        if reloaded.applied.iter().any(|key| key.starts_with("capture.")) {
            let capture = with_live_keys(&current.config.capture, &wanted.capture);
            self.pipeline
                .ask(|answer| Command::Apply(Box::new(capture.clone()), answer))
                .await?
                .map_err(ReloadError::Refused)?;
            current.config.capture = capture;
        }
        if reloaded.applied.iter().any(|key| key.starts_with("respond.")) {
            let respond = config::Respond {
                bpffs: current.config.respond.bpffs.clone(),
                cgroup: current.config.respond.cgroup.clone(),
                ..wanted.respond.clone()
            };
            self.pipeline
                .ask(|answer| Command::SetRespond(Box::new(respond.clone()), answer))
                .await?;
            current.config.respond = respond;
        }
        if let Some(rules) = rules {
            let in_use = RulesInUse::of(&rules);
            self.pipeline
                .ask(|answer| Command::SetRules(Box::new(rules), answer))
                .await?;
            current.rules = in_use;
        }
        current.config.rules = wanted.rules;
        reloaded.rules.clone_from(&current.rules.in_words);
        tracing::info!("configuration read again: {reloaded}");
        if changes {
            let why = format!("{reloaded}; {}", current.config.in_words());
            self.pipeline.note(Step::Configured, Person { name: who, why });
        }
        Ok(reloaded)
    }
}

/// The rules, compiled, if they are not those that are in use.
async fn changed_rules(config: &config::Rules, in_use: &RulesInUse) -> Result<Option<RuleSet>, ReloadError> {
    let (config, fingerprint) = (config.clone(), in_use.fingerprint);
    let read = tokio::task::spawn_blocking(move || RuleSet::load_changed(&config, fingerprint)).await;
    let Some(rules) = read.map_err(|_| ReloadError::NoAnswer)? else {
        return Ok(None);
    };
    let new = rules.errors().filter(|fault| !is_known(fault, &in_use.faults));
    let new: Vec<_> = new.cloned().collect();
    if new.is_empty() {
        Ok(Some(rules))
    } else {
        Err(ReloadError::Rules(new))
    }
}

/// Whether rules had that mistake before, perhaps in another line.
fn is_known(fault: &Fault, known: &[Fault]) -> bool {
    known
        .iter()
        .any(|other| other.place.file == fault.place.file && other.message == fault.message)
}

/// The first of them, and how many more there are.
fn listed(faults: &[Fault]) -> String {
    const SHOWN: usize = 5;
    let mut lines: Vec<_> = faults.iter().take(SHOWN).map(ToString::to_string).collect();
    if faults.len() > SHOWN {
        lines.push(format!(
            "and {} more: see `sensor rules check`",
            faults.len() - SHOWN
        ));
    }
    lines.join("\n")
}

impl std::fmt::Display for Reloaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.applied.is_empty() && self.needs_restart.is_empty() {
            f.write_str("no key has changed")?;
        }
        if !self.applied.is_empty() {
            write!(f, "in force: {}", self.applied.join(", "))?;
        }
        if !self.needs_restart.is_empty() {
            let separator = if self.applied.is_empty() { "" } else { "; " };
            write!(f, "{separator}after a restart: {}", self.needs_restart.join(", "))?;
        }
        if !self.rules.is_empty() {
            write!(f, "; {}", self.rules)?;
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
        rules: String::new(),
    }
}

fn is_live(key: &str) -> bool {
    let is_below = |live: &str| {
        key.strip_prefix(live)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    LIVE.iter().any(|live| is_below(live)) && !FIXED.contains(&key)
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
    let new = other.keys().filter(|name| !one.contains_key(*name));
    keys.extend(new.map(|name| format!("{prefix}{name}")));
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "x".as_ref()).unwrap()
    }

    #[test]
    fn changes_are_sorted_into_live_ones_and_others() {
        let wanted = config(
            "[capture]\nshare = 500\ncalls = false\n[capture.mute]\nusers = [7]\n[rules]\nbuiltin = false\n[respond]\nmode = \"act\"\ncgroup = \"/sys/fs/cgroup/x\"\n[export]\nadmin = \"127.0.0.1:1\"\n",
        );
        let reloaded = compare(&Config::default(), &wanted);
        assert_eq!(
            reloaded.applied,
            [
                "capture.mute.users",
                "capture.share",
                "respond.mode",
                "rules.builtin"
            ]
        );
        assert_eq!(
            reloaded.needs_restart,
            ["capture.calls", "export.admin", "respond.cgroup"]
        );
        assert_eq!(
            reloaded.to_string(),
            "in force: capture.mute.users, capture.share, respond.mode, rules.builtin; after a restart: capture.calls, export.admin, respond.cgroup"
        );
        let live = with_live_keys(&Config::default().capture, &wanted.capture);
        assert_eq!((live.share, live.calls), (500, true));
        assert_eq!(compare(&wanted, &wanted).to_string(), "no key has changed");
    }

    #[tokio::test]
    async fn a_mistake_changes_nothing() {
        let (commands, applied) = mpsc::channel();
        let read = || Config::parse("[capture]\nshare = 1\n", "/etc/sensor/sensor.toml".as_ref());
        let reloader = Reloader::new(
            Config::default(),
            RulesInUse::default(),
            Box::new(read),
            Orders::new(commands),
        );
        let error = reloader.reload("root".into()).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "/etc/sensor/sensor.toml:2: [capture] share: 1 is not allowed; allowed are 100 to 1000000; nothing has changed"
        );
        assert!(applied.try_recv().is_err());
    }

    /// What the pipeline is told, answered as the pipeline would.
    fn answer(orders: &mpsc::Receiver<Command>) -> usize {
        match orders.recv_timeout(Duration::from_secs(10)).unwrap() {
            Command::SetRules(rules, answer) => {
                answer.send(()).unwrap();
                rules.active()
            }
            _ => panic!("nothing else was asked for"),
        }
    }

    #[tokio::test]
    async fn a_rule_that_is_bad_since_the_last_time_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let write = |name: &str, key: &str| {
            let text = format!(
                "title: {name}\nlogsource:\n  category: process_creation\ndetection:\n  a:\n    {key}: x\n  condition: a\n"
            );
            std::fs::write(path.join(name).with_extension("yml"), text).unwrap();
        };
        let (commands, orders) = mpsc::channel();
        let rules = config::Rules {
            builtin: false,
            paths: vec![path.clone()],
            disable: Vec::new(),
        };
        let wanted = Config {
            rules,
            ..Config::default()
        };
        let (read, faulty) = (
            wanted.clone(),
            Fault {
                place: crate::rules::Place {
                    file: path.join("old.yml").display().to_string().into(),
                    line: 7,
                },
                message: "Unknown modifier 'nonsense'".into(),
                remedy: String::new(),
                harmless: false,
            },
        );
        let reloader = Reloader::new(
            wanted,
            RulesInUse {
                faults: vec![faulty],
                ..RulesInUse::default()
            },
            Box::new(move || Ok(read.clone())),
            Orders::new(commands),
        );
        write("good", "Image");
        // It was bad when the agent began.
        write("old", "Image|nonsense");
        let pipeline = std::thread::spawn(move || (answer(&orders), orders));
        let reloaded = reloader.reload("root".into()).await.unwrap();
        let (active, orders) = pipeline.join().unwrap();
        assert_eq!((reloaded.rules.as_str(), active), ("1 of 1 rules in use", 1));
        // Nothing has changed since: the pipeline is not asked.
        let again = reloader.reload("root".into()).await.unwrap();
        assert_eq!(again.rules, reloaded.rules);
        write("new", "Image|nonsense");
        let error = reloader.reload("root".into()).await.unwrap_err().to_string();
        assert!(
            error.contains("new.yml:6: error: Unknown modifier 'nonsense'; use contains,"),
            "{error}"
        );
        assert!(
            error.ends_with("the rules and the configuration that are in use stay"),
            "{error}"
        );
        assert!(!error.contains("old.yml"), "{error}");
        let noted = orders.try_iter().map(|command| match command {
            Command::Note(Step::Configured, person) => person,
            _ => panic!("the pipeline is asked for something"),
        });
        let noted: Vec<_> = noted.collect();
        assert_eq!(noted.len(), 1, "{noted:?}");
        assert!(
            *noted[0].name == *"root"
                && noted[0]
                    .why
                    .contains("1 of 1 rules in use; respond.mode is observe"),
            "{noted:?}"
        );
    }
}
