//! Ending a process, and no other.

use std::{os::fd::AsFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::Refusal;
use crate::host::{ProcessId, proc::ProcDir};

/// How long to wait for a killed process to be gone. It dies on its own time; the thread that waits here is the one
/// that reads the rings.
pub const WAIT: Duration = Duration::from_millis(2);

/// What became of a kill.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Killed {
    /// It has ended.
    Ended,
    /// The signal is on its way: the process had not ended when the wait was over.
    Signalled,
    /// It had ended before.
    Gone(&'static str),
    /// What it runs now is protected.
    Refused(Refusal),
    /// The kernel refused.
    Failed(String),
}

/// Kills the process `id` if `allow` lets what it runs be killed.
///
/// The pidfd is opened first and keeps naming one process whatever happens to the process id; then `/proc` tells
/// whether that is the process that was meant. Were the id reused between the two, the pidfd would
/// name the process that has ended, and the signal would fail. What it runs is read again because it may have
/// executed something else since: that does not save it, unless it is protected.
pub(super) fn kill(id: ProcessId, allow: impl FnOnce(&[u8]) -> Result<(), Refusal>) -> Killed {
    let Some(pid) = i32::try_from(id.tgid).ok().and_then(Pid::from_raw) else {
        return Killed::Gone("there is no process of this id");
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Killed::Gone("the process had ended"),
        Err(error) => return Killed::Failed(format!("pidfd_open: {error}")),
    };
    let Some((process, stat)) = ProcDir::open_same(id) else {
        return Killed::Gone("the process had ended, and its id is free or another's");
    };
    if matches!(stat.state, b'Z' | b'X') {
        return Killed::Gone("the process had ended and was not yet waited for");
    }
    if let Err(refusal) = allow(&process.executable().0) {
        return Killed::Refused(refusal);
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Killed::Gone("the process had ended"),
        Err(error) => return Killed::Failed(format!("pidfd_send_signal: {error}; is CAP_KILL there?")),
    }
    if ended_within(&pidfd, WAIT) {
        Killed::Ended
    } else {
        Killed::Signalled
    }
}

fn ended_within(pidfd: &impl AsFd, wait: Duration) -> bool {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(wait.subsec_nanos()),
    };
    poll(&mut polled, Some(&timeout)).is_ok_and(|ready| ready > 0)
}
