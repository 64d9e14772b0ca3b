//! Times, as SQLite holds them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch: until the year 2262.
#[must_use]
pub fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Now, likewise.
#[must_use]
pub fn now() -> i64 {
    nanoseconds(SystemTime::now())
}
