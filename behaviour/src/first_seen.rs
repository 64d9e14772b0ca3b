//! First seen: what a subject has never done before.
//!
//! For each subject, the facts that were observed of it are kept with their counts. A fact stands in a context:
//! "started /usr/bin/logger" in the context "from /usr/sbin/nginx". A subject is learned for a number of
//! observations or a span of time; from then on a fact that it does not know is a [`Surprise`].
//!
//! How surprising that is, Good and Turing tell: of *n* observations of which *n₁* were of facts seen just once,
//! the chance that the next is of a fact never seen is about *n₁ / n*. (I. J. Good: *The population
//! frequencies of species and the estimation of population parameters*, Biometrika 40, 1953.) One is added to
//! both, so that little evidence never makes certainty. A subject that always does something new thereby
//! surprises nobody by something new.
//!
//! A fact that surprised is not learned by being repeated; [`FirstSeen::accept`] is the way to say that it
//! is normal.
//!
//! Bounds: [`Limits`] on subjects, facts and bytes. What is given up first: the facts of a subject, and the subjects,
//! that were observed the longest ago, in numbers of observations rather than in time.

use std::{collections::BTreeMap, hash::Hasher};

use lru::LruCache;
use siphasher::sip::SipHasher13;

/// Longest name of a fact that is kept; the fact is known by a hash of the whole.
const NAME_MAX: usize = 96;

/// How many alternatives a surprise lists.
const ALTERNATIVES: usize = 3;

/// What a fact costs beside its name: itself, its key, its share of a tree node.
const FACT_BYTES: usize = size_of::<Fact>() + 2 * size_of::<u64>() + 16;

/// What a subject costs beside its facts and its name.
const SUBJECT_BYTES: usize = size_of::<Subject>() + 128;

/// How much a model may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Subjects.
    pub subjects: usize,
    /// Facts of one subject.
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

/// How long a subject is learned: whichever of the two is reached first; neither: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learning {
    /// Observations.
    pub events: Option<u64>,
    /// Nanoseconds of event time since its first observation.
    pub span_ns: Option<u64>,
}

/// What the model makes of an observation.
#[derive(Clone, Debug, PartialEq)]
pub enum Opinion {
    /// The subject is still being learned, and the fact was learned.
    Learned,
    /// Seen before.
    Known,
    /// Never seen in all that was learned.
    Surprise(Surprise),
}

/// Why a fact is surprising.
#[derive(Clone, Debug, PartialEq)]
pub struct Surprise {
    /// Probability of any fact never seen before, in (0, 1].
    pub p_value: f64,
    /// What it is reckoned from: observations in this context, or of the subject where the context is new too.
    pub observations: u64,
    /// Different facts among them.
    pub distinct: usize,
    /// The context was never seen either.
    pub context_is_new: bool,
    /// The most frequent facts known in this context, with their counts, most frequent first.
    pub alternatives: Vec<(Box<[u8]>, u64)>,
}

#[derive(Debug)]
struct Fact {
    context: u64,
    name: Box<[u8]>,
    count: u64,
    /// Number of the latest observation.
    last: u64,
}

#[derive(Debug)]
struct Subject {
    first_ns: u64,
    observed: u64,
    facts: BTreeMap<u64, Fact>,
    bytes: usize,
}

/// The model, for any number of subjects within its limits.
#[derive(Debug)]
pub struct FirstSeen {
    limits: Limits,
    learning: Learning,
    subjects: LruCache<String, Subject>,
    /// Observations so far: the model's only clock.
    ordinal: u64,
    bytes: usize,
}

impl FirstSeen {
    /// A model that knows nothing.
    #[must_use]
    pub fn new(limits: Limits, learning: Learning) -> Self {
        Self {
            limits,
            learning,
            subjects: LruCache::unbounded(),
            ordinal: 0,
            bytes: 0,
        }
    }

    /// `fact` was observed of `subject` in `context` at `time_ns` of event time.
    pub fn observe(&mut self, subject: &str, context: &[u8], fact: &[u8], time_ns: u64) -> Opinion {
        self.ordinal += 1;
        let learning = self.learning;
        let known = self.subject(subject, time_ns);
        let learned = learning.events.is_some_and(|events| known.observed >= events)
            || learning
                .span_ns
                .is_some_and(|span| time_ns.saturating_sub(known.first_ns) >= span);
        let context = hash(0, context);
        let key = hash(context, fact);
        if learned && !known.facts.contains_key(&key) {
            let surprise = known.surprise(context);
            self.keep_bounds();
            return Opinion::Surprise(surprise);
        }
        self.learn(subject, context, key, fact);
        if learned { Opinion::Known } else { Opinion::Learned }
    }

