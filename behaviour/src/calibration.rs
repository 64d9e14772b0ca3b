//! Calibration: a p-value for each subject and model, from the scores of what was normal.
//!
//! A subject's own latest scores speak as soon as there are many; until then everybody's of the same model do: *p = (n · p(own) + 50 · p(all)) / (n + 50)*,
//! *n* being how many are its own. With both in the sum, *p* is off by a factor of two at the most, and right once *n* is large.
//!
//! Drift. Scores move while habits and programs do, and what was one in twenty becomes one in five until the old scores are forgotten. How often *p*
//! fell below 0.05 of late is counted for each subject. Where that is a share *r* that is more, *p* becomes *p^g*, *g = ln r / ln 0.05*, at least a third: if
//! scores have exponential tails, that is what makes it a p-value again, at every level. (The feedback is that of I. Gibbs, E. Candès: *Adaptive conformal
//! inference under distribution shift*, 2021. Stretching *p* by *r / 0.05* was tried: where scores have moved, the rarer the level the more it is off.)
//! Where it is less nothing is done: a quiet week is no reason to be nervous.
//!
//! Defence: a score that is extreme (*p* < 0.001) tells nothing about what is normal, nor about drift, and is not kept; nor is anything while the caller says that
//! the subject is part of an open incident, by not calling [`Calibration::learn`].
//!
//! Bounds: so many subjects and models, so many scores each ([`Bounds`]); the one judged the longest ago is forgotten first.

use std::collections::BTreeMap;

use lru::LruCache;

use crate::Conformal;

/// Scores of one's own that weigh as much as everybody's.
const SHARED_WEIGHT: f64 = 50.0;

/// Below this a score is not kept.
const EXTREME: f64 = 0.001;

/// What is counted for drift, over about how many judgements, and how far the feedback goes.
const LEVEL: f64 = 0.05;
const RECENT: f64 = 100.0;
const POWER_MIN: f64 = 1.0 / 3.0;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Pairs of subject and model.
    pub subjects: usize,
    /// Scores of each, and of each model for all subjects.
    pub scores: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            subjects: 1_024,
            scores: 300,
        }
    }
}

#[derive(Clone, Debug)]
struct Own {
    scores: Conformal,
    /// Share of judgements below [`LEVEL`] of late.
    low: f64,
}

/// Scores of all subjects and models.
#[derive(Clone, Debug)]
pub struct Calibration {
    bounds: Bounds,
    own: LruCache<(String, &'static str), Own>,
    shared: BTreeMap<&'static str, Conformal>,
}

impl Calibration {
    /// Knows nothing: every p-value is 1.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            own: LruCache::unbounded(),
            shared: BTreeMap::new(),
        }
    }

    /// The chance that something normal of this subject scores as high, in (0, 1].
    #[must_use]
    pub fn p_value(&self, subject: &str, model: &'static str, score: f64) -> f64 {
        let shared = self.shared.get(model).map_or(1.0, |all| all.p_value(score));
        let Some(own) = self.own.peek(&(subject.to_owned(), model)) else {
            return shared;
        };
        let number = own.scores.len() as f64;
        let p = (number * own.scores.p_value(score) + SHARED_WEIGHT * shared) / (number + SHARED_WEIGHT);
        p.powf(own.power())
    }

    /// The same, and then `score` is known to be normal, unless it is extreme.
    pub fn learn(&mut self, subject: &str, model: &'static str, score: f64) -> f64 {
        let p = self.p_value(subject, model, score);
        let scores = self.bounds.scores;
        let own = self.own.get_or_insert_mut((subject.to_owned(), model), || Own {
            scores: Conformal::new(scores),
            low: LEVEL,
        });
        let rank = p.powf(1.0 / own.power());
        if rank >= EXTREME || own.scores.len() < SHARED_WEIGHT as usize {
            own.low += (f64::from(u8::from(rank <= LEVEL)) - own.low) / RECENT;
            own.scores.push(score);
            let shared = self.shared.entry(model).or_insert_with(|| Conformal::new(scores));
            shared.push(score);
        }
        while self.own.len() > self.bounds.subjects {
            self.own.pop_lru();
        }
        p
    }

    /// Below 1 while a subject is surprising more often than it should be: the power to which its p-values are raised.
    #[must_use]
    pub fn drift(&self, subject: &str, model: &'static str) -> f64 {
        let own = self.own.peek(&(subject.to_owned(), model));
        own.map_or(1.0, Own::power)
    }

    /// Bytes that are held at most, for so many models.
    #[must_use]
    pub fn max_bytes(&self, models: usize) -> usize {
        let scores = Conformal::new(self.bounds.scores).max_bytes();
        self.bounds.subjects * (scores + size_of::<Own>() + 512) + models * (scores + 128)
    }
}

impl Own {
    /// Nothing below one and a half times: that is chance.
    fn power(&self) -> f64 {
        if self.low > 1.5 * LEVEL {
            (self.low.ln() / LEVEL.ln()).max(POWER_MIN)
        } else {
            1.0
        }
    }
}

#[cfg(test)]
mod tests;
