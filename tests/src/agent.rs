//! An agent under test.

use std::{
    fs,
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use sensor_proto::v1::Status;
use tempfile::TempDir;

use crate::{
    collector::Collector,
    command::sensor,
    daemon::Daemon,
    patience::{patience, wait_for},
    status,
};

/// A running agent with a folder of its own.
pub struct Agent {
    daemon: Daemon,
    folder: TempDir,
}

impl Agent {
    /// Starts one with the configuration `config` (TOML), and waits until it captures and, given the address of a
    /// collector, is connected to it.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(config: &str, collector: Option<&str>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let daemon = launch(folder.path(), config, collector)?;
        let mut agent = Self { daemon, folder };
        agent.wait_until_ready(collector.is_some())?;
        agent.note_rungs()?;
        Ok(agent)
    }

    /// Starts one that has enrolled with a collector over TLS, under this name.
    ///
    /// # Errors
    /// If it is not let in, or does not come up.
    pub fn start_enrolled(config: &str, collector: &Collector, host: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let enrolled = Command::new(sensor()?)
            .args([
                "enroll",
                "--collector",
                &collector.address(),
                "--token",
                "-",
                "--state",
            ])
            .arg(folder.path().join("state"))
            .env("SENSOR_CONFIG", "/dev/null")
            .stdin(input(&collector.token(host)?)?)
            .output()?;
        ensure!(
            enrolled.status.success(),
            "{}",
            String::from_utf8_lossy(&enrolled.stderr)
        );
        let config = format!("{config}\n[host]\nname = \"{host}\"\n");
        let daemon = launch(folder.path(), &config, Some(&collector.address()))?;
        let mut agent = Self { daemon, folder };
        agent.wait_until_ready(true)?;
        Ok(agent)
    }

    /// Ends it and starts another one, with what outlives an agent, without a collector.
    ///
    /// # Errors
    /// If one does not end or the other does not come up.
    pub fn restart(&mut self, config: &str) -> Result<()> {
        self.stop()?;
        self.daemon = launch(self.folder.path(), config, None)?;
        self.wait_until_ready(false)
    }

    /// Kills it as if it had failed, and starts another one with what outlives an agent, without a collector.
    ///
    /// # Errors
    /// If the other does not come up.
    pub fn revive(&mut self, config: &str) -> Result<()> {
        self.daemon.kill()?;
        self.daemon = launch(self.folder.path(), config, None)?;
        self.wait_until_ready(false)
    }

    /// Where it keeps what outlives it.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Appends how each signal is captured to the file that `SENSOR_TEST_RUNGS` names, if it does, in one line: `cargo xtask`
    /// makes a table of these lines.
    fn note_rungs(&self) -> Result<()> {
        let Some(path) = std::env::var_os("SENSOR_TEST_RUNGS") else {
            return Ok(());
        };
        let hooks = self.status()?.hooks;
        let rungs = hooks.iter().map(|hook| format!(" {}={}", hook.signal, hook.rung));
        let line = format!("rungs{}\n", rungs.collect::<String>());
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path)?;
        Ok(file.write_all(line.as_bytes())?)
    }

    /// The socket of its service.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sensor.sock")
    }

    /// A folder that lives as long as the agent.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Its process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// How it is.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn status(&self) -> Result<Status> {
        status::of(&self.socket())
    }

    /// How it is when what the kernel saw and what became of it add up, with nothing on the way.
    ///
    /// # Errors
    /// If they never do.
    pub fn settled(&self) -> Result<Status> {
        let settled = wait_for("the accounts to add up", patience(10), || {
            let status = self.status()?;
            Ok(status.accounts.iter().all(status::adds_up).then_some(status))
        });
        match settled {
            Ok(status) => Ok(status),
            Err(error) => Err(error.context(format!("{:#?}", self.status()?.accounts))),
        }
    }

    /// Waits until what the kernel saw and what became of it add up.
    ///
    /// # Errors
    /// If they never do, or if an event was lost. With one processor the agent waits for its turn behind whoever makes a flood: then files' events
    /// may be lost, and are counted.
    pub fn nothing_lost(&self) -> Result<()> {
        let accounts = self.settled()?.accounts;
        ensure!(!accounts.is_empty(), "the agent keeps no accounts");
        let is_alone = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
        ensure!(
            accounts
                .iter()
                .all(|account| account.lost == 0 || is_alone && account.signal.starts_with("file_")),
            "events were lost: {accounts:#?}"
        );
        Ok(())
    }

    /// Writes another configuration and has the agent read it, by the command that people use; what that says.
    ///
    /// # Errors
    /// If it is refused.
    pub fn reload(&self, config: &str) -> Result<String> {
        fs::write(self.folder().join("sensor.toml"), without_rules(config))?;
        let output = Command::new(sensor()?)
            .args(["reload", "--socket"])
            .arg(self.socket())
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends it with SIGTERM, which it must follow within two seconds, with exit status 0.
    ///
    /// # Errors
    /// If it does not.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.daemon.stop_within(2)?;
        ensure!(
            status.success(),
            "the agent ended with {status} and said:\n{}",
            self.daemon.messages()
        );
        Ok(())
    }

    fn wait_until_ready(&mut self, with_collector: bool) -> Result<()> {
        let socket = self.socket();
        let daemon = &mut self.daemon;
        let ready = wait_for("the agent to be ready", patience(20), || {
            daemon.check()?;
            Ok(status::of(&socket)
                .ok()
                .filter(|status| is_ready(status, with_collector)))
        });
        ready
            .map(|_| ())
            .with_context(|| format!("the agent said:\n{}", self.daemon.messages()))
    }
}

/// `config` without the rules that the agent brings along, unless it speaks of rules: where a case does by the thousand what one of
/// them is for, each time tells a grown incident, and the queue to the collector has no room for that many.
fn without_rules(config: &str) -> String {
    let rules = if config.contains("[rules]") {
        ""
    } else {
        "\n[rules]\nbuiltin = false\n"
    };
    format!("{config}{rules}")
}

/// A text as what a program reads.
fn input(text: &str) -> Result<fs::File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

fn launch(folder: &Path, config: &str, collector: Option<&str>) -> Result<Daemon> {
    let file = folder.join("sensor.toml");
    fs::write(&file, without_rules(config))?;
    let mut command = Command::new(sensor()?);
    command
        .arg("run")
        .arg("--config")
        .arg(file)
        .arg("--socket")
        .arg(folder.join("sensor.sock"))
        .arg("--state")
        .arg(folder.join("state"));
    if let Some(address) = collector {
        command.args(["--collector", address]);
    }
    Daemon::start("sensor", &mut command, folder)
}

fn is_ready(status: &Status, with_collector: bool) -> bool {
    let connected = status.uplink.as_ref().is_some_and(|uplink| uplink.connected);
    !status.hooks.is_empty() && (connected || !with_collector)
}
