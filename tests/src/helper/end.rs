//! Ways to end.

use std::{io::Read as _, process};

use anyhow::Result;
use rustix::process::{Signal, getpid, kill_process};

use super::number;

/// `exit CODE …`: ends with a code. Further arguments are for others to see.
pub(super) fn exit(args: &[String]) -> Result<()> {
    process::exit(number(args, 0)?)
}

/// `die SIGNAL`: ends by a signal.
pub(super) fn die(args: &[String]) -> Result<()> {
    let signal = match number(args, 0)? {
        6 => Signal::ABORT,
        9 => Signal::KILL,
        15 => Signal::TERM,
        other => anyhow::bail!("signal {other} is not among those that are tested"),
    };
    kill_process(getpid(), signal)?;
    anyhow::bail!("the signal did not end this process")
}

/// `wait …`: ends when its input does.
pub(super) fn wait() -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
