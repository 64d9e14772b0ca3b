//! Conformal p-values: how often something normal would score as high as this.
//!
//! The score is ranked among scores of things known to be normal; *(1 + how many are at least as high) / (1 + how many there are)* is a
//! p-value whatever the model and the distribution, so long as the new thing is exchangeable with those (V. Vovk, A. Gammerman, G. Shafer: *Algorithmic Learning in
//! a Random World*, 2005). Hence the scores must be of the same subject and model, recent, and of what the model had *not* learned when
//! it scored them.
//!
//! A rank cannot tell one in a thousand from one in a million among a hundred scores. Above the highest hundredth (the highest five, where
//! that is fewer) the ranks are therefore continued by an exponential tail (peaks over threshold: J. Pickands, *Statistical inference using
//! extreme order statistics*, 1975, with shape 0). Its mean is only known from *k* scores, so what is used is the chance of an excess *x*
//! given those: *(1 + x / Σ)^−k*, *Σ* being the sum of their excesses, which is exact for exponential tails however few they are, where
//! *e^(−x k / Σ)* would promise too much. That orders what is beyond everything seen; down to one in a hundred it is the ranks that
//! speak, and their promise holds.
//!
//! The promise of a rank is one on average over calibrations: that of *n* scores *k* are as high is known no better than a count of *k* is.
//! [`Conformal::cautious_p_value`] adds a standard deviation, for who would rather keep the promise than break it every other time.
//!
//! Bounds: [`Conformal::new`] says how many scores are kept; the oldest is forgotten first.

use std::collections::VecDeque;

/// Scores the tail is fitted to: at least, at most, and as a share of all.
const TAIL_LEAST: usize = 5;
const TAIL_MOST: usize = 50;
const TAIL_SHARE: usize = 100;

/// The smallest p-value that is claimed, whatever the tail says.
const P_MIN: f64 = 1e-12;

/// Recent scores of what was normal.
#[derive(Clone, Debug)]
pub struct Conformal {
    capacity: usize,
    by_age: VecDeque<f64>,
    /// The same, ascending.
    sorted: Vec<f64>,
}

impl Conformal {
    /// Keeps the latest `capacity` scores, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            by_age: VecDeque::new(),
            sorted: Vec::new(),
        }
    }

    /// Something normal scored `score`. What is not a finite number is not kept.
    pub fn push(&mut self, score: f64) {
        if !score.is_finite() {
            return;
        }
        if self.by_age.len() >= self.capacity
            && let Some(oldest) = self.by_age.pop_front()
        {
            let at = self.sorted.partition_point(|&known| known < oldest);
            self.sorted.remove(at);
        }
        self.by_age.push_back(score);
        let at = self.sorted.partition_point(|&known| known < score);
        self.sorted.insert(at, score);
    }

    /// Adds the scores of another, oldest first.
    pub fn merge(&mut self, other: &Self) {
        other.by_age.iter().for_each(|&score| self.push(score));
    }

    /// The scores, oldest first.
    pub(crate) fn by_age(&self) -> impl ExactSizeIterator<Item = f64> {
        self.by_age.iter().copied()
    }

    /// How many scores there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there is none yet: then every p-value is 1.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Bytes that are held at most.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        size_of::<Self>() + 4 * self.capacity.next_power_of_two() * size_of::<f64>()
    }

    /// The chance that something normal scores at least `score`, in (0, 1]. A score that is not a number is not
    /// surprising.
    #[must_use]
    pub fn p_value(&self, score: f64) -> f64 {
        if score.is_nan() {
            return 1.0;
        }
        let total = self.sorted.len();
        let at_least = total - self.sorted.partition_point(|&known| known < score);
        let rank = |at_least: usize| (at_least + 1) as f64 / (total + 1) as f64;
        match self.tail() {
            Some(tail) if score > tail.begin => (rank(tail.above) * tail.beyond(score)).max(P_MIN),
            _ => rank(at_least),
        }
    }

    /// The same, but no less than what it is if the number of normal scores that are as high was found a standard deviation too low: *(k + 1 + √(k + 1)) /
    /// (n + 1)*, in (0, 1].
    #[must_use]
    pub fn cautious_p_value(&self, score: f64) -> f64 {
        let p = self.p_value(score);
        let reached = p * (self.sorted.len() + 1) as f64;
        // Beyond what was seen, the tail has its own allowance.
        (p * (1.0 + reached.max(1.0).sqrt().recip())).min(1.0)
    }

    /// The score that something normal reaches with probability `p`; infinite if nothing is known.
    #[must_use]
    pub fn threshold(&self, p: f64) -> f64 {
        let total = self.sorted.len();
        if total == 0 {
            return f64::INFINITY;
        }
        if let Some(tail) = self.tail() {
            let there = (tail.above + 1) as f64 / (total + 1) as f64;
            if p <= there {
                return tail.reached_by(p.max(P_MIN) / there);
            }
        }
        let above = (p * (total + 1) as f64) as usize;
        self.sorted[total - above.clamp(1, total)]
    }

    /// None where scores are too few, or all alike.
    fn tail(&self) -> Option<Tail> {
        let total = self.sorted.len();
        let above = (total / TAIL_SHARE).clamp(TAIL_LEAST, TAIL_MOST);
        let place = total.checked_sub(above + 1)?;
        let begin = self.sorted[place];
        let excesses = self.sorted[place + 1..].iter().map(|score| score - begin);
        let sum: f64 = excesses.sum();
        (sum > 0.0).then_some(Tail { begin, sum, above })
    }
}

struct Tail {
    begin: f64,
    /// Of the excesses over it.
    sum: f64,
    /// How many scores are above it.
    above: usize,
}

impl Tail {
    /// The chance that a score that is above the beginning reaches `score`.
    fn beyond(&self, score: f64) -> f64 {
        (-(self.above as f64) * ((score - self.begin) / self.sum).ln_1p()).exp()
    }

    fn reached_by(&self, chance: f64) -> f64 {
        self.begin + self.sum * (chance.powf(-1.0 / self.above as f64) - 1.0)
    }
}

#[cfg(test)]
mod tests;
