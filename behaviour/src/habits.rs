//! Habits: is this the person whose account it is, or somebody else?
//!
//! What a person does comes in blocks (say, a hundred commands). Each command is evidence: *ln (p(others) / p(self))*, how much better the
//! rest of the population explains it than the person's own past. A command that a block has *k* times counts *ln (1 + k)* times; the
//! score of a block is the mean over those weights, in nats. Its distance from what the person's own blocks score, in standard deviations, is
//! what gets a p-value. (Naive Bayes, self against others, as in R. A. Maxion, T. N. Townsend: *Masquerade detection using truncated command
//! lines*, DSN 2002; data by M. Schonlau et al.: *Computer intrusion: detecting masquerades*, Statistical Science 16, 2001.)
//!
//! People change, and whoever has taken over an account would like to be learned. So a block is learned only if the person's own 98th percentile does not
//! forbid it; learning it fades everything older a little; and a surprising score enters the person's record no higher than that percentile.
//! Left out, such scores would make the record, and with it the threshold, narrower with every false alarm; let in as they are, an intruder
//! would widen it.
//!
//! Bounds: [`Bounds`]; the person seen the longest ago and the symbols done the most rarely are forgotten first.

mod counts;
mod encoding;
mod person;

use std::collections::BTreeMap;

use counts::Counts;
use person::{Person, Record};

use crate::Conformal;

/// Added to each count of a person's own, of the population's. Chosen by exchanging blocks between people while they are learned.
const PRIOR_SELF: f64 = 0.003;
const PRIOR_OTHERS: f64 = 0.01;

/// A person's own scores count as this many, everybody's as that many, for mean and variance.
const OWN: f64 = 50.0;
const SHARED: f64 = 200.0;

/// Share of what a person learned that is also scored as it would have come live, by what was before it alone: being
/// left out of its own past and future flatters a block.
const FORWARD: usize = 4;

/// Below this p-value, the gate's share, a score is recorded no higher than the person's own percentile, and nothing that
/// waits is learned.
const SURPRISING: f64 = 0.02;

/// Below this one, a block tells nothing about what is normal.
const EXTREME: f64 = 0.001;

/// Latest deviations of normal blocks, of all people together, that p-values are reckoned from.
const CALIBRATION: usize = 3_000;

/// Longest name of a person, in bytes; the rest is cut off.
const NAME_MAX: usize = 256;

/// Symbols of a block that are looked at.
pub const BLOCK_MAX: usize = 1_024;

/// How much the model may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// People.
    pub people: usize,
    /// Different symbols of one person.
    pub symbols: usize,
    /// Blocks of one person that are kept until [`Habits::settle`]; more are learned, but not scored.
    pub blocks: usize,
    /// Blocks that one which may be learned waits for: it is dropped if one of them is alarming. 0 learns at once. Waiting
    /// costs accuracy where habits move quickly.
    pub delay: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            people: 256,
            symbols: 1_024,
            blocks: 64,
            delay: 0,
        }
    }
}

impl Bounds {
    /// Bytes that a model takes at most.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        let blocks = (self.blocks + self.delay + 1) * BLOCK_MAX * size_of::<u32>();
        let person = 2 * (self.symbols + BLOCK_MAX) * counts::ENTRY_BYTES + blocks + person::PERSON_BYTES;
        let everyone = self.people * self.symbols * counts::ENTRY_BYTES;
        self.people * person + everyone + Conformal::new(CALIBRATION).max_bytes()
    }
}

/// What the model makes of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Mean evidence for somebody else, in nats; negative speaks for the person.
    pub score: f64,
    /// Its distance from what is usual for the person, in standard deviations.
    pub deviation: f64,
    /// The chance that a block of the person's own deviates as much, in (0, 1].
    pub p_value: f64,
    /// Whether the gate let the block through to be learned, perhaps after a delay.
    pub accepted: bool,
}

/// What a symbol says about who did it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// The symbol.
    pub symbol: u32,
    /// How often it is in the block.
    pub times: usize,
    /// How much it says for somebody else, in nats, all its occurrences together.
    pub nats: f64,
    /// Share of it in what the person does.
    pub own: f64,
    /// Share of it in what the others do.
    pub others: f64,
}

/// The model, of all people of a population.
#[derive(Clone, Debug)]
pub struct Habits {
    bounds: Bounds,
    people: BTreeMap<String, Person>,
    /// What all people did while they were learned.
    everyone: Counts,
    shared: Record,
    calibration: Conformal,
    /// Blocks so far: the model's only clock.
    ordinal: u64,
}

