//! How long to wait for what must come. These are deadlines, not measurements: a test that meets one has failed.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// `seconds`, or more on a slow machine: `SENSOR_TEST_PATIENCE` is the factor.
#[must_use]
pub fn patience(seconds: u64) -> Duration {
    let factor = std::env::var("SENSOR_TEST_PATIENCE")
        .ok()
        .and_then(|factor| factor.parse().ok());
    Duration::from_secs(seconds) * factor.unwrap_or(1)
}

/// Asks `find` again and again until it finds something.
///
/// # Errors
/// What `find` fails with, or that the time is up.
pub fn wait_for<T>(what: &str, limit: Duration, mut find: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    // Most of what is waited for takes less than a millisecond, and thousands of times.
    let mut pause = Duration::from_micros(50);
    loop {
        if let Some(found) = find()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {limit:?} for {what}, in vain");
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
