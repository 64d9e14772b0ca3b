//! What was looked at of late, so that the same is not looked at again: a table of fixed size, four places for each row.

use std::time::Duration;

use crate::time::BootTime;

/// Rows; with four places of 16 bytes each row is a cache line.
const ROWS: usize = 4_096;

/// Keys with the time at which they were last let through. A full row forgets the oldest, which then is let through too soon.
pub(super) struct Recent {
    rows: Box<[[(u64, u64); 4]]>,
    span: u64,
}

impl Recent {
    /// Lets a key through once in `span`.
    pub(super) fn new(span: Duration) -> Self {
        Self {
            rows: vec![[(0, 0); 4]; ROWS].into(),
            span: span.as_nanos() as u64,
        }
    }

    /// Whether `key` was let through less than the span before `now`; else it is now.
    pub(super) fn holds_back(&mut self, key: u64, now: BootTime) -> bool {
        let row = &mut self.rows[key as usize % ROWS];
        // A time of 0 is an empty place.
        let now = now.0.max(1);
        if let Some((_, last)) = row.iter_mut().find(|(known, last)| *known == key && *last != 0) {
            let held = now.saturating_sub(*last) < self.span;
            if !held {
                *last = now;
            }
            return held;
        }
        if let Some(oldest) = row.iter_mut().min_by_key(|(_, last)| *last) {
            *oldest = (key, now);
        }
        false
    }
}

impl std::fmt::Debug for Recent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recent")
            .field("span", &self.span)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_let_through_once_in_the_span() {
        let mut recent = Recent::new(Duration::from_nanos(10));
        let held: Vec<bool> = [0, 5, 9, 11, 12, 25]
            .into_iter()
            .map(|time| recent.holds_back(7, BootTime(time)))
            .collect();
        assert_eq!(held, [false, true, true, false, true, false]);
        assert!(!recent.holds_back(8, BootTime(12)), "another is another");
    }

    #[test]
    fn a_full_row_forgets_the_oldest_alone() {
        let mut recent = Recent::new(Duration::from_secs(1));
        let row = |key: u64| key * ROWS as u64;
        for key in 1..=5 {
            assert!(!recent.holds_back(row(key), BootTime(key)));
        }
        assert!(recent.holds_back(row(5), BootTime(6)));
        assert!(recent.holds_back(row(2), BootTime(6)));
        assert!(!recent.holds_back(row(1), BootTime(6)));
    }
}
