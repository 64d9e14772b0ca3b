//! The evidence of a process: what is in it, what is not, and whether anybody can change it unseen.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use sensor_tests::{
    agent::Agent,
    command::{real_path, sensor, spawn},
    patience::{patience, wait_for},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case(
            "forensics::deleted_program_is_taken_whole_and_its_process_goes_on",
            deleted,
        ),
        case(
            "forensics::secrets_of_the_environment_are_only_in_memory",
            secrets,
        ),
        case("forensics::stopped_process_stays_stopped", stopped),
        case("forensics::whatever_is_changed_is_found", tampered),
        case("forensics::init_and_nobody_are_refused", refused),
        case(
            "forensics::an_agent_knows_what_came_before_and_writes_it_down",
            by_agent,
        ),
    ]
}

const SECRET: &str = "hunter2-of-the-environment";

fn deleted() -> Result<()> {
    let suspect = Suspect::start()?;
    fs::remove_file(&suspect.program)?;
    let bundle = suspect.collect(&["--why", "a test"])?;
    let manifest = &bundle.said["manifest"];
    ensure!(manifest["paused"]["state"] == "stopped", "{manifest}");
    ensure!(manifest["target"]["deleted"] == true, "{manifest}");
    ensure!(manifest["why"] == "a test", "{manifest}");
    ensure!(
        bundle.part("executable")? == fs::read(real_path(SHELL)?)?,
        "the executable is another"
    );
    let sockets = bundle.text("sockets.jsonl")?;
    ensure!(
        sockets.contains(&suspect.address) && sockets.contains("listening"),
        "the socket at {} is not in {sockets}",
        suspect.address
    );
    let family = bundle.text("family.jsonl")?;
    ensure!(
        family.contains(&format!("\"pid\":{}", std::process::id())),
        "the parent is not in {family}"
    );
    let maps = bundle.text("proc/maps")?;
    ensure!(maps.contains("[stack]"), "{maps}");
    suspect.goes_on()
}

fn secrets() -> Result<()> {
    let suspect = Suspect::start()?;
    let bundle = suspect.collect(&["--memory", "stack"])?;
    let environment = bundle.text("environment.json")?;
    ensure!(
        environment.contains("API_TOKEN=<redacted 26 bytes, sha256:"),
        "{environment}"
    );
    for (name, content) in &bundle.parts {
        let found = content
            .windows(SECRET.len())
            .any(|window| window == SECRET.as_bytes());
        ensure!(found == name.starts_with("memory/"), "{name}: {found}");
    }
    suspect.goes_on()
}

fn stopped() -> Result<()> {
    let suspect = Suspect::start()?;
    kill_process(suspect.pid(), Signal::STOP)?;
    suspect.wait_for_state('T')?;
    let bundle = suspect.collect(&[])?;
    ensure!(
        bundle.said["manifest"]["paused"]["state"] == "before",
        "{}",
        bundle.said
    );
    suspect.wait_for_state('T')?;
    kill_process(suspect.pid(), Signal::CONT)?;
    suspect.goes_on()
}

fn tampered() -> Result<()> {
    let suspect = Suspect::start()?;
    let bundle = suspect.collect(&[])?;
    let key = suspect.state().join("forensics.pub");
    let key = key.to_string_lossy();
    let intact = verify(&bundle.path, &["--key", &key])?;
    ensure!(intact.status.success(), "{intact:?}");

    let bytes = fs::read(&bundle.path)?;
    let copy = suspect.folder.path().join("copy");
    for at in (0..bytes.len()).step_by(bytes.len() / 64) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(&copy, &changed)?;
        let output = verify(&copy, &["--key", &key])?;
        ensure!(output.status.code() == Some(1), "byte {at}: {output:?}");
    }
    fs::write(&copy, &bytes[..bytes.len() - 1])?;
    let output = verify(&copy, &["--json"])?;
    let said: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(
        said["intact"] == false && said["findings"][0]["finding"] == "unsealed",
        "{said}"
    );
    let other = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let output = verify(&bundle.path, &["--key", other])?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    Ok(())
}

