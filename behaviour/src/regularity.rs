//! Regularity: does something come back like clockwork, if a clock with jitter?
//!
//! Between independent contacts times are exponential, and what people do is burstier still. A program that calls home waits, give or
//! take, the same time. Moran's statistic tells the two apart: of *n* intervals *d*, *2 Σ ln (mean / d) / (1 + (n + 1) / (6 n))* is about χ² with
//! *n − 1* degrees of freedom if they are exponential, and small if they are alike (P. A. P. Moran: *The random division of an interval*, 1951; the
//! correction is Bartlett's). The score is −ln of the chance of so small a value. Jitter is not accumulated: each interval is compared with the
//! mean, not with a phase, so half the period of jitter is still seen.
//!
//! Contacts less than a second after the last are the same beat, and an interval is what is beyond that second: what is left is exponential if all was. A pause of more than ten medians is no interval: the host slept. Much is regular
//! that is normal (updates, time, monitoring): *that* an edge is regular is a fact for [`crate::novelty`], and only the first time is news.
//!
//! Bounds: [`Regularity::new`] says how many edges; each takes [`EDGE_BYTES`], and the one seen the longest ago is forgotten first. Intervals are not kept
//! beyond a restart: there are no snapshots.

use lru::LruCache;

use crate::special::chi_squared_below;

/// Intervals of an edge that are kept, and those that it takes to say anything.
const INTERVALS: usize = 32;
const LEAST: usize = 8;

/// Contacts that are closer are one beat, in seconds.
const BEAT: f64 = 1.0;

/// Medians beyond which a pause is none of the intervals.
const PAUSE: f64 = 10.0;

/// Longest name of an edge, in bytes; the rest is cut off.
const NAME_MAX: usize = 256;

/// Bytes that an edge takes at most.
pub const EDGE_BYTES: usize = size_of::<Beats>() + NAME_MAX + 128;

/// Why something is regular.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beacon {
    /// How surprising so much regularity is, in nats.
    pub score: f64,
    /// Mean interval, in seconds.
    pub period: f64,
    /// Standard deviation of the intervals, as a share of the period.
    pub jitter: f64,
    /// The same of the amounts; small where always the same is said.
    pub amount_jitter: f64,
    /// Intervals that this is known from.
    pub intervals: usize,
}

#[derive(Clone, Debug)]
struct Beats {
    /// Begin of the latest beat and end of the latest contact, in nanoseconds.
    begin: u64,
    end: u64,
    /// From begin to begin, and from the end to the next begin.
    intervals: [f32; INTERVALS],
    gaps: [f32; INTERVALS],
    amounts: [f32; INTERVALS],
    /// Of the beat under way.
    amount: f64,
    number: usize,
}

/// The latest contacts of every edge.
#[derive(Clone, Debug)]
pub struct Regularity {
    edges: LruCache<String, Beats>,
    limit: usize,
}

impl Regularity {
    /// Keeps so many edges.
    #[must_use]
    pub fn new(edges: usize) -> Self {
        Self {
            edges: LruCache::unbounded(),
            limit: edges,
        }
    }

    /// A contact on an edge, with how much was said (bytes, or 0). How regular the edge is, if this is a new beat and there were enough.
    pub fn observe(&mut self, edge: &str, time_ns: u64, amount: f64) -> Option<Beacon> {
        let name = &edge[..edge.floor_char_boundary(NAME_MAX)];
        if let Some(beats) = self.edges.get_mut(name) {
            return beats.observe(time_ns, amount).then(|| beats.beacon()).flatten();
        }
        self.edges.put(name.to_owned(), Beats::new(time_ns, amount));
        while self.edges.len() > self.limit {
            self.edges.pop_lru();
        }
        None
    }

    /// Edges that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.edges.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }
}

impl Beats {
    fn new(time_ns: u64, amount: f64) -> Self {
        Self {
            begin: time_ns,
            end: time_ns,
            intervals: [0.0; INTERVALS],
            gaps: [0.0; INTERVALS],
            amounts: [0.0; INTERVALS],
            amount,
            number: 0,
        }
    }

    /// Whether a beat has begun that ends an interval.
    fn observe(&mut self, time_ns: u64, amount: f64) -> bool {
        let since_end = time_ns.saturating_sub(self.end) as f64 / 1e9;
        self.end = self.end.max(time_ns);
        if since_end < BEAT {
            self.amount += amount;
            return false;
        }
        let interval = time_ns.saturating_sub(self.begin) as f64 / 1e9;
        let amount = std::mem::replace(&mut self.amount, amount);
        self.begin = time_ns;
        if self.number >= LEAST && interval > PAUSE * self.median() {
            return false;
        }
        let place = self.number % INTERVALS;
        self.intervals[place] = interval as f32;
        self.gaps[place] = since_end as f32;
        self.amounts[place] = amount as f32;
        // Stays in the second half once there, so that it never ends.
        self.number += 1;
        if self.number >= 2 * INTERVALS {
            self.number -= INTERVALS;
        }
        true
    }

    fn kept(&self) -> usize {
        self.number.min(INTERVALS)
    }

    fn median(&self) -> f64 {
        let mut intervals = self.intervals;
        let intervals = &mut intervals[..self.kept()];
        intervals.sort_by(f32::total_cmp);
        f64::from(intervals[intervals.len() / 2])
    }

    fn beacon(&self) -> Option<Beacon> {
        let kept = self.kept();
        if kept < LEAST {
            return None;
        }
        let number = kept as f64;
        let (period, jitter) = mean_and_spread(&self.intervals[..kept]);
        let (_, amount_jitter) = mean_and_spread(&self.amounts[..kept]);
        let rests = self.gaps[..kept]
            .iter()
            .map(|&gap| (f64::from(gap) - BEAT).max(1e-3));
        let mean = rests.clone().sum::<f64>() / number;
        let logarithms: f64 = rests.map(|rest| (mean / rest).ln()).sum();
        let statistic = 2.0 * logarithms / (1.0 + (number + 1.0) / (6.0 * number));
        let chance = chi_squared_below(number - 1.0, statistic);
        Some(Beacon {
            score: -chance.max(1e-30).ln(),
            period,
            jitter,
            amount_jitter,
            intervals: kept,
        })
    }
}

/// The standard deviation as a share of the mean.
fn mean_and_spread(values: &[f32]) -> (f64, f64) {
    let number = values.len() as f64;
    let values = values.iter().map(|&value| f64::from(value));
    let mean = values.clone().sum::<f64>() / number;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / number;
    let share = if mean > 0.0 { variance.sqrt() / mean } else { 0.0 };
    (mean, share)
}

#[cfg(test)]
mod tests;