    /// `fact` is normal for `subject` in `context`, however it was found.
    pub fn accept(&mut self, subject: &str, context: &[u8], fact: &[u8], time_ns: u64) {
        self.ordinal += 1;
        self.subject(subject, time_ns);
        let context = hash(0, context);
        self.learn(subject, context, hash(context, fact), fact);
    }

    /// `subject` exists: its span of learning begins now, if it has not begun.
    pub fn introduce(&mut self, subject: &str, time_ns: u64) {
        self.subject(subject, time_ns);
        self.keep_bounds();
    }

    /// Bytes that are held, at most [`Limits::bytes`].
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// The subjects with the number of their observations and of their facts, latest first.
    pub fn subjects(&self) -> impl Iterator<Item = (&str, u64, usize)> {
        self.subjects
            .iter()
            .map(|(name, subject)| (name.as_str(), subject.observed, subject.facts.len()))
    }

    fn subject(&mut self, name: &str, time_ns: u64) -> &mut Subject {
        let bytes = SUBJECT_BYTES + name.len();
        let total = &mut self.bytes;
        self.subjects.get_or_insert_mut_ref(name, || {
            *total += bytes;
            Subject {
                first_ns: time_ns,
                observed: 0,
                facts: BTreeMap::new(),
                bytes,
            }
        })
    }

    fn learn(&mut self, subject: &str, context: u64, key: u64, name: &[u8]) {
        let Some(subject) = self.subjects.get_mut(subject) else {
            return;
        };
        subject.observed += 1;
        let before = subject.bytes;
        if let Some(fact) = subject.facts.get_mut(&key) {
            fact.count += 1;
            fact.last = self.ordinal;
        } else {
            if subject.facts.len() >= self.limits.facts {
                subject.forget_one();
            }
            let name: Box<[u8]> = name[..name.len().min(NAME_MAX)].into();
            subject.bytes += FACT_BYTES + name.len();
            subject.facts.insert(
                key,
                Fact {
                    context,
                    name,
                    count: 1,
                    last: self.ordinal,
                },
            );
        }
        self.bytes = self.bytes + subject.bytes - before;
        self.keep_bounds();
    }

    fn keep_bounds(&mut self) {
        while self.subjects.len() > self.limits.subjects || self.bytes > self.limits.bytes {
            let Some((_, subject)) = self.subjects.pop_lru() else {
                break;
            };
            self.bytes -= subject.bytes;
        }
    }
}

impl Subject {
    /// Forgets the fact that was seen the longest ago.
    fn forget_one(&mut self) {
        let oldest = self
            .facts
            .iter()
            .min_by_key(|(_, fact)| fact.last)
            .map(|(key, _)| *key);
        if let Some(fact) = oldest.and_then(|key| self.facts.remove(&key)) {
            self.bytes -= FACT_BYTES + fact.name.len();
        }
    }

    /// What there is to say of a fact that is not known, from one pass over those that are.
    fn surprise(&self, context: u64) -> Surprise {
        let mut in_context: Vec<&Fact> = self
            .facts
            .values()
            .filter(|fact| fact.context == context)
            .collect();
        let context_is_new = in_context.is_empty();
        let (mut observations, mut once, mut distinct) = (0, 0, 0);
        for fact in self
            .facts
            .values()
            .filter(|fact| context_is_new || fact.context == context)
        {
            observations += fact.count;
            once += u64::from(fact.count == 1);
            distinct += 1;
        }
        in_context.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        Surprise {
            p_value: (once + 1) as f64 / (observations + 1) as f64,
            observations,
            distinct,
            context_is_new,
            alternatives: in_context
                .iter()
                .take(ALTERNATIVES)
                .map(|fact| (fact.name.clone(), fact.count))
                .collect(),
        }
    }
}

/// The same on every machine and in every version.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed, 0x5e05_0f1e_57ee_0001);
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests;
