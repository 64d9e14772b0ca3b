//! How many batches an agent may have on the way.
//!
//! Where all agents together send more than a collector takes, what they have on the way waits, and for longer the more it is: an acknowledgement
//! that takes ten seconds helps nobody, and what is not acknowledged is in memory at both ends. What waits, waits in many places, in the network's buffers for
//! the most part, so nothing of it is measured. By Little's law, an agent that always has its credit on the way waits for credit divided by rate;
//! so the credit is what the agent has had acknowledged in [`TARGET`]. One that is quick is given more each time, until it has what it can use; one that is
//! idle has [`LEAST`], which is enough for it.

use std::time::{Duration, Instant};

use crate::session::CREDIT;

/// How long batches should be on the way at most.
const TARGET: Duration = Duration::from_millis(200);

/// Credit of who has just come, or had little to say. With one batch at a time, nothing would be done while an answer is on its way.
pub const LEAST: u32 = 2;

/// The pace of one stream.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    since: Instant,
    /// What was acknowledged then.
    sequence: u64,
    credit: u32,
}

impl Pace {
    /// Of a stream that begins at `now`, behind `sequence`.
    #[must_use]
    pub fn new(sequence: u64, now: Instant) -> Self {
        Self {
            since: now,
            sequence,
            credit: LEAST,
        }
    }

    /// The credit that goes with the acknowledgement of `sequence` at `now`.
    pub fn credit(&mut self, sequence: u64, now: Instant) -> u32 {
        let span = now.saturating_duration_since(self.since);
        if span >= TARGET {
            let acknowledged = sequence.saturating_sub(self.sequence) as f64;
            let fair = acknowledged * TARGET.as_secs_f64() / span.as_secs_f64();
            *self = Self {
                since: now,
                sequence,
                credit: (fair.ceil() as u32).clamp(LEAST, CREDIT),
            };
        }
        self.credit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that always has its credit on the way, to where so many batches a second are taken and an answer takes so long; after
    /// some seconds, its credit and how long its batches wait.
    fn settled(taken: f64, way: f64) -> (u32, f64) {
        let begun = Instant::now();
        let (mut pace, mut now, mut sequence, mut wait) = (Pace::new(0, begun), 0.0, 0.0_f64, 0.0);
        let mut credit = LEAST;
        while now < 5.0 {
            wait = (f64::from(credit) / taken).max(way);
            now += wait;
            sequence += f64::from(credit);
            credit = pace.credit(sequence as u64, begun + Duration::from_secs_f64(now));
        }
        (credit, wait)
    }

    #[test]
    fn who_is_quick_has_all_and_who_waits_waits_no_longer_than_wanted() {
        assert_eq!(settled(1e6, 0.001).0, CREDIT);
        assert_eq!(settled(1e6, 0.05).0, CREDIT);
        let (credit, wait) = settled(50.0, 0.001);
        assert!((8..=12).contains(&credit) && wait <= 0.25, "{credit} {wait}");
        assert_eq!(settled(4.0, 0.001).0, LEAST);
    }

    #[test]
    fn who_was_idle_begins_anew() {
        let begun = Instant::now();
        let mut pace = Pace::new(7, begun);
        assert_eq!(pace.credit(7, begun), LEAST);
        assert_eq!(pace.credit(107, begun + TARGET), CREDIT);
        assert_eq!(pace.credit(108, begun + TARGET * 2), LEAST);
    }
}
