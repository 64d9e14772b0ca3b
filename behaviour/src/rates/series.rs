//! One series of numbers: what is expected, and how far from it something is.

use super::HourOfWeek;
use crate::Conformal;

/// Observations that the means remember: a week of ten-minute periods, four weeks of an hour's six, eight of those.
const LEVEL_MEMORY: f64 = 1_008.0;
const DAY_MEMORY: f64 = 168.0;
const WEEK_MEMORY: f64 = 48.0;

/// An hour's mean counts as much as the nothing before it once it has so many observations.
const SHRINK: f64 = 3.0;

/// Scales beyond which an innovation is clipped.
const CLIP: f64 = 3.0;

/// The smallest scale: a tenth more or less is never news.
const SCALE_MIN: f64 = 0.1;

/// What the mean of absolute values is multiplied by to be a standard deviation, where things are normal.
const MEAN_TO_SCALE: f64 = 1.253_3;

/// The latest residues that are kept.
pub(super) const RESIDUES: usize = 256;

/// Periods that it takes to say anything.
const READY: u64 = 6;

/// Below this p-value a residue enters the calibration no higher than what is reached so rarely.
const EXTREME: f64 = 1e-3;

/// A mean that moves by bounded steps, and how much evidence is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Mean {
    pub(super) weight: f64,
    pub(super) value: f64,
}

impl Mean {
    fn learn(&mut self, innovation: f64, memory: f64) {
        self.weight = (self.weight + 1.0).min(memory);
        self.value += innovation / self.weight;
    }

    fn shrunk(&self) -> f64 {
        self.value * self.weight / (self.weight + SHRINK)
    }

    fn merge(&mut self, other: &Self, memory: f64) {
        let weight = self.weight + other.weight;
        if weight > 0.0 {
            self.value = (self.value * self.weight + other.value * other.weight) / weight;
        }
        self.weight = weight.min(memory);
    }
}

/// What a value is, given what was expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// What came.
    pub value: f64,
    /// What is usual for the hour.
    pub expected: f64,
    /// What one period in a hundred exceeds at this hour; infinite while nothing is known.
    pub high: f64,
    /// The hour.
    pub hour: HourOfWeek,
    /// Distance from what is expected, in scales; positive is more.
    pub score: f64,
    /// The chance of so much or more, in (0, 1].
    pub p_value: f64,
    /// Periods that were learned before.
    pub periods: u64,
    /// How much of what is expected the hour itself decides, from 0 (only the level is known) to 1.
    pub hour_known: f64,
}

/// A series. Of one subject and one measure.
#[derive(Clone, Debug)]
pub struct Series {
    pub(super) periods: u64,
    pub(super) level: Mean,
    pub(super) day: [Mean; 24],
    pub(super) week: Box<[Mean; 168]>,
    /// Mean absolute innovation of the level, the hour of the day, all together.
    pub(super) spreads: [Mean; 3],
    pub(super) residues: Conformal,
}

impl Default for Series {
    fn default() -> Self {
        Self::new()
    }
}

impl Series {
    /// The most that a series takes, in bytes.
    pub const MAX_BYTES: usize =
        size_of::<Self>() + 168 * size_of::<Mean>() + 4 * RESIDUES * size_of::<f64>();

    /// Knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            periods: 0,
            level: Mean::default(),
            day: [Mean::default(); 24],
            week: Box::new([Mean::default(); 168]),
            spreads: [Mean::default(); 3],
            residues: Conformal::new(RESIDUES),
        }
    }

    /// Periods that were learned.
    #[must_use]
    pub fn periods(&self) -> u64 {
        self.periods
    }

    /// What there is to say of a value, which may be that of a period that has not ended.
    #[must_use]
    pub fn judge(&self, hour: HourOfWeek, value: f64) -> Judgement {
        let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
        let expected = self.expected(hour);
        let scale = self.scale(2);
        let score = (value.ln_1p() - expected) / scale;
        let ready = self.periods >= READY;
        let high = (expected + self.residues.threshold(0.01) * scale)
            .exp_m1()
            .max(0.0);
        let week = self.week[hour.index()].weight;
        let day = self.day[usize::from(hour.hour())].weight;
        Judgement {
            value,
            expected: expected.exp_m1().max(0.0),
            high: if ready { high } else { f64::INFINITY },
            hour,
            score,
            p_value: if ready { self.residues.p_value(score) } else { 1.0 },
            periods: self.periods,
            hour_known: (day / (day + SHRINK)).max(week / (week + SHRINK)),
        }
    }

    /// A period has ended with `value`: judged, then learned.
    pub fn observe(&mut self, hour: HourOfWeek, value: f64) -> Judgement {
        let judgement = self.judge(hour, value);
        if self.periods > 0 {
            let score = if judgement.p_value < EXTREME {
                judgement.score.min(self.residues.threshold(EXTREME))
            } else {
                judgement.score
            };
            self.residues.push(score);
        }
        self.learn(hour, judgement.value.ln_1p());
        judgement
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.periods = self.periods.saturating_add(other.periods);
        self.level.merge(&other.level, LEVEL_MEMORY);
        let days = self.day.iter_mut().zip(&other.day);
        days.for_each(|(ours, theirs)| ours.merge(theirs, DAY_MEMORY));
        let weeks = self.week.iter_mut().zip(other.week.iter());
        weeks.for_each(|(ours, theirs)| ours.merge(theirs, WEEK_MEMORY));
        let spreads = self.spreads.iter_mut().zip(&other.spreads);
        spreads.for_each(|(ours, theirs)| ours.merge(theirs, LEVEL_MEMORY));
        self.residues.merge(&other.residues);
    }

    fn expected(&self, hour: HourOfWeek) -> f64 {
        let day = self.day[usize::from(hour.hour())].shrunk();
        self.level.value + day + self.week[hour.index()].shrunk()
    }

    fn scale(&self, part: usize) -> f64 {
        // Two observations of nothing in particular, or the first would make it 0.
        let spread = self.spreads[part];
        let mean = (spread.value * spread.weight + 2.0) / (spread.weight + 2.0);
        (MEAN_TO_SCALE * mean).max(SCALE_MIN)
    }

    /// Each mean learns what the one before left, by a step that is bounded by how much that usually is.
    fn learn(&mut self, hour: HourOfWeek, y: f64) {
        let first = self.periods == 0;
        self.periods = self.periods.saturating_add(1);
        let (hour_of_day, hour_of_week) = (usize::from(hour.hour()), hour.index());
        let residue = y - self.expected(hour);
        let clip = |scale: f64, innovation: f64| innovation.clamp(-CLIP * scale, CLIP * scale);
        let scales = [0, 1, 2].map(|part| self.scale(part));
        let from_level = y - self.level.value;
        let from_day = from_level - self.day[hour_of_day].shrunk();
        let innovations = [from_level, from_day, residue];
        for ((spread, innovation), scale) in self.spreads.iter_mut().zip(innovations).zip(scales) {
            // The first has nothing to differ from.
            if !first {
                spread.learn(clip(scale, innovation).abs() - spread.value, LEVEL_MEMORY);
            }
        }
        let [level_scale, day_scale, _] = scales;
        self.level.learn(
            if first {
                from_level
            } else {
                clip(level_scale, from_level)
            },
            LEVEL_MEMORY,
        );
        let day = &mut self.day[hour_of_day];
        day.learn(clip(level_scale, from_level - day.value), DAY_MEMORY);
        let week = &mut self.week[hour_of_week];
        week.learn(clip(day_scale, from_day - week.value), WEEK_MEMORY);
    }
}
