//! Novelty and rarity of facts: what a subject has never done before, or does hardly ever.
//!
//! A fact stands in a context: "started /usr/bin/logger" in the context "from /usr/sbin/nginx". It is looked for in a chain of scopes, the
//! narrowest first: this workload, the image that it runs, the host, and the fleet if it is known what [other hosts](fleet) know of the scope
//! before. Each scope is kept under its name with counts per fact.
//!
//! How likely is something new here? Of *N* observations of which *n₁* were of facts seen just once, the chance that the next is of a
//! fact never seen is about *n₁ / N* (I. J. Good: *The population frequencies of species and the estimation of population parameters*,
//! Biometrika 40, 1953). One is added to both, so that little evidence never makes certainty: *m = (n₁ + 1) / (N + 1)*, reckoned in the fact's
//! context; where the context is new too, of contexts, so that who is inventive in one makes no other likely. The p-value of a fact, the chance of one that is as rare or rarer, is
//!
//! - *m + (1 − m) · (observations of facts that are as rare or rarer) / N*, where the scope knows the fact,
//! - *m · (the same one scope wider)*, where it does not; 1 beyond the last scope, and for a scope of which nothing is known.
//!
//! A product of chances needs each to hold given the one before. So a wider scope counts only what was new in the narrower one: not how often
//! but in how many workloads, images, hosts a fact was seen, as Kneser and Ney do for n-grams (*Improved backing-off for m-gram language
//! modeling*, 1995). Its *m* then says how often what is new here is new there as well.
//!
//! A subject is learned for a number of observations, a span of time, or until little new is to be expected of it ([`Learning`]); from
//! then on a fact that its narrowest scope does not know is a [`Surprise`], and is not learned by being repeated.
//! [`Novelty::accept`] is the way to say that it is normal. A subject that always does something new surprises nobody by something
//! new.
//!
//! Bounds: [`Limits`] on scopes, facts and bytes. What is given up first: the facts of a scope, and the scopes,
//! that were observed the longest ago, in numbers of observations rather than in time.

mod encoding;
mod fleet;
mod scope;

use fleet::Prior;
pub use fleet::{COUNTED, Prevalence, SHARED, Veil};
use lru::LruCache;
use scope::Scope;
pub use scope::{Known, Level};

/// How many alternatives a surprise lists.
const ALTERNATIVES: usize = 3;

/// Longest name of a scope, in bytes; the rest is cut off.
const SCOPE_NAME_MAX: usize = 512;

/// How much a model may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Scopes.
    pub subjects: usize,
    /// Facts of one scope.
    pub facts: usize,
    /// Bytes in all.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            subjects: 1_024,
            facts: 256,
            bytes: 4 << 20,
        }
    }
}

/// How long a subject is learned: whichever is reached first; none of them: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Learning {
    /// Observations.
    pub events: Option<u64>,
    /// Nanoseconds of event time in which it was observed.
    pub span_ns: Option<u64>,
    /// Chance of something new, at most.
    pub unseen: Option<f64>,
}

/// What the model makes of an observation.
#[derive(Clone, Debug, PartialEq)]
pub enum Opinion {
    /// The subject is still being learned, and the fact was learned.
    Learned,
    /// Seen before by the narrowest scope, and how rare it is there.
    Known(Known),
    /// Never seen by the narrowest scope in all that it learned.
    Surprise(Surprise),
}

/// What the model makes of an observation, where it does not matter how rare is what is known.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The subject is still being learned, and the fact was learned.
    Learned,
    /// Seen before by the narrowest scope.
    None,
    /// Never seen by the narrowest scope in all that it learned.
    Surprise(Surprise),
}

/// Why a fact is surprising.
#[derive(Clone, Debug, PartialEq)]
pub struct Surprise {
    /// Probability of a fact as new as this, over all scopes, in (0, 1].
    pub p_value: f64,
    /// What it is reckoned from in the narrowest scope.
    pub here: Level,
    /// The same of the wider scopes, as far as the first that knows the fact; other hosts are the last.
    pub wider: Vec<Level>,
    /// The most frequent facts known in this context, with their counts, most frequent first.
    pub alternatives: Vec<(Box<[u8]>, u64)>,
}

