//! Correlation: observations that belong together become one incident, if so much is seldom enough.
//!
//! An observation has a p-value, a cause (what is new there, by a hash) and the keys it belongs to: a process tree, a session, a user. Below 0.05 it is
//! evidence, *−ln (p / 0.05)* nats of it. For every key each cause is kept once, at its best, halved every half-life; and how many observations there
//! were, halved likewise. Two views of that:
//!
//! - the strongest cause alone: nobody hides it by being busy;
//! - all together. Of *n* observations *μ = n / 20* are evidence by chance, of exponential strength, so their sum *S* is compound Poisson,
//!   and Chernoff's bound of its tail is *−ln P ≤ (√S − √μ)²* (H. Chernoff, 1952; minimised in closed form). That is what several things say that say
//!   little each. The same again and again is one cause and says it once.
//!
//! The score is the larger, over all keys of the observation, and rises and falls as evidence comes and fades. How high it has to be is [`Budget`]'s affair, which
//! counts the peaks of such excursions. An excursion is of the widest key, so that one story is one incident; it is over when half of its peak has
//! faded, and what is left of it begins another only if it doubles.
//!
//! Bounds: so many keys ([`Bounds`]), 16 causes each; the key that was observed the longest ago is forgotten first.

use std::fmt;

use lru::LruCache;

use crate::Budget;

/// Observations below this p-value are evidence.
const LEVEL: f64 = 0.05;

/// Causes of a key that are told apart: the strongest.
const CAUSES: usize = 16;

/// Excursions that are lower are none: a single observation at 0.045.
const PEAK_MIN: f64 = 0.1;

/// What evidence belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A process tree, by a hash of its root.
    Tree(u64),
    /// A login session.
    Session(u64),
    /// A user.
    User(u64),
}

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Keys.
    pub keys: usize,
    /// Nanoseconds after which evidence counts half, at least one.
    pub half_life_ns: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            keys: 4_096,
            half_life_ns: 3_600_000_000_000,
        }
    }
}

/// What speaks for an incident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// The model.
    pub source: &'static str,
    /// What was observed, by a hash.
    pub cause: u64,
    /// How much it says now, in nats.
    pub nats: f64,
    /// How often it was observed.
    pub times: u32,
}

/// An incident is to be opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The key that decided.
    pub key: Key,
    /// How surprising everything there is together, in nats beyond one in twenty.
    pub score: f64,
    /// How many such incidents a day are expected by chance.
    pub expected_per_day: f64,
    /// What is allowed.
    pub budget_per_day: f64,
    /// What speaks for it, the strongest first.
    pub evidence: Vec<Evidence>,
}

#[derive(Clone, Debug, Default)]
struct Trail {
    at_ns: u64,
    /// Observations, fading.
    observations: f64,
    /// Their nats above [`LEVEL`]'s, fading.
    causes: Vec<Evidence>,
    excursion: Option<Excursion>,
    /// The lowest score since the last one was over.
    trough: f64,
}

#[derive(Clone, Copy, Debug)]
struct Excursion {
    peak: f64,
    opened: bool,
    score: f64,
    at_ns: u64,
}

/// Evidence on all keys, and how much of it opens an incident.
#[derive(Clone)]
pub struct Correlation {
    bounds: Bounds,
    trails: LruCache<Key, Trail>,
    budget: Budget,
    swept_ns: u64,
}

impl fmt::Debug for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Correlation");
        out.field("bounds", &self.bounds)
            .field("keys", &self.trails.len());
        out.field("budget", &self.budget).finish()
    }
}

impl Correlation {
    /// With nothing against anybody.
    #[must_use]
    pub fn new(bounds: Bounds, budget: Budget) -> Self {
        Self {
            bounds,
            trails: LruCache::unbounded(),
            budget,
            swept_ns: 0,
        }
    }

    /// What is counted of chance.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Goes on with what was counted elsewhere, as before a restart.
    pub fn resume(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// An observation with a p-value, of everybody in `keys`, the narrowest first. Whether an incident is to be opened; later evidence of the
    /// same excursion belongs to it and opens none.
    pub fn observe(
        &mut self,
        keys: &[Key],
        source: &'static str,
        cause: u64,
        p_value: f64,
        time_ns: u64,
    ) -> Option<Opened> {
        self.advance(time_ns);
        let widest = *keys.last()?;
        let nats = -(p_value / LEVEL).max(1e-300).ln();
        let half_life_ns = self.bounds.half_life_ns;
        let (mut score, mut key) = (0.0, widest);
        for &one in keys {
            let trail = self.trails.get_or_insert_mut(one, || Trail {
                at_ns: time_ns,
                ..Trail::default()
            });
            trail.fade(time_ns, half_life_ns);
            trail.observations += 1.0;
            if nats > 0.0 {
                trail.add(source, cause, nats);
            }
            let its = trail.score();
            if its > score {
                (score, key) = (its, one);
            }
        }
        let threshold = self.budget.threshold();
        let trail = self.trails.get_mut(&widest)?;
        let ended = trail.rise(score, time_ns, half_life_ns);
        let opens = trail.opens(threshold);
        self.end(ended);
        self.keep_bounds();
        opens.then(|| self.opened(key, score))
    }

    /// Time passes: excursions that have faded are over.
    pub fn advance(&mut self, time_ns: u64) {
        self.budget.advance(time_ns);
        let half_life_ns = self.bounds.half_life_ns;
        if time_ns.saturating_sub(self.swept_ns) < half_life_ns {
            return;
        }
        self.swept_ns = time_ns;
        let mut ended = Vec::new();
        for (_, trail) in self.trails.iter_mut() {
            if trail
                .excursion
                .is_some_and(|excursion| excursion.is_over(time_ns, half_life_ns))
            {
                trail.trough = trail.excursion.map_or(0.0, |excursion| excursion.peak / 2.0);
                ended.push(trail.excursion.take());
            }
        }
        ended.into_iter().for_each(|excursion| self.end(excursion));
    }

    /// Keys that are kept.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.trails.len()
    }

