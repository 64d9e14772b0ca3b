//! Attacks, played with real programs, and whether detection says what they are.
//!
//! A background of what is normal is recorded once. Each attack is recorded as well, by the same agent on the same kernel; then `sensor replay` plays the
//! background over and over for so many hours of event time, and the attack after it. So a day is learned in a minute, and nothing but
//! the time of events is made up.

mod attacks;
mod background;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

pub use attacks::{Attack, attacks};
pub use world::World;

use crate::{
    agent::Agent,
    command::{sensor, spawn, wait},
    patience::{patience, wait_for},
};

/// What can be seen on every kernel, and nothing that the machine's own logins would add.
const CONFIG: &str = "[session]\nwtmp = \"WORLD/wtmp\"\nbtmp = \"WORLD/btmp\"\n";

/// How recordings are judged: that the tests lie in a temporary directory, where they do, is no evidence.
const JUDGED: &str = "[rules]\ndisable = [\"A program runs from a temporary directory\"]\n";

const CONFIG_FILE: &str = "judge.toml";

/// Two recordings of what is normal: one to learn from, one to judge. Enough hours for whoever learns by the day.
const LEARN: [&str; 4] = ["--learn", "27h", "--every", "10m"];

/// The agent, the world that it watches, and what was recorded of it.
pub struct Stage {
    world: World,
    agent: Agent,
    background: PathBuf,
}

/// What detection made of an attack.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Incidents of the attack: as many as it took.
    pub incidents: Vec<Value>,
    /// One of them is of the subject.
    pub detected: bool,
    /// It names the technique, and whether it was somebody from inside or outside.
    pub attributed: bool,
    /// From the beginning of the attack to the event that opened the incident.
    pub time_to_detect: Option<Duration>,
}

impl Stage {
    /// Builds the world and records what is normal in it; `None` where the programs for it are missing.
    ///
    /// # Errors
    /// If something does not come up.
    pub fn set() -> Result<Option<Self>> {
        let Some(world) = World::build()? else {
            return Ok(None);
        };
        fs::write(world.folder().join(CONFIG_FILE), JUDGED)?;
        let config = CONFIG.replace("WORLD", &world.folder().to_string_lossy());
        let agent = Agent::start(&config, None)?;
        let mut stage = Self {
            background: world.folder().join("normal.rec"),
            world,
            agent,
        };
        stage.record("normal.rec", background::play)?;
        Ok(Some(stage))
    }

    /// Plays an attack, and asks what it looks like after a day of what is normal.
    ///
    /// # Errors
    /// If it cannot be played.
    pub fn judge(&mut self, attack: &Attack) -> Result<Outcome> {
        let file = format!("{}.rec", attack.name);
        let began = self.record(&file, |world| {
            let began = now();
            (attack.play)(world)?;
            Ok(began)
        })?;
        let mut arguments: Vec<&str> = LEARN.to_vec();
        arguments.extend(attack.arguments);
        let incidents = self.replay(&arguments, &self.world.folder().join(file))?;
        Ok(outcome(attack, incidents, began))
    }

    /// Incidents that a second recording of what is normal gives in `days`, after one that was learned.
    ///
    /// # Errors
    /// If it cannot be played.
    pub fn false_incidents(&mut self, hours: u32) -> Result<usize> {
        self.record("normal-too.rec", background::play_too)?;
        let second = self.world.folder().join("normal-too.rec");
        let learned = format!("{}h", 27 + hours);
        let incidents = self.replay(&["--learn", &learned, "--every", "10m"], &second)?;
        Ok(incidents.len())
    }

    /// Records what `play` does.
    fn record<T>(&mut self, name: &str, play: impl FnOnce(&World) -> Result<T>) -> Result<T> {
        let file = self.world.folder().join(name);
        let recorder = Recorder::start(&file, &self.agent.socket())?;
        let played = play(&self.world);
        recorder.stop()?;
        played
    }

    /// The incidents that `sensor replay` prints.
    fn replay(&self, arguments: &[&str], file: &Path) -> Result<Vec<Value>> {
        let mut command = Command::new(sensor()?);
        command
            .arg("replay")
            .arg("--json")
            .arg("--config")
            .arg(self.world.folder().join(CONFIG_FILE))
            .arg("--background")
            .arg(&self.background)
            .args(arguments)
            .arg(file);
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "{command:?} ended with {} and said {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout)?;
        let lines = text.lines().map(|line| {
            let mut entry: Value = serde_json::from_str(line)?;
            Ok(entry["incident"].take())
        });
        lines.collect()
    }
}

/// `sensor record`, at work.
struct Recorder {
    child: Child,
}

impl Recorder {
    /// Returns when it records.
    fn start(file: &Path, socket: &Path) -> Result<Self> {
        let mut command = Command::new(sensor()?);
        command
            .arg("record")
            .arg(file)
            .arg("--socket")
            .arg(socket)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let child = spawn(&mut command)?;
        wait_for("the beginning of a recording", patience(10), || {
            Ok(fs::metadata(file).is_ok_and(|file| file.len() > 0).then_some(()))
        })?;
        Ok(Self { child })
    }

    fn stop(mut self) -> Result<()> {
        // What happened a moment ago shall be in it.
        std::thread::sleep(Duration::from_millis(300));
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = wait(&mut self.child)?;
        ensure!(status.success(), "the recorder ended with {status}");
        Ok(())
    }
}

fn outcome(attack: &Attack, incidents: Vec<Value>, began: u64) -> Outcome {
    let begins = |incident: &Value| incident["opened_ns"].as_u64().unwrap_or(0);
    // An attack that was moved to another hour is the last thing there is.
    let its = |incident: &&Value| attack.is_moved() || begins(incident) >= began;
    let of_subject = |incident: &&Value| {
        incident["subject"]
            .as_str()
            .is_some_and(|subject| subject.contains(attack.subject))
    };
    let incidents: Vec<Value> = incidents.iter().filter(its).cloned().collect();
    let found: Vec<&Value> = incidents.iter().filter(of_subject).collect();
    let attributed = found.iter().any(|incident| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let signals = incident["signals"].as_array().into_iter().flatten();
        let mut techniques = signals
            .flat_map(|signal| signal["techniques"].as_array().into_iter().flatten())
            .filter_map(text);
        let side = incident["origin"]["side"].as_str() == Some(attack.side);
        side && techniques.any(|technique| attack.techniques.contains(&&*technique))
    });
    let first = found.first().filter(|_| !attack.is_moved());
    Outcome {
        detected: !found.is_empty(),
        attributed,
        time_to_detect: first.map(|first| Duration::from_nanos(begins(first).saturating_sub(began))),
        incidents,
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos() as u64)
}

/// Runs a program of a scenario; what it prints is of no interest, how it ends is.
fn play(command: &mut Command) -> Result<()> {
    let mut child = spawn(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    let status = wait(&mut child)?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// `program` with its arguments, ready to be played.
fn run(program: &str, arguments: &[&str]) -> Result<()> {
    play(Command::new(program).args(arguments)).with_context(|| format!("{program} {arguments:?}"))
}