impl Surprise {
    /// Position in the chain of the narrowest scope that knows the fact.
    #[must_use]
    pub fn known_in(&self) -> Option<usize> {
        let last = self.wider.len();
        let known = self.wider.last().is_some_and(|level| level.count > 0);
        known.then_some(last)
    }
}

/// The model, for any number of subjects within its limits.
#[derive(Debug)]
pub struct Novelty {
    limits: Limits,
    learning: Learning,
    scopes: LruCache<String, Scope>,
    /// Observations so far: the model's only clock.
    ordinal: u64,
    bytes: usize,
    /// What other hosts know; it is in no snapshot.
    prior: Prior,
}

impl Novelty {
    /// A model that knows nothing.
    #[must_use]
    pub fn new(limits: Limits, learning: Learning) -> Self {
        Self {
            limits,
            learning,
            scopes: LruCache::unbounded(),
            ordinal: 0,
            bytes: 0,
            prior: Prior::default(),
        }
    }

    /// `fact` was observed in `context` at `time_ns` of event time, of the subject that `scopes` names, the narrowest first. Nothing is
    /// known of nobody: without a scope it counts as learned.
    pub fn observe(&mut self, scopes: &[&str], context: &[u8], fact: &[u8], time_ns: u64) -> Opinion {
        let (key, hashed) = scope::keys(context, fact);
        let narrowest = scopes.first().and_then(|scope| self.scopes.peek(cut(scope)));
        // How rare it is before it is learned once more.
        let known = narrowest.and_then(|scope| scope.known(hashed, key));
        match (self.news(scopes, context, fact, time_ns, 1.0), known) {
            (News::Surprise(surprise), _) => Opinion::Surprise(surprise),
            (News::None, Some(known)) => Opinion::Known(known),
            _ => Opinion::Learned,
        }
    }

    /// The same as [`observe`](Self::observe), without a look at all facts of the context: how rare one is that is known is not reckoned, and
    /// alternatives are looked for only where the p-value is `notable` at most.
    pub fn news(&mut self, scopes: &[&str], context: &[u8], fact: &[u8], time_ns: u64, notable: f64) -> News {
        let Some((narrowest, wider)) = scopes.split_first() else {
            return News::Learned;
        };
        self.ordinal += 1;
        let learning = self.learning;
        let (key, context) = scope::keys(context, fact);
        let subject = self.scope(narrowest, time_ns);
        let learned = subject.is_learned(&learning);
        if learned && !subject.knows(context, key) {
            let here = subject.level(context, key);
            let mut surprise = self.surprise(here, wider, context, key);
            if surprise.p_value <= notable
                && let Some(subject) = self.scopes.peek(cut(narrowest))
            {
                surprise.alternatives = subject.frequent(context, ALTERNATIVES);
            }
            self.keep_bounds();
            return News::Surprise(surprise);
        }
        self.learn(scopes, context, key, fact);
        if learned { News::None } else { News::Learned }
    }

    /// `fact` is normal for the subject in `context`, however it was found.
    pub fn accept(&mut self, scopes: &[&str], context: &[u8], fact: &[u8], time_ns: u64) {
        let Some(narrowest) = scopes.first() else { return };
        self.ordinal += 1;
        self.scope(narrowest, time_ns);
        let (key, context) = scope::keys(context, fact);
        self.learn(scopes, context, key, fact);
    }

    /// `subject` exists: its span of learning begins now, if it has not begun.
    pub fn introduce(&mut self, subject: &str, time_ns: u64) {
        self.scope(subject, time_ns);
        self.keep_bounds();
    }

    /// The chance that the next fact of a scope is one never seen there, in (0, 1]: how ready the scope is. 1 for one of which nothing
    /// is known.
    #[must_use]
    pub fn unseen(&self, scope: &str) -> f64 {
        self.scopes.peek(cut(scope)).map_or(1.0, Scope::unseen)
    }

    /// Whether a scope is learned: what it does not know is news.
    #[must_use]
    pub fn is_learned(&self, scope: &str) -> bool {
        let scope = self.scopes.peek(cut(scope));
        scope.is_some_and(|scope| scope.is_learned(&self.learning))
    }

