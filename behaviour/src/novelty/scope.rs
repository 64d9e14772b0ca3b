//! What is known of one workload, image, host or fleet.

use std::{collections::BTreeMap, hash::Hasher};

use siphasher::sip::SipHasher13;

use super::Learning;

/// Longest name of a fact that is kept; the fact is known by a hash of the whole.
pub(super) const NAME_MAX: usize = 96;

/// What a fact costs beside its name: itself and its key, twice where a node of the tree is half empty.
pub(super) const FACT_BYTES: usize = 2 * (size_of::<Fact>() + size_of::<u64>()) + 16;

/// What a context costs: itself, its key, its share of a tree node.
pub(super) const CONTEXT_BYTES: usize = size_of::<Context>() + 2 * size_of::<u64>() + 16;

/// What a scope costs beside its contexts, its facts and its name.
pub(super) const SCOPE_BYTES: usize = size_of::<Scope>() + 128;

/// How rare a fact is that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// Probability of a fact that is as rare or rarer, in (0, 1].
    pub p_value: f64,
    /// How often it was observed.
    pub count: u64,
    /// All observations in its context.
    pub observations: u64,
}

/// What a scope has to say of a fact: in its context, or of contexts where that is new.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Observations of this fact in this context.
    pub count: u64,
    /// Observations of any.
    pub observations: u64,
    /// Different facts among them.
    pub distinct: usize,
    /// The context was never seen either.
    pub context_is_new: bool,
    /// The chance that the next is one never seen, in (0, 1].
    pub unseen: f64,
}