impl Habits {
    /// A model that knows nobody.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            people: BTreeMap::new(),
            everyone: Counts::default(),
            shared: Record::default(),
            calibration: Conformal::new(CALIBRATION),
            ordinal: 0,
        }
    }

    /// `block` is surely this person's own. Takes effect with [`Habits::settle`].
    pub fn learn(&mut self, person: &str, block: &[u32]) {
        let block = &block[..block.len().min(BLOCK_MAX)];
        let person = &person[..person.floor_char_boundary(NAME_MAX)];
        self.ordinal += 1;
        self.make_room(person);
        let known = self.people.entry(person.to_owned()).or_default();
        known.last = self.ordinal;
        known.learned.add(block);
        known.current.add(block);
        self.everyone.add(block);
        if known.unsettled.len() < self.bounds.blocks {
            known.unsettled.push(block.into());
        }
        known.learned.keep(self.bounds.symbols);
        known.current.keep(self.bounds.symbols);
        self.everyone.keep(self.bounds.symbols * self.bounds.people);
    }

    /// Everybody's blocks have come: each is scored by what the model would be without it, and from those scores it is known what is usual.
    pub fn settle(&mut self) {
        let settling: Vec<String> = self.unsettled().map(|(name, _)| name.clone()).collect();
        for name in &settling {
            let scores = self.leave_one_out(name);
            if let Some(person) = self.people.get_mut(name) {
                scores.iter().for_each(|&score| person.record(score));
            }
        }
        self.share();
        for name in &settling {
            let Some(person) = self.people.get(name) else {
                continue;
            };
            let scores = person.scores().chain(self.forward(person));
            let deviations: Vec<f64> = scores.map(|score| self.deviation(person, score)).collect();
            deviations
                .into_iter()
                .for_each(|deviation| self.calibration.push(deviation));
        }
        for person in self.people.values_mut() {
            person.unsettled = Vec::new();
        }
    }

    /// A block of what is done as `person`, in the order of time: judged first, then perhaps learned. Nobody is suspected who was never
    /// learned.
    pub fn observe(&mut self, person: &str, block: &[u32]) -> Judgement {
        let block = &block[..block.len().min(BLOCK_MAX)];
        let person = &person[..person.floor_char_boundary(NAME_MAX)];
        self.ordinal += 1;
        let Some(known) = self.people.get(person) else {
            return Judgement {
                score: 0.0,
                deviation: 0.0,
                p_value: 1.0,
                accepted: false,
            };
        };
        let score = self.score(known, &known.current, block);
        let deviation = self.deviation(known, score);
        let p_value = self.calibration.p_value(deviation);
        let limit = known.gate();
        let accepted = score <= limit;
        if p_value >= EXTREME {
            self.calibration.push(deviation);
        }
        if let Some(known) = self.people.get_mut(person) {
            known.last = self.ordinal;
            self.shared.exclude(&known.recent);
            known.record(if p_value < SURPRISING {
                score.min(limit)
            } else {
                score
            });
            self.shared.include(&known.recent);
            if p_value < SURPRISING {
                known.waiting.clear();
            }
            if accepted {
                known.waiting.push_back(block.into());
            }
            if known.waiting.len() > self.bounds.delay
                && let Some(block) = known.waiting.pop_front()
            {
                known.current.fade();
                known.current.add(&block);
                known.current.keep(self.bounds.symbols);
            }
        }
        Judgement {
            score,
            deviation,
            p_value,
            accepted,
        }
    }

    /// The symbols of a block that speak `most` for somebody else, the loudest first. To be asked before the block is
    /// observed, since observing may learn it.
    #[must_use]
    pub fn reasons(&self, person: &str, block: &[u32], most: usize) -> Vec<Evidence> {
        let block = &block[..block.len().min(BLOCK_MAX)];
        let Some(known) = self.people.get(person) else {
            return Vec::new();
        };
        let mut evidence: Vec<Evidence> = self.evidence(known, &known.current, block).collect();
        evidence.retain(|symbol| symbol.nats > 0.0);
        evidence.sort_by(|a, b| b.nats.total_cmp(&a.nats).then(a.symbol.cmp(&b.symbol)));
        evidence.truncate(most);
        evidence
    }

    /// Adds what another model knows: of the same person everything adds up, and everybody's latest deviations are kept. Both are to be settled.
    pub fn merge(&mut self, other: &Self) {
        let mut theirs: Vec<_> = other.people.iter().collect();
        theirs.sort_by_key(|(_, person)| person.last);
        for (name, their) in theirs {
            self.make_room(name);
            self.ordinal += 1;
            let known = self.people.entry(name.clone()).or_default();
            known.last = self.ordinal;
            known.learned.add_all(&their.learned);
            known.current.add_all(&their.current);
            their.scores().for_each(|score| known.record(score));
            known.learned.keep(self.bounds.symbols);
            known.current.keep(self.bounds.symbols);
            self.everyone.add_all(&their.learned);
        }
        self.everyone.keep(self.bounds.symbols * self.bounds.people);
        self.calibration.merge(&other.calibration);
        self.share();
    }

    /// Whether anything was learned of a person.
    #[must_use]
    pub fn knows(&self, person: &str) -> bool {
        self.people.contains_key(person)
    }

    /// Bytes that are held, at most [`Bounds::max_bytes`].
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let people = self.people.values().map(Person::memory_bytes).sum::<usize>();
        people + self.everyone.memory_bytes() + self.calibration.max_bytes()
    }

    /// What is usual for everybody together.
    fn share(&mut self) {
        self.shared = Record::default();
        for person in self.people.values() {
            self.shared.include(&person.recent);
        }
    }

    fn unsettled(&self) -> impl Iterator<Item = (&String, &Person)> {
        self.people
            .iter()
            .filter(|(_, person)| !person.unsettled.is_empty())
    }

    fn leave_one_out(&self, name: &str) -> Vec<f64> {
        let Some(person) = self.people.get(name) else {
            return Vec::new();
        };
        let without = |block: &[u32]| {
            let mut others = person.current.clone();
            others.remove(block);
            self.score(person, &others, block)
        };
        person.unsettled.iter().map(|block| without(block)).collect()
    }

    /// The scores of the last blocks that were learned, each by what was learned before it.
    fn forward(&self, person: &Person) -> Vec<f64> {
        let blocks = &person.unsettled;
        let begin = blocks.len() - blocks.len() / FORWARD;
        let mut before = Counts::default();
        blocks[..begin].iter().for_each(|block| before.add(block));
        let limit = person.gate();
        let mut scores = Vec::new();
        for block in &blocks[begin..] {
            let score = self.score(person, &before, block);
            scores.push(score);
            if score <= limit {
                before.fade();
                before.add(block);
            }
        }
        scores
    }

    fn score(&self, person: &Person, own: &Counts, block: &[u32]) -> f64 {
        let (mut nats, mut weights) = (0.0, 0.0);
        for evidence in self.evidence(person, own, block) {
            nats += evidence.nats;
            weights += weight(evidence.times);
        }
        if weights > 0.0 { nats / weights } else { 0.0 }
    }

    /// What each symbol of a block says, `own` being what the person did and `person` what is not the others'.
    fn evidence(&self, person: &Person, own: &Counts, block: &[u32]) -> impl Iterator<Item = Evidence> {
        let mut times = BTreeMap::new();
        for &symbol in block {
            *times.entry(symbol).or_insert(0_usize) += 1;
        }
        let kinds = self.everyone.kinds() as f64;
        let others_total = (self.everyone.total() - person.learned.total()).max(0.0) + PRIOR_OTHERS * kinds;
        let own_total = own.total() + PRIOR_SELF * kinds;
        times.into_iter().map(move |(symbol, times)| {
            let others = (self.everyone.of(symbol) - person.learned.of(symbol)).max(0.0);
            let others = (others + PRIOR_OTHERS) / others_total.max(PRIOR_OTHERS);
            let own = (own.of(symbol) + PRIOR_SELF) / own_total.max(PRIOR_SELF);
            Evidence {
                symbol,
                times,
                nats: weight(times) * (others / own).ln(),
                own,
                others,
            }
        })
    }

    /// From what is usual for the person, of which as much is everybody's as there is little of the person's own.
    fn deviation(&self, person: &Person, score: f64) -> f64 {
        let blend = |own: f64, shared: f64| (OWN * own + SHARED * shared) / (OWN + SHARED);
        let mean = blend(person.recent.mean(), self.shared.mean());
        let variance = blend(person.recent.variance(), self.shared.variance());
        (score - mean) / variance.max(f64::EPSILON).sqrt()
    }

    fn make_room(&mut self, newcomer: &str) {
        if self.people.len() < self.bounds.people || self.people.contains_key(newcomer) {
            return;
        }
        let oldest = self.people.iter().min_by_key(|(_, person)| person.last);
        let Some(name) = oldest.map(|(name, _)| name.clone()) else {
            return;
        };
        if let Some(person) = self.people.remove(&name) {
            self.everyone.subtract(&person.learned);
            self.shared.exclude(&person.recent);
        }
    }
}

/// How much a symbol counts that a block has so many times.
fn weight(times: usize) -> f64 {
    (times as f64).ln_1p()
}

#[cfg(test)]
mod tests;
