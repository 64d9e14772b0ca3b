//! Signals to a process, and to no other.

use std::{fmt, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::Refusal;
use crate::{
    host::{
        ProcessId,
        proc::{ProcDir, Stat, TICK_NS, process_ids, same_tick},
    },
    time::BootTime,
};

/// How long to wait for a killed process to be gone. It dies on its own time; the thread that waits here is the one
/// that reads the rings.
pub const WAIT: Duration = Duration::from_millis(2);

/// For how long at least it is known when a process began that was seen being forked: as long as not thousands are forked.
const NOTED: Duration = Duration::from_secs(1);

/// Knows exactly when processes began.
pub trait Births: fmt::Debug + Send + Sync {
    /// When the process began that has this id now, 0 if the last one has ended and the next is not known yet; `None` if nothing is known.
    fn of(&self, tgid: u32) -> Option<BootTime>;

    /// Of what was forked from when on that is known.
    fn since(&self) -> BootTime;
}

/// The processes that run now, each with when it began as exactly as is known. `births` is asked before `/proc`, so that who inherits an id in between
/// is not taken for whom `/proc` tells of. Who has ended is left out, and whose fork is not written down yet.
pub(super) fn running(births: Option<&dyn Births>) -> impl Iterator<Item = (ProcessId, ProcDir, Stat)> {
    process_ids(Path::new("/proc")).filter_map(move |tgid| {
        let born = births.and_then(|births| births.of(tgid));
        let process = ProcDir::open(tgid).ok()?;
        let stat = process.stat()?;
        if born == Some(BootTime(0)) || matches!(stat.state, b'Z' | b'X') {
            return None;
        }
        let start = born
            .filter(|born| same_tick(*born, stat.start))
            .unwrap_or(stat.start);
        Some((ProcessId { tgid, start }, process, stat))
    })
}

/// Why a process did not get a signal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Missed {
    /// It had ended before.
    #[error("{0}")]
    Gone(&'static str),
    /// What it runs now is protected.
    #[error("{0}")]
    Refused(Refusal),
    /// The kernel refused.
    #[error("{0}")]
    Failed(String),
}

/// A process that was identified, by a descriptor that names it for good.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: ProcessId,
    /// Its state when it was identified, as `/proc/PID/stat` has it.
    pub(crate) state: u8,
    pidfd: OwnedFd,
    process: ProcDir,
}

/// Whether another process than `id` has its id now. What is known of it from `/proc` began at the beginning of a tick.
fn is_another(id: ProcessId, births: &dyn Births) -> bool {
    let is_rounded = id.start.0.is_multiple_of(TICK_NS);
    match births.of(id.tgid) {
        Some(born) if is_rounded => !same_tick(born, id.start),
        Some(born) => born != id.start,
        // It was seen being forked, a moment ago: if that is not written down, what has the id now is not it.
        None => !is_rounded && id.start > births.since() && BootTime::now().since(id.start) < NOTED,
    }
}

