//! A program under test that runs in the background.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::patience::{patience, wait_for};

/// A running program; dropping it ends it.
pub struct Daemon {
    child: Child,
    messages: PathBuf,
}

impl Daemon {
    /// Starts `command` with its messages in a file in `folder`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self> {
        let messages = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&messages)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn();
        let child = child.with_context(|| format!("could not start {}", command.get_program().display()))?;
        Ok(Self { child, messages })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    #[must_use]
    pub fn messages(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.messages).unwrap_or_default()).into_owned()
    }

    /// An error with what it said if it has ended.
    ///
    /// # Errors
    /// If it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "process {} ended with {status} and said:\n{}",
                self.pid(),
                self.messages()
            ),
        }
    }

    /// Asks it to end with SIGTERM and waits for `seconds` of patience.
    ///
    /// # Errors
    /// If it is still there then.
    pub fn stop_within(&mut self, seconds: u64) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        }
        wait_for("the end of a process after SIGTERM", patience(seconds), || {
            Ok(self.child.try_wait()?)
        })
    }

    /// Ends it with SIGKILL: it has no say.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.stop_within(5).is_err() {
            let _ = self.kill();
        }
    }
}