fn refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (pid, why) in [("1", "process 1 is never a target"), ("4194304", "no process")] {
        let mut command = Command::new(sensor()?);
        command.args(["forensics", "collect", pid, "--state"]);
        let output = command.arg(folder.path()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(why), "{pid}: {said}");
    }
    ensure!(
        !folder.path().join("forensics").exists(),
        "something was left behind"
    );
    Ok(())
}

fn by_agent() -> Result<()> {
    let agent = Agent::start("[respond]\nbpffs = \"\"\n", None)?;
    let suspect = Suspect::start()?;
    let socket = agent.socket();
    let socket = socket.to_str().context("a path")?;
    let bundle = suspect.collect(&["--why", "a test", "--memory", "stack", "--socket", socket])?;
    ensure!(
        bundle.path.starts_with(agent.state()),
        "it is in {}",
        bundle.path.display()
    );
    let manifest = &bundle.said["manifest"];
    ensure!(
        manifest["why"]
            .as_str()
            .is_some_and(|why| why.ends_with("asked for it: a test")),
        "{manifest}"
    );
    let has_memory = bundle.parts.iter().any(|(name, _)| name.starts_with("memory/"));
    ensure!(has_memory, "there is no memory in it");
    let events = bundle.text("events.jsonl")?;
    ensure!(
        events.contains("\"exec\"") && events.contains(&*suspect.program.to_string_lossy()),
        "{events}"
    );
    let audit = fs::read_to_string(agent.state().join("audit.jsonl"))?;
    let line = audit.lines().find(|line| line.contains("\"step\":\"done\""));
    ensure!(
        line.is_some_and(|line| line.contains("\"action\":\"collect\"")),
        "{audit}"
    );
    suspect.goes_on()
}

const SHELL: &str = "/bin/sh";

/// A shell of its own that waits for input, with a secret in its environment and a socket for its output.
struct Suspect {
    child: Child,
    program: PathBuf,
    address: String,
    folder: TempDir,
}

impl Suspect {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("sh");
        fs::copy(real_path(SHELL)?, &program)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let mut command = Command::new(&program);
        command
            .args(["-c", "read line"])
            .env("API_TOKEN", SECRET)
            .stdin(Stdio::piped())
            .stdout(OwnedFd::from(listener));
        Ok(Self {
            child: spawn(&mut command)?,
            program,
            address,
            folder,
        })
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn collect(&self, arguments: &[&str]) -> Result<Bundle> {
        let mut command = Command::new(sensor()?);
        command
            .args(["forensics", "collect", "--json", "--state"])
            .arg(self.state())
            .arg(self.child.id().to_string())
            .args(arguments);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{output:?}");
        Bundle::open(serde_json::from_str(&said).context(said)?)
    }

    fn wait_for_state(&self, state: char) -> Result<()> {
        let path = format!("/proc/{}/stat", self.child.id());
        wait_for(&format!("state {state}"), patience(10), || {
            let stat = fs::read_to_string(&path)?;
            let there = stat
                .rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim().starts_with(state));
            Ok(there.then_some(()))
        })
    }

    /// It runs, reads the end of its input, and ends by itself.
    fn goes_on(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        wait_for("the end of the suspect", patience(10), || {
            Ok(self.child.try_wait()?)
        })?;
        Ok(())
    }
}

impl Drop for Suspect {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bundle, and what was said of it.
struct Bundle {
    path: PathBuf,
    said: Value,
    parts: Vec<(String, Vec<u8>)>,
}

impl Bundle {
    fn open(said: Value) -> Result<Self> {
        let path = PathBuf::from(said["path"].as_str().context("no path was said")?);
        let content = zstd::stream::decode_all(fs::File::open(&path)?)?;
        let mut parts = Vec::new();
        for entry in tar::Archive::new(&content[..]).entries()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            parts.push((name, content));
        }
        Ok(Self { path, said, parts })
    }

    fn part(&self, name: &str) -> Result<&[u8]> {
        let found = self.parts.iter().find(|(part, _)| part == name);
        Ok(&found.with_context(|| format!("{name} is not in it"))?.1)
    }

    fn text(&self, name: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(self.part(name)?).into_owned())
    }
}

fn verify(file: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(sensor()?);
    command.args(["forensics", "verify"]).arg(file).args(arguments);
    Ok(command.output()?)
}
