//! How many there usually are in a window.

use crate::special::ln_at_least;

/// Windows that are remembered: a week of ten minutes each.
const MEMORY: f64 = 1_008.0;

/// What is known of somebody unknown: one clump in a tenth of a window.
const PRIOR_CLUMPS: f64 = 1.0;
const PRIOR_WINDOWS: f64 = 0.1;

/// The smallest size of a clump.
const CLUMP_MIN: f64 = 3.0;

/// Sums over windows; older ones fade once there are more than are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) windows: f64,
    pub(super) sum: f64,
    pub(super) squares: f64,
    /// All of them, for show.
    pub(super) learned: u64,
}

impl Counts {
    pub(super) fn windows(&self) -> u64 {
        self.learned
    }

    pub(super) fn mean(&self) -> f64 {
        if self.windows > 0.0 {
            self.sum / self.windows
        } else {
            0.0
        }
    }

    /// −ln of the chance of so many or more.
    pub(super) fn surprise(&self, count: u32) -> f64 {
        let clump = self.clump();
        let clumps = PRIOR_CLUMPS + self.sum / clump;
        -ln_at_least(f64::from(count) / clump, clumps, PRIOR_WINDOWS + self.windows)
    }

    /// A window had `count`; as much of it is learned as is less surprising than `most`.
    pub(super) fn learn(&mut self, count: u32, most: f64) {
        let (mut low, mut high) = (0, count);
        if self.surprise(count) > most {
            while low + 1 < high {
                let middle = u32::midpoint(low, high);
                if self.surprise(middle) > most {
                    high = middle;
                } else {
                    low = middle;
                }
            }
        } else {
            low = count;
        }
        self.fade(1.0);
        let count = f64::from(low);
        self.windows += 1.0;
        self.sum += count;
        self.squares += count * count;
        self.learned = self.learned.saturating_add(1);
    }

    /// So many windows without any.
    pub(super) fn silent(&mut self, windows: u64) {
        let number = (windows as f64).min(MEMORY);
        self.fade(number);
        self.windows += number;
        self.learned = self.learned.saturating_add(windows);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.windows += other.windows;
        self.sum += other.sum;
        self.squares += other.squares;
        self.learned = self.learned.saturating_add(other.learned);
        self.fade(0.0);
    }

    /// Makes room for more.
    fn fade(&mut self, more: f64) {
        let room = (MEMORY - more).max(0.0);
        if self.windows > room {
            let left = room / self.windows;
            self.windows = room;
            self.sum *= left;
            self.squares *= left;
        }
    }

    fn clump(&self) -> f64 {
        let mean = self.mean();
        if mean <= 0.0 {
            return CLUMP_MIN;
        }
        let variance = self.squares / self.windows - mean * mean;
        (variance / mean).max(CLUMP_MIN)
    }
}