    /// The facts of a scope that were observed most, in whatever context, with their counts.
    #[must_use]
    pub fn facts(&self, scope: &str, most: usize) -> Vec<(Box<[u8]>, u64)> {
        self.scopes
            .peek(cut(scope))
            .map(|scope| scope.top(most))
            .unwrap_or_default()
    }

    /// Forgets a scope; whether there was one.
    pub fn forget(&mut self, scope: &str) -> bool {
        let forgotten = self.scopes.pop(cut(scope));
        self.bytes -= forgotten.as_ref().map_or(0, Scope::bytes);
        forgotten.is_some()
    }

    /// Adds what another model learned: counts add up, and so do the spans of learning. What does not fit is given up as always.
    pub fn merge(&mut self, other: &Self) {
        for (name, theirs) in other.scopes.iter().rev() {
            let ordinal = &mut self.ordinal;
            let total = &mut self.bytes;
            let ours = self.scopes.get_or_insert_mut_ref(name, || {
                let scope = Scope::new(name);
                *total += scope.bytes();
                scope
            });
            let before = ours.bytes();
            ours.merge(theirs, self.limits.facts, ordinal);
            *total = *total + ours.bytes() - before;
        }
        self.keep_bounds();
    }

    /// Bytes that are held, at most [`Limits::bytes`].
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// The scopes with the number of their observations and of their facts, latest first.
    pub fn subjects(&self) -> impl Iterator<Item = (&str, u64, usize)> {
        self.scopes
            .iter()
            .map(|(name, scope)| (name.as_str(), scope.observed(), scope.facts()))
    }

    fn surprise(&self, here: Level, wider: &[&str], context: u64, key: u64) -> Surprise {
        let mut p_value = here.unseen;
        let mut levels = Vec::new();
        for name in wider {
            let scope = self.scopes.peek(cut(name));
            let level = scope.map_or(Level::UNKNOWN, |scope| scope.level(context, key));
            let known = scope.and_then(|scope| scope.known(context, key));
            levels.push(level);
            if let Some(known) = known {
                p_value *= known.p_value;
                break;
            }
            p_value *= level.unseen;
        }
        let is_known = levels.last().is_some_and(|level| level.count > 0);
        let widest = wider.last().filter(|_| !is_known);
        if let Some((level, known)) = widest.and_then(|scope| self.prior.ask(scope, context, key)) {
            levels.push(level);
            p_value *= known.map_or(level.unseen, |known| known.p_value);
            p_value = p_value.max(self.prior.usual(level.count));
        }
        Surprise {
            p_value,
            here,
            wider: levels,
            alternatives: Vec::new(),
        }
    }

    fn put(&mut self, name: &str, scope: Scope) {
        self.bytes += scope.bytes();
        self.scopes.put(cut(name).to_owned(), scope);
    }

    fn scope(&mut self, name: &str, time_ns: u64) -> &mut Scope {
        let total = &mut self.bytes;
        let name = cut(name);
        let scope = self.scopes.get_or_insert_mut_ref(name, || {
            let scope = Scope::new(name);
            *total += scope.bytes();
            scope
        });
        scope.seen_at(time_ns);
        scope
    }

    /// In the narrowest scope, and in each wider one so long as it was new in the one before.
    fn learn(&mut self, scopes: &[&str], context: u64, key: u64, name: &[u8]) {
        for scope in scopes {
            let (ordinal, limit) = (self.ordinal, self.limits.facts);
            let scope = cut(scope);
            let total = &mut self.bytes;
            let known = self.scopes.get_or_insert_mut_ref(scope, || {
                let scope = Scope::new(scope);
                *total += scope.bytes();
                scope
            });
            let before = known.bytes();
            let new = known.learn(context, key, name, ordinal, limit);
            *total = *total + known.bytes() - before;
            if !new {
                break;
            }
        }
        self.keep_bounds();
    }

    fn keep_bounds(&mut self) {
        while self.scopes.len() > self.limits.subjects || self.bytes > self.limits.bytes {
            let Some((_, scope)) = self.scopes.pop_lru() else {
                break;
            };
            self.bytes -= scope.bytes();
        }
    }
}

/// As much of a scope's name as is kept.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(SCOPE_NAME_MAX)]
}

#[cfg(test)]
mod tests;
