//! Days of the calendar, in UTC.

use std::fmt;

use jiff::{ToSpan as _, civil};

/// Days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// The day of a time in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn of(time_ns: i64) -> Self {
        const DAY_NS: i64 = 86_400 * 1_000_000_000;
        // An i64 of nanoseconds is about 106,000 days either way.
        Self(time_ns.div_euclid(DAY_NS) as i32)
    }

    /// The day of a date.
    pub(super) fn of_date(date: civil::Date) -> Option<Self> {
        let since = civil::date(1970, 1, 1).until(date).ok()?;
        Some(Self(since.get_days()))
    }

    /// So many days earlier.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub_unsigned(days))
    }
}

impl fmt::Display for Day {
    /// As 2026-11-26.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match civil::date(1970, 1, 1).checked_add(self.0.days()) {
            Ok(date) => date.fmt(f),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_from_midnight_to_midnight() {
        assert_eq!(Day::of(0).to_string(), "1970-01-01");
        assert_eq!(Day::of(-1).to_string(), "1969-12-31");
        assert_eq!(Day::of(1_795_737_599_999_999_999).to_string(), "2026-11-26");
        assert_eq!(Day::of(1_795_737_600_000_000_000).to_string(), "2026-11-27");
        assert_eq!(Day::of(i64::MAX).to_string(), "2262-04-11");
        for day in [Day(0), Day(20_784), Day(-1)] {
            let date = day.to_string().parse().expect("a date");
            assert_eq!(Day::of_date(date), Some(day));
        }
    }
}
