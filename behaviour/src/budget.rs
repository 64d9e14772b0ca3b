//! The alert budget: how high a score has to be, so that no more incidents are opened by chance than an operator wants to look at in a day.
//!
//! A p-value says how rare one observation is, not how often a day something as rare comes: that depends on how many observations there are and on
//! what they have to do with each other. So it is counted. Evidence on a subject rises and fades again; the *peak* of such an excursion is what
//! opens an incident or does not. From the peaks of the last four weeks follows how many a day reach a score *s*:
//!
//! - *(1 + how many reached it) / days*, down to where a fourth of the peaks, at most 200, are above (*u*);
//! - beyond, *λ(u) · (1 + (s − u) / Σ)^−k*: the exponential tail of the *k* peaks above *u*, whose excesses sum up to *Σ*, with what is not known of it
//!   (see [`crate::Conformal`]).
//!
//! The threshold is where that is the budget. It needs no p-value to be right and no observation to be independent, only that what was
//! normal stays so; four weeks that move along follow what does not. Before there are ten peaks and six hours, a host with
//! 100,000 independent observations a day is assumed.
//!
//! Who attacks does not raise the threshold by much: a peak enters no higher than what is reached once in fifty days, and of those that opened an
//! incident no more than some per day enter at all.
//!
//! Bounds: [`Budget::MAX_BYTES`]: the highest 64 peaks of each day, for 28 days.

mod encoding;

use std::collections::VecDeque;

const DAY_NS: u64 = 86_400_000_000_000;

/// Days that are looked back on, and peaks that are kept of each.
const DAYS: usize = 28;
const PEAKS: usize = 64;

/// Peaks in the tail, at least and at most.
const TAIL_LEAST: usize = 10;
const TAIL_MOST: usize = 200;

/// Before that much of a day nothing is reckoned from it.
const READY_DAYS: f64 = 0.25;

/// Peaks a day above 0 that are assumed before: one in twenty of 100,000 observations.
const ASSUMED: f64 = 5e3;

/// A peak enters no higher than what is reached so often a day.
const CAP_PER_DAY: f64 = 0.02;

#[derive(Clone, Debug, Default, PartialEq)]
struct Day {
    number: u64,
    /// As much of it as has passed. A day in which nothing was observed is none.
    span: f32,
    /// Descending.
    peaks: Vec<f32>,
    /// Peaks that were lower than all that are kept.
    dropped: bool,
    /// Peaks that opened an incident.
    opened: u32,
}

/// How many a day are opened by chance, and from which score on.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    per_day: f64,
    days: VecDeque<Day>,
    /// Time of the first and of the latest observation.
    first_ns: Option<u64>,
    now_ns: u64,
    /// Number of the first day: earlier ones were taken over.
    begin: u64,
    fit: Fit,
    /// Peaks since it was made.
    since: usize,
}

/// What is known of how often peaks reach a score.
#[derive(Clone, Debug, Default, PartialEq)]
struct Fit {
    days: f64,
    /// Descending, all of them complete down to the last.
    peaks: Vec<f32>,
    tail: usize,
    /// Where the tail begins, and the sum of excesses.
    begin: f64,
    sum: f64,
    threshold: f64,
    cap: f64,
}

impl Budget {
    /// Bytes that a budget takes at most.
    pub const MAX_BYTES: usize =
        size_of::<Self>() + (DAYS + 4) * size_of::<Day>() + 3 * (DAYS + 1) * PEAKS * size_of::<f32>();

    /// So many incidents a day; a thousandth at least.
    #[must_use]
    pub fn new(per_day: f64) -> Self {
        let per_day = if per_day.is_finite() {
            per_day.max(1e-3)
        } else {
            1.0
        };
        let mut budget = Self {
            per_day,
            days: VecDeque::new(),
            first_ns: None,
            now_ns: 0,
            begin: 0,
            fit: Fit::default(),
            since: 0,
        };
        budget.refit();
        budget
    }

    /// What was asked for.
    #[must_use]
    pub fn per_day(&self) -> f64 {
        self.per_day
    }