impl Level {
    /// Of a scope that is not known.
    pub(super) const UNKNOWN: Self = Self {
        count: 0,
        observations: 0,
        distinct: 0,
        context_is_new: true,
        unseen: 1.0,
    };
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fact {
    pub(super) key: u64,
    pub(super) name: Box<[u8]>,
    pub(super) count: u32,
    /// Number of the latest observation.
    pub(super) last: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Context {
    /// By key.
    facts: BTreeMap<u64, Fact>,
    total: u64,
    once: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scope {
    /// Time in which it was observed, and when it was last.
    pub(super) span_ns: u64,
    last_ns: Option<u64>,
    pub(super) observed: u64,
    contexts: BTreeMap<u64, Context>,
    facts: usize,
    once: usize,
    /// Of the counts that are held; what was forgotten is no longer in it.
    total: u64,
    bytes: usize,
}

impl Scope {
    pub(super) fn new(name: &str) -> Self {
        Self {
            span_ns: 0,
            last_ns: None,
            observed: 0,
            contexts: BTreeMap::new(),
            facts: 0,
            once: 0,
            total: 0,
            bytes: SCOPE_BYTES + name.len(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn observed(&self) -> u64 {
        self.observed
    }

    pub(super) fn facts(&self) -> usize {
        self.facts
    }

    /// Clocks that go back, as after a boot, add nothing.
    pub(super) fn seen_at(&mut self, time_ns: u64) {
        let last = self.last_ns.replace(time_ns).unwrap_or(time_ns);
        self.span_ns = self.span_ns.saturating_add(time_ns.saturating_sub(last));
    }

    pub(super) fn is_learned(&self, learning: &Learning) -> bool {
        learning.events.is_some_and(|events| self.observed >= events)
            || learning.span_ns.is_some_and(|span| self.span_ns >= span)
            || learning.unseen.is_some_and(|unseen| self.unseen() <= unseen)
    }

    pub(super) fn unseen(&self) -> f64 {
        unseen(self.once, self.total)
    }

    pub(super) fn knows(&self, context: u64, key: u64) -> bool {
        self.contexts
            .get(&context)
            .is_some_and(|known| known.fact(key).is_some())
    }

    pub(super) fn known(&self, context: u64, key: u64) -> Option<Known> {
        let context = self.contexts.get(&context)?;
        let count = context.fact(key)?.count;
        let rarer = context.facts.values().filter(|fact| fact.count <= count);
        let rarer: u64 = rarer.map(|fact| u64::from(fact.count)).sum();
        let unseen = unseen(context.once, context.total);
        Some(Known {
            p_value: unseen + (1.0 - unseen) * rarer as f64 / context.total as f64,
            count: u64::from(count),
            observations: context.total,
        })
    }

    pub(super) fn level(&self, context: u64, key: u64) -> Level {
        match self.contexts.get(&context) {
            Some(context) => Level {
                count: context.fact(key).map_or(0, |fact| u64::from(fact.count)),
                observations: context.total,
                distinct: context.facts.len(),
                context_is_new: false,
                unseen: unseen(context.once, context.total),
            },
            None => Level {
                count: 0,
                observations: self.total,
                distinct: self.facts,
                context_is_new: true,
                unseen: self.unseen_context(),
            },
        }
    }

    /// The chance that the next observation is in a context never seen.
    fn unseen_context(&self) -> f64 {
        let once = self
            .contexts
            .values()
            .filter(|context| context.total == 1)
            .count();
        unseen(once, self.total)
    }

    /// The `most` frequent facts of a context.
    pub(super) fn frequent(&self, context: u64, most: usize) -> Vec<(Box<[u8]>, u64)> {
        let facts = self.contexts.get(&context);
        most_frequent(facts.into_iter().flat_map(|context| context.facts.values()), most)
    }

    /// The `most` frequent facts of all contexts.
    pub(super) fn top(&self, most: usize) -> Vec<(Box<[u8]>, u64)> {
        most_frequent(
            self.contexts.values().flat_map(|context| context.facts.values()),
            most,
        )
    }
    /// Whether it was new.
    pub(super) fn learn(&mut self, context: u64, key: u64, name: &[u8], ordinal: u64, limit: usize) -> bool {
        self.observed = self.observed.saturating_add(1);
        self.add(context, key, name, 1, ordinal, limit)
    }

    /// `count` more observations of a fact; whether it was new.
    pub(super) fn add(
        &mut self,
        context: u64,
        key: u64,
        name: &[u8],
        count: u32,
        ordinal: u64,
        limit: usize,
    ) -> bool {
        let known = self.contexts.get_mut(&context);
        if let Some(known) = known
            && let Some(fact) = known.fact_mut(key)
        {
            let before = fact.count;
            fact.count = fact.count.saturating_add(count);
            fact.last = ordinal;
            let (was_once, added) = (before == 1, fact.count - before);
            known.total += u64::from(added);
            self.total += u64::from(added);
            if was_once && added > 0 {
                known.once -= 1;
                self.once -= 1;
            }
            return false;
        }
        if self.facts >= limit.max(1) {
            self.forget_oldest();
        }
        let bytes = &mut self.bytes;
        let known = self.contexts.entry(context).or_insert_with(|| {
            *bytes += CONTEXT_BYTES;
            Context::default()
        });
        let name: Box<[u8]> = name[..name.len().min(NAME_MAX)].into();
        self.bytes += FACT_BYTES + name.len();
        let fact = Fact {
            key,
            name,
            count,
            last: ordinal,
        };
        known.insert(fact);
        self.facts += 1;
        self.once += usize::from(count == 1);
        self.total += u64::from(count);
        true
    }

    pub(super) fn merge(&mut self, other: &Self, limit: usize, ordinal: &mut u64) {
        self.observed = self.observed.saturating_add(other.observed);
        self.span_ns = self.span_ns.saturating_add(other.span_ns);
        for (context, fact) in other.by_age() {
            *ordinal += 1;
            self.add(context, fact.key, &fact.name, fact.count, *ordinal, limit);
        }
    }

    /// Facts with their contexts, the one seen the longest ago first.
    pub(super) fn by_age(&self) -> Vec<(u64, &Fact)> {
        let contexts = self.contexts.iter();
        let mut facts: Vec<(u64, &Fact)> = contexts
            .flat_map(|(&context, known)| known.facts.values().map(move |fact| (context, fact)))
            .collect();
        facts.sort_by_key(|(_, fact)| fact.last);
        facts
    }

    /// A sixteenth of the facts, at least one: looking for the oldest costs a look at all of them, and who meets something new at every turn
    /// shall not have to pay that each time.
    fn forget_oldest(&mut self) {
        let mut ages: Vec<u64> = self
            .contexts
            .values()
            .flat_map(|known| known.facts.values().map(|fact| fact.last))
            .collect();
        if ages.is_empty() {
            return;
        }
        let (_, &mut youngest, _) = ages.select_nth_unstable((self.facts / 16).saturating_sub(1));
        let Self {
            facts,
            once,
            total,
            bytes,
            contexts,
            ..
        } = self;
        contexts.retain(|_, known| {
            known.forget(youngest, |fact| {
                *facts -= 1;
                *once -= usize::from(fact.count == 1);
                *total -= u64::from(fact.count);
                *bytes -= FACT_BYTES + fact.name.len();
            });
            let kept = !known.facts.is_empty();
            *bytes -= if kept { 0 } else { CONTEXT_BYTES };
            kept
        });
    }
}

impl Context {
    fn fact(&self, key: u64) -> Option<&Fact> {
        self.facts.get(&key)
    }

    fn fact_mut(&mut self, key: u64) -> Option<&mut Fact> {
        self.facts.get_mut(&key)
    }

    fn insert(&mut self, fact: Fact) {
        self.total += u64::from(fact.count);
        self.once += usize::from(fact.count == 1);
        self.facts.insert(fact.key, fact);
    }

    /// Everything that was last observed at `youngest` or before; each is shown to `forgotten`.
    fn forget(&mut self, youngest: u64, mut forgotten: impl FnMut(&Fact)) {
        let Self { facts, total, once } = self;
        facts.retain(|_, fact| {
            let kept = fact.last > youngest;
            if !kept {
                *total -= u64::from(fact.count);
                *once -= usize::from(fact.count == 1);
                forgotten(fact);
            }
            kept
        });
    }
}

/// A look at each, since there may be thousands and few are wanted.
fn most_frequent<'a>(facts: impl Iterator<Item = &'a Fact>, most: usize) -> Vec<(Box<[u8]>, u64)> {
    let rank = |a: &Fact, b: &Fact| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name));
    let mut top: Vec<&Fact> = Vec::with_capacity(most + 1);
    for fact in facts {
        let place = top.partition_point(|one| rank(one, fact).is_lt());
        if place < most {
            top.insert(place, fact);
            top.truncate(most);
        }
    }
    let counted = |fact: &Fact| (fact.name.clone(), u64::from(fact.count));
    top.into_iter().map(counted).collect()
}

/// Good and Turing's estimate, with one added to both.
fn unseen(once: usize, total: u64) -> f64 {
    (once as f64 + 1.0) / (total as f64 + 1.0)
}

/// Of a fact in its context, and of the context.
pub(super) fn keys(context: &[u8], fact: &[u8]) -> (u64, u64) {
    let context = hash(0, context);
    (hash(context, fact), context)
}

/// The same on every machine and in every version.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed, 0x5e05_0f1e_57ee_0001);
    hasher.write(bytes);
    hasher.finish()
}