impl Held {
    /// The process `id`, if `allow` lets what it runs be acted upon.
    ///
    /// The pidfd is opened first and keeps naming one process whatever happens to the process id; then `/proc` and `births` tell
    /// whether that is the process that was meant: the one knows all, the other to the nanosecond, in case the id changed hands within the
    /// hundredth of a second that is told apart in `/proc`. Were the id reused between the two, the pidfd would
    /// name the process that has ended, and a signal would fail. What it runs is read again because it may have
    /// executed something else since: that does not save it, unless it is protected.
    pub(crate) fn new(
        id: ProcessId,
        births: Option<&dyn Births>,
        allow: impl FnOnce(&[u8]) -> Result<(), Refusal>,
    ) -> Result<Self, Missed> {
        let pid = i32::try_from(id.tgid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(Missed::Gone("there is no process of this id"))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| match error {
            // Before Linux 6.1, who is just being released is no leader of threads.
            Errno::SRCH | Errno::INVAL => Missed::Gone("the process had ended"),
            error => Missed::Failed(format!("pidfd_open: {error}")),
        })?;
        let Some((process, stat)) = ProcDir::open_same(id) else {
            return Err(Missed::Gone(
                "the process had ended, and its id is free or another's",
            ));
        };
        if matches!(stat.state, b'Z' | b'X') {
            return Err(Missed::Gone("the process had ended and was not yet waited for"));
        }
        if births.is_some_and(|births| is_another(id, births)) {
            return Err(Missed::Gone(
                "the process had ended, and its id is free or another's",
            ));
        }
        let state = stat.state;
        let held = Self {
            id,
            state,
            pidfd,
            process,
        };
        let executable = held.process.executable().0;
        // What is just ending runs nothing any more.
        let is_ending = || held.process.stat().is_none_or(|stat| stat.exiting);
        if executable.is_empty() && is_ending() {
            return Err(Missed::Gone("the process had ended"));
        }
        allow(&executable).map_err(Missed::Refused)?;
        Ok(held)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Missed> {
        pidfd_send_signal(&self.pidfd, signal).map_err(|error| match error {
            Errno::SRCH => Missed::Gone("the process had ended"),
            error => Missed::Failed(format!("pidfd_send_signal: {error}; is CAP_KILL there?")),
        })
    }

    /// Whether it has ended by then.
    pub(crate) fn ended_within(&self, wait: Duration) -> bool {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        poll(&mut polled, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    /// Whether it is stopped, traced, or has ended.
    pub(crate) fn is_stopped(&self) -> bool {
        self.process.is_stopped()
    }

    /// Whether it runs no instruction and makes no other process, as [`ProcDir::is_at_rest`] has it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.process.is_at_rest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is known, of what was forked since then.
    #[derive(Debug)]
    struct Unknown(BootTime);

    impl Births for Unknown {
        fn of(&self, _tgid: u32) -> Option<BootTime> {
            None
        }

        fn since(&self) -> BootTime {
            self.0
        }
    }

    /// Whoever has an id now began then.
    #[derive(Debug)]
    struct Since(u64);

    impl Births for Since {
        fn of(&self, _tgid: u32) -> Option<BootTime> {
            Some(BootTime(self.0))
        }

        fn since(&self) -> BootTime {
            BootTime(0)
        }
    }

    fn held(id: ProcessId, births: &dyn Births) -> Result<Held, Missed> {
        Held::new(id, Some(births), |_| Ok(()))
    }

    #[test]
    fn who_has_just_begun_and_is_not_known_is_another() {
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let start = ProcDir::open(child.id()).unwrap().stat().unwrap().start;
        let id = |start| ProcessId {
            tgid: child.id(),
            start,
        };
        let (noted, later) = (Unknown(BootTime(0)), Unknown(BootTime::now()));
        let (before, seen) = (held(id(start), &noted), held(id(BootTime(start.0 + 1)), &noted));
        // By another agent, before this one.
        let elsewhere = held(id(BootTime(start.0 + 1)), &later);
        let long_ago = BootTime(BootTime::now().0 - NOTED.as_nanos() as u64 - 1);
        assert!(!is_another(id(long_ago), &noted));
        child.kill().unwrap();
        child.wait().unwrap();
        // Of who ran before the agent, nothing is ever known.
        assert!(before.is_ok() && elsewhere.is_ok());
        assert!(matches!(seen, Err(Missed::Gone(_))));
    }

    #[test]
    fn another_that_began_in_the_same_tick_is_another() {
        let own = std::process::id();
        let start = ProcDir::open(own).unwrap().stat().unwrap().start;
        let exact = BootTime(start.0 + 4_321);
        let id = |start| ProcessId { tgid: own, start };
        assert!(held(id(exact), &Since(exact.0)).is_ok());
        assert!(matches!(
            held(id(exact), &Since(exact.0 + 1)),
            Err(Missed::Gone(_))
        ));
        // It has ended, and who has its id now may not have been entered yet.
        assert!(matches!(held(id(exact), &Since(0)), Err(Missed::Gone(_))));
        assert!(matches!(held(id(start), &Since(0)), Err(Missed::Gone(_))));
        // Of who ran before the agent, `/proc` tells the tick alone.
        assert!(held(id(start), &Since(exact.0)).is_ok());
        assert!(matches!(
            held(id(start), &Since(exact.0 + TICK_NS)),
            Err(Missed::Gone(_))
        ));
    }
}