    /// The score from which on an incident is opened.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.fit.threshold
    }

    /// How many peaks a day reach a score by chance.
    #[must_use]
    pub fn expected_per_day(&self, score: f64) -> f64 {
        self.fit.per_day(score)
    }

    /// Time passes, whether something happens or not.
    pub fn advance(&mut self, time_ns: u64) {
        let first = *self.first_ns.get_or_insert(time_ns);
        self.now_ns = self.now_ns.max(time_ns).max(first);
        let passed = self.now_ns - first;
        let number = self.begin + passed / DAY_NS;
        let another = self.days.back().is_none_or(|day| day.number < number);
        if another {
            if let Some(day) = self.days.back_mut() {
                day.span = 1.0;
            }
            self.days.push_back(Day {
                number,
                ..Day::default()
            });
            while self
                .days
                .front()
                .is_some_and(|day| day.number + DAYS as u64 <= number)
            {
                self.days.pop_front();
            }
        }
        if let Some(day) = self.days.back_mut() {
            day.span = (passed % DAY_NS) as f32 / DAY_NS as f32;
        }
        if another {
            self.refit();
        }
    }

    /// An excursion is over; it may have opened an incident.
    pub fn push(&mut self, peak: f64, opened: bool) {
        if peak.is_nan() || self.days.is_empty() {
            return;
        }
        let allowed = (5.0 * self.per_day).ceil() as u32 + 5;
        let peak = peak.min(self.fit.cap) as f32;
        let Some(day) = self.days.back_mut() else { return };
        if opened {
            day.opened = day.opened.saturating_add(1);
            if day.opened > allowed {
                return;
            }
        }
        let place = day.peaks.partition_point(|&other| other > peak);
        if place < PEAKS {
            day.peaks.insert(place, peak);
        }
        day.dropped |= place >= PEAKS || day.peaks.len() > PEAKS;
        day.peaks.truncate(PEAKS);
        self.since += 1;
        if self.since * 16 > self.fit.peaks.len() {
            self.refit();
        }
    }

    fn refit(&mut self) {
        self.since = 0;
        let days: f64 = self.days.iter().map(|day| f64::from(day.span)).sum();
        // Of a day that dropped some, it is not known how many were lower than its lowest.
        let floors = self
            .days
            .iter()
            .filter(|day| day.dropped)
            .filter_map(|day| day.peaks.last());
        let floor = floors.fold(f32::NEG_INFINITY, |floor, &peak| floor.max(peak));
        let peaks = self.days.iter().flat_map(|day| day.peaks.iter().copied());
        let mut peaks: Vec<f32> = peaks.filter(|&peak| peak >= floor).collect();
        peaks.sort_by(|a, b| b.total_cmp(a));
        self.fit = Fit::of(peaks, days);
        self.fit.threshold = self.fit.score_of(self.per_day);
        self.fit.cap = self.fit.score_of(CAP_PER_DAY.min(self.per_day / 5.0));
    }
}

impl Fit {
    fn of(peaks: Vec<f32>, days: f64) -> Self {
        let tail = (peaks.len() / 4).clamp(TAIL_LEAST, TAIL_MOST);
        let mut fit = Self {
            days,
            tail,
            ..Self::default()
        };
        if days >= READY_DAYS && peaks.len() > tail {
            fit.begin = peaks[tail].into();
            fit.sum = peaks[..tail]
                .iter()
                .map(|&peak| f64::from(peak) - fit.begin)
                .sum();
            fit.peaks = peaks;
        }
        fit
    }

    fn is_ready(&self) -> bool {
        self.sum > 0.0
    }

    /// Peaks a day above the beginning of the tail.
    fn in_tail(&self) -> f64 {
        (self.tail as f64 + 1.0) / self.days
    }

    fn per_day(&self, score: f64) -> f64 {
        if !self.is_ready() {
            return ASSUMED * (-score).exp();
        }
        if score > self.begin {
            let excess = (score - self.begin) / self.sum;
            return self.in_tail() * (-(self.tail as f64) * excess.ln_1p()).exp();
        }
        let reached = self.peaks.partition_point(|&peak| f64::from(peak) >= score);
        (reached as f64 + 1.0) / self.days
    }

    fn score_of(&self, per_day: f64) -> f64 {
        if !self.is_ready() {
            return (ASSUMED / per_day).ln();
        }
        let share = per_day / self.in_tail();
        if share < 1.0 {
            return self.begin + self.sum * (share.powf(-1.0 / self.tail as f64) - 1.0);
        }
        let place = (per_day * self.days) as usize;
        f64::from(self.peaks[place.min(self.peaks.len()) - 1])
    }
}

#[cfg(test)]
mod tests;