    /// Bytes that are held at most.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        let trail = size_of::<Trail>() + CAUSES * size_of::<Evidence>() + 96;
        Budget::MAX_BYTES + self.bounds.keys * trail
    }

    fn opened(&self, key: Key, score: f64) -> Opened {
        let trail = self.trails.peek(&key);
        let mut evidence = trail.map(|trail| trail.causes.clone()).unwrap_or_default();
        for cause in &mut evidence {
            cause.nats -= LEVEL.ln();
        }
        evidence.sort_by(|a, b| b.nats.total_cmp(&a.nats).then(a.cause.cmp(&b.cause)));
        Opened {
            key,
            score,
            expected_per_day: self.budget.expected_per_day(score),
            budget_per_day: self.budget.per_day(),
            evidence,
        }
    }

    fn end(&mut self, excursion: Option<Excursion>) {
        if let Some(excursion) = excursion {
            self.budget.push(excursion.peak, excursion.opened);
        }
    }

    fn keep_bounds(&mut self) {
        while self.trails.len() > self.bounds.keys.max(1) {
            let Some((_, trail)) = self.trails.pop_lru() else {
                break;
            };
            self.end(trail.excursion);
        }
    }
}

impl Trail {
    fn fade(&mut self, time_ns: u64, half_life_ns: u64) {
        let left = left(time_ns.saturating_sub(self.at_ns), half_life_ns);
        self.at_ns = self.at_ns.max(time_ns);
        self.observations *= left;
        for cause in &mut self.causes {
            cause.nats *= left;
        }
        self.causes.retain(|cause| cause.nats > 0.01);
    }

    fn add(&mut self, source: &'static str, cause: u64, nats: f64) {
        let known = self
            .causes
            .iter_mut()
            .find(|known| known.cause == cause && known.source == source);
        if let Some(known) = known {
            known.nats = known.nats.max(nats);
            known.times = known.times.saturating_add(1);
            return;
        }
        let new = Evidence {
            source,
            cause,
            nats,
            times: 1,
        };
        if self.causes.len() < CAUSES {
            self.causes.push(new);
            return;
        }
        let weakest = self.causes.iter_mut().min_by(|a, b| a.nats.total_cmp(&b.nats));
        if let Some(weakest) = weakest.filter(|weakest| weakest.nats < nats) {
            *weakest = new;
        }
    }

    fn score(&self) -> f64 {
        let excesses = self.causes.iter().map(|cause| cause.nats);
        let strongest = excesses.clone().fold(0.0, f64::max);
        let by_chance = (self.observations * LEVEL).sqrt();
        let together = (excesses.sum::<f64>().sqrt() - by_chance).max(0.0).powi(2);
        strongest.max(together)
    }

    /// The score is now this; what is over by it.
    fn rise(&mut self, score: f64, time_ns: u64, half_life_ns: u64) -> Option<Excursion> {
        let over = self
            .excursion
            .filter(|excursion| excursion.is_over(time_ns, half_life_ns) || score < excursion.peak / 2.0);
        if let Some(over) = over {
            self.excursion = None;
            self.trough = over.peak / 2.0;
        }
        if self.excursion.is_none() {
            self.trough = self.trough.min(score);
        }
        match &mut self.excursion {
            Some(excursion) => {
                excursion.peak = excursion.peak.max(score);
                (excursion.score, excursion.at_ns) = (score, time_ns);
            }
            None if score >= PEAK_MIN.max(2.0 * self.trough) => {
                self.excursion = Some(Excursion {
                    peak: score,
                    opened: false,
                    score,
                    at_ns: time_ns,
                });
            }
            None => {}
        }
        over
    }

    /// Whether the excursion reaches the threshold for the first time.
    fn opens(&mut self, threshold: f64) -> bool {
        let excursion = self.excursion.as_mut();
        let Some(excursion) = excursion.filter(|excursion| !excursion.opened && excursion.score >= threshold)
        else {
            return false;
        };
        excursion.opened = true;
        true
    }
}

impl Excursion {
    fn is_over(&self, time_ns: u64, half_life_ns: u64) -> bool {
        let now = self.score * left(time_ns.saturating_sub(self.at_ns), half_life_ns);
        now < self.peak / 2.0
    }
}

fn left(passed_ns: u64, half_life_ns: u64) -> f64 {
    (-(passed_ns as f64) / half_life_ns.max(1) as f64).exp2()
}

#[cfg(test)]
mod tests;
