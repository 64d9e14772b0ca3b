//! The suspect stands still while it is looked at.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::manifest::Paused;
use crate::respond::Held;

/// How long a process may take to stop; in the midst of a call that cannot be interrupted it takes longer.
const STOPS_WITHIN: Duration = Duration::from_millis(500);

/// A process that was stopped, and goes on when this is dropped.
pub(super) struct Pause<'a> {
    held: &'a Held,
    /// What came of it.
    pub(super) paused: Paused,
}

impl<'a> Pause<'a> {
    /// Stops it, unless it is at rest already or `forbidden` says why it must not be.
    pub(super) fn new(held: &'a Held, forbidden: Option<String>) -> Self {
        let paused = match forbidden {
            _ if held.is_stopped() => Paused::Before,
            Some(why) => Paused::Not(why),
            None => match held.signal(Signal::STOP) {
                Ok(()) => Paused::Running,
                Err(error) => Paused::Not(format!("it could not be stopped: {error}")),
            },
        };
        // From here on it is resumed, whatever happens.
        let mut pause = Self { held, paused };
        if pause.was_stopped() && pause.waits_until_at_rest() {
            pause.paused = Paused::Stopped;
        }
        pause
    }

    fn was_stopped(&self) -> bool {
        matches!(self.paused, Paused::Stopped | Paused::Running)
    }

    fn waits_until_at_rest(&self) -> bool {
        let deadline = Instant::now() + STOPS_WITHIN;
        loop {
            if self.held.is_at_rest() {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        if self.was_stopped()
            && let Err(error) = self.held.signal(Signal::CONT)
        {
            tracing::debug!("process {} was not resumed: {error}", self.held.id.tgid);
        }
    }
}
