//! When to try again.

use std::time::Duration;

/// First and longest time between attempts.
pub(super) const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubling times between attempts, each scattered over half to all of itself.
pub(super) struct Backoff {
    next: Duration,
    state: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            next: FIRST,
            state: seed,
        }
    }

    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    pub(super) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole.mul_f64(0.5 + 0.5 * self.random())
    }

    /// A number in [0, 1), by `SplitMix64`.
    fn random(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_back_off_with_jitter_and_start_again() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<_> = (0..12).map(|_| backoff.next()).collect();
        let mut whole = FIRST;
        for wait in &waits {
            assert!((whole / 2..=whole).contains(wait), "{wait:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST);
        }
        let mut same = Backoff::new(7);
        assert!(waits.iter().all(|wait| *wait == same.next()), "the seed decides");
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
