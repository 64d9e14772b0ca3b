//! A child process with its messages kept aside, which never outlives this one in an orderly run.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a child may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines of a dead child's messages that are worth showing.
const LAST_LINES: usize = 20;

pub(crate) struct Child {
    name: &'static str,
    child: std::process::Child,
    messages: PathBuf,
}

impl Child {
    /// Starts `command` in a process group of its own, so that Ctrl-C does not reach it.
    pub(crate) fn start(name: &'static str, mut command: Command, folder: &Path) -> Result<Self> {
        let messages = folder.join(format!("{}.log", name.replace(' ', "-")));
        let file =
            File::create(&messages).with_context(|| format!("could not create {}", messages.display()))?;
        let child = command.stdin(Stdio::null()).stderr(file).process_group(0).spawn();
        let child = child.with_context(|| format!("could not start {name}"))?;
        Ok(Self {
            name,
            child,
            messages,
        })
    }

    /// How it ended, if it has.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error with its last words if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(status) = self.try_wait()? else {
            return Ok(());
        };
        let text = fs::read(&self.messages).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
        bail!(
            "{} ended with {status}; its last lines were:\n  {last}",
            self.name
        )
    }

    /// Asks it to end, and makes it if it does not.
    pub(crate) fn stop(&mut self) {
        let Ok(None) = self.child.try_wait() else { return };
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let Ok(None) = self.child.try_wait() else { return };
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!(
            "{} did not end within {PATIENCE:?} of SIGTERM and is killed",
            self.name
        );
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}
