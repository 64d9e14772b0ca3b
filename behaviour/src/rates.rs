//! Rates and volumes: how much of something a subject does in a period, against what it does at this hour of the week.
//!
//! A series is one number per period: programs started, bytes sent. It is looked at as *y = ln (1 + x)*, for a rate is
//! "ten times as usual", not "ten more". What is expected is *level + day[hour] + week[hour of week]*, three robust means, each of what the
//! one before leaves: *mean += clip(innovation, ±3 scale) / n*, *n* growing up to a memory (P. J. Huber: *Robust estimation of a location
//! parameter*, 1964). An hour's part is shrunk by *n / (n + 3)*, so that after some hours the level speaks, after some days the hour
//! of the day, after some weeks the hour of the week, and nothing has to be waited for.
//!
//! What is left over, in scales, is a [`Conformal`] score: ranks among the latest such residues of the same series, and an exponential tail
//! beyond. Exponential in the logarithm is Pareto's in bytes, with Hill's estimate of the exponent (B. M. Hill: *A simple general approach to
//! inference about the tail of a distribution*, 1975): one large transfer in a thousand is what bytes are like.
//!
//! Whoever wants to be learned has to be patient: a value moves a mean by no more than three scales over *n*, and a residue enters the
//! calibration as it is only so long as it is not extreme.
//!
//! Bounds: a [`Series`] takes [`Series::MAX_BYTES`]; [`Rates`] keeps as many as [`Bounds`] says and forgets the one touched the longest ago.

mod encoding;
mod series;

use lru::LruCache;
pub use series::{Judgement, Series};

/// A place in the week, from Monday 00:00 on: 0 to 167.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HourOfWeek(u8);

impl HourOfWeek {
    /// Of a wall time in seconds since 1970, which began on a Thursday, where clocks are `offset_seconds` ahead of UTC.
    #[must_use]
    pub fn at(unix_seconds: i64, offset_seconds: i32) -> Self {
        let hours = (unix_seconds.saturating_add(offset_seconds.into())).div_euclid(3_600);
        Self((hours.saturating_add(3 * 24)).rem_euclid(168) as u8)
    }

    /// 0 is Monday.
    #[must_use]
    pub fn day(self) -> u8 {
        self.0 / 24
    }

    /// 0 to 23.
    #[must_use]
    pub fn hour(self) -> u8 {
        self.0 % 24
    }

    fn index(self) -> usize {
        self.0.into()
    }
}

/// How much is kept, and how often it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Series.
    pub series: usize,
    /// Seconds of a period, at least one.
    pub period: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            series: 512,
            period: 600,
        }
    }
}

/// Longest name of a series, in bytes; the rest is cut off.
const NAME_MAX: usize = 256;

/// Periods in which nothing came that are learned as such; after more the host is taken to have slept.
const SILENCE: u64 = 24 * 6;

/// Series by name, each with the period that is under way.
#[derive(Clone, Debug)]
pub struct Rates {
    bounds: Bounds,
    series: LruCache<String, Running>,
    /// Seconds that local clocks are ahead of UTC.
    offset: i32,
}

#[derive(Clone, Debug)]
struct Running {
    series: Series,
    /// Number of the period under way, and what came in it.
    period: u64,
    value: f64,
    /// The value at which it is judged again.
    due: f64,
}

/// How much a period has to grow until it is judged again before its end.
const GROWTH: f64 = 1.5;

impl Rates {
    /// Knows nothing. Hours are those of clocks that are `offset_seconds` ahead of UTC.
    #[must_use]
    pub fn new(bounds: Bounds, offset_seconds: i32) -> Self {
        Self {
            bounds,
            series: LruCache::unbounded(),
            offset: offset_seconds,
        }
    }

    /// `amount` more at `unix_seconds`. What was before is not ended by it: that is [`Rates::advance`]'s, to be called first. What there is to say of
    /// the period so far, whenever it has grown by half since that was last said.
    pub fn add(&mut self, name: &str, unix_seconds: u64, amount: f64) -> Option<Judgement> {
        let period = self.period(unix_seconds);
        let name = &name[..name.floor_char_boundary(NAME_MAX)];
        let running = self.series.get_or_insert_mut_ref(name, || Running {
            series: Series::new(),
            period,
            value: 0.0,
            due: 0.0,
        });
        if amount.is_finite() && amount > 0.0 {
            running.value += amount;
        }
        let due = running.value > running.due;
        if due {
            running.due = running.value * GROWTH;
        }
        while self.series.len() > self.bounds.series {
            self.series.pop_lru();
        }
        if due { self.so_far(name) } else { None }
    }

    /// What there is to say of the period under way, by what came in it so far: what is too much now is so at its end.
    #[must_use]
    pub fn so_far(&self, name: &str) -> Option<Judgement> {
        let running = self.series.peek(&name[..name.floor_char_boundary(NAME_MAX)])?;
        let hour = self.hour(running.period);
        Some(running.series.judge(hour, running.value))
    }

    /// Time is now `unix_seconds`: judges and learns every period that has ended, in the order of names and time.
    pub fn advance(&mut self, unix_seconds: u64) -> Vec<(String, Judgement)> {
        let now = self.period(unix_seconds);
        let (length, offset) = (u64::from(self.bounds.period.max(1)), self.offset);
        let mut ended = Vec::new();
        for (name, running) in self.series.iter_mut() {
            if now <= running.period {
                continue;
            }
            let silent = now - running.period - 1;
            let last = running.period + if silent <= SILENCE { silent } else { 0 };
            for period in running.period..=last {
                let value = std::mem::take(&mut running.value);
                let hour = HourOfWeek::at((period * length) as i64, offset);
                ended.push((name.clone(), running.series.observe(hour, value)));
            }
            running.period = now;
            running.due = 0.0;
        }
        ended.sort_by(|(a, _), (b, _)| a.cmp(b));
        ended
    }

    /// Forgets a series; whether there was one.
    pub fn forget(&mut self, name: &str) -> bool {
        self.series
            .pop(&name[..name.floor_char_boundary(NAME_MAX)])
            .is_some()
    }

    /// Adds what another knows of the same series: means by the weight of their evidence, and the latest residues of both.
    pub fn merge(&mut self, other: &Self) {
        for (name, theirs) in other.series.iter().rev() {
            match self.series.get_mut(name) {
                Some(ours) => ours.series.merge(&theirs.series),
                None => {
                    self.series.put(name.clone(), theirs.clone());
                }
            }
        }
        while self.series.len() > self.bounds.series {
            self.series.pop_lru();
        }
    }

    /// The series with the periods that each has learned, the one touched last first.
    pub fn series(&self) -> impl Iterator<Item = (&str, u64)> {
        self.series
            .iter()
            .map(|(name, running)| (name.as_str(), running.series.periods()))
    }

    /// Bytes that are held at most.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.bounds.series * (Series::MAX_BYTES + NAME_MAX + 128)
    }

    fn period(&self, unix_seconds: u64) -> u64 {
        unix_seconds / u64::from(self.bounds.period.max(1))
    }

    fn hour(&self, period: u64) -> HourOfWeek {
        let begin = period * u64::from(self.bounds.period.max(1));
        HourOfWeek::at(begin as i64, self.offset)
    }
}

#[cfg(test)]
mod tests;
