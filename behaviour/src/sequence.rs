//! Sequences: which symbol comes next, and how surprising is the one that did.
//!
//! A variable-order Markov model. Every n-gram up to an order is counted; the probability of a symbol is that of its
//! longest known context, blended with the next shorter one by Witten and Bell's estimate of how often something new
//! follows there: *p(s | c) = (n(c s) + d(c) · p(s | c′)) / (n(c) + d(c))*, *n* being counts, *d(c)* the number of different symbols
//! seen after *c*, and *c′* the context without its oldest symbol; the last resort is 1 / alphabet. (I. H. Witten, T. C. Bell: *The zero-frequency
//! problem*, IEEE Transactions on Information Theory 37, 1991, method C.) Surprise is −log₂ p, in bits.
//!
//! A trace is looked at in two ways ([`Scores`]), each to be calibrated by itself: over its whole length and at its worst
//! place. Only the second sees a short attack in a long trace; added into one number they hurt each other.
//!
//! Bounds: a model is a table of fixed size ([`Shape`]) and gives up the rarest first; a [`Trace`] takes at most
//! [`Trace::MAX_BYTES`].

mod cursor;
mod encoding;
mod reasons;
mod table;
mod trace;

use cursor::{Chain, Cursor};
pub use reasons::Transition;
use table::{Added, BUCKET_BYTES, Counts, Table};
pub use trace::{Scores, Trace, Weighting};

/// The longest n-gram that any model counts.
pub const MAX_ORDER: usize = 12;

/// Buckets of the largest model: 32 MiB.
const BUCKETS_MAX: usize = 1 << 19;

/// What a model counts and how much it may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    order: usize,
    buckets: usize,
    weighting: Weighting,
    long_share: f64,
}

impl Shape {
    /// One service: up to 30,720 n-grams in 240 KiB. What its traces repeat counts once, and both views are heard alike.
    pub const SERVICE: Self = Self {
        order: 9,
        buckets: 3_840,
        weighting: Weighting::ByPattern,
        long_share: 0.5,
    };

    /// A whole host, where every trace may be another program: up to 524,288 n-grams in 4 MiB. Something new for a moment is
    /// nothing special there, so nearly all of the budget is the long view's.
    pub const HOST: Self = Self {
        order: 6,
        buckets: 65_536,
        weighting: Weighting::BySymbol,
        long_share: 0.95,
    };

    /// N-grams of up to `order` symbols (1 to [`MAX_ORDER`]; brought into that range), in at most `bytes`, of which no more
    /// than 32 MiB are taken; else like this shape.
    #[must_use]
    pub fn sized(self, order: usize, bytes: usize) -> Self {
        Self {
            order: order.clamp(1, MAX_ORDER),
            buckets: (bytes / BUCKET_BYTES).clamp(1, BUCKETS_MAX),
            ..self
        }
    }

    /// The share of the budget for false alarms that [`Scores::long`] should have; the rest is [`Scores::short`]'s.
    #[must_use]
    pub fn long_share(self) -> f64 {
        self.long_share
    }
}

/// A model of sequences over at most 65,536 symbols.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    shape: Shape,
    table: Table,
    /// Symbols learned.
    total: u64,
    /// Different symbols among them.
    distinct: u32,
}

/// Number of symbols among which one that is quite unknown is drawn. Linux has about 460 calls.
const ALPHABET: f64 = 512.0;

impl Sequence {
    /// A model that knows nothing.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            table: Table::new(shape.buckets),
            shape,
            total: 0,
            distinct: 0,
        }
    }

    /// What the model counts and how much it may hold.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Symbols learned.
    #[must_use]
    pub fn learned(&self) -> u64 {
        self.total
    }

    /// N-grams held.
    #[must_use]
    pub fn ngrams(&self) -> usize {
        self.table.nodes()
    }

    /// Observations of n-grams that found no place: if they are many, the shape is too small for what it should learn.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.table.refused
    }

    /// Bytes that are held, whatever was learned.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.shape.buckets * BUCKET_BYTES
    }

    /// A trace is normal.
    pub fn learn(&mut self, symbols: &[u16]) {
        let mut context = Chain::default();
        for at in 0..symbols.len() {
            let chain = self.chain(symbols, at);
            for (length, &hash) in chain.hashes().iter().enumerate() {
                if self.table.add(hash, 1) == Added::New {
                    self.follows(context.of_length(length), true);
                }
            }
            self.total = self.total.saturating_add(1);
            context = chain;
        }
    }

    /// Takes a trace back that was learned: as if it had never been, so long as nothing was refused and no count
    /// stopped. This is how a model scores what it has learned without having learned it.
    pub fn unlearn(&mut self, symbols: &[u16]) {
        let mut context = Chain::default();
        for at in 0..symbols.len() {
            let chain = self.chain(symbols, at);
            for (length, &hash) in chain.hashes().iter().enumerate() {
                if self.table.remove(hash) {
                    self.follows(context.of_length(length), false);
                }
            }
            self.total = self.total.saturating_sub(1);
            context = chain;
        }
    }

    /// The surprise of each symbol of a trace, in bits.
    #[must_use]
    pub fn surprises(&self, symbols: &[u16]) -> Vec<f64> {
        let mut cursor = Cursor::default();
        symbols
            .iter()
            .map(|&symbol| self.advance(&mut cursor, symbol))
            .collect()
    }

    /// How surprising a whole trace is.
    #[must_use]
    pub fn scores(&self, symbols: &[u16]) -> Scores {
        let mut trace = Trace::new(self.shape.weighting);
        for &symbol in symbols {
            trace.push(self, symbol);
        }
        trace.scores()
    }

    /// Adds what another model learned, of whatever shape: the counts add up.
    pub fn merge(&mut self, other: &Self) {
        let alphabet: Vec<u16> = (0..=u16::MAX)
            .filter(|&symbol| other.count(&[symbol]) > 0)
            .collect();
        let mut ngram = Vec::with_capacity(MAX_ORDER);
        self.merge_after(other, &alphabet, &mut ngram);
        self.total = self.total.saturating_add(other.total);
    }

    /// How often an n-gram was learned.
    fn count(&self, ngram: &[u16]) -> u32 {
        let hash = Chain::ending(ngram).of_length(ngram.len());
        hash.map_or(0, |hash| self.table.get(hash).count)
    }

    fn merge_after(&mut self, other: &Self, alphabet: &[u16], ngram: &mut Vec<u16>) {
        if ngram.len() >= self.shape.order.min(other.shape.order) {
            return;
        }
        for &symbol in alphabet {
            ngram.push(symbol);
            let count = other.count(ngram);
            if count > 0 {
                self.add(ngram, count);
                self.merge_after(other, alphabet, ngram);
            }
            ngram.pop();
        }
    }

    fn add(&mut self, ngram: &[u16], count: u32) {
        let Some((_, context)) = ngram.split_last() else {
            return;
        };
        let Some(hash) = Chain::ending(ngram).of_length(ngram.len()) else {
            return;
        };
        if self.table.add(hash, count) == Added::New {
            self.follows(Chain::ending(context).of_length(context.len()), true);
        }
    }

    /// One more, or one fewer, different symbol follows a context; none is the empty one.
    fn follows(&mut self, context: Option<u64>, more: bool) {
        match context {
            Some(hash) => self.table.followers(hash, more),
            None if more => self.distinct = self.distinct.saturating_add(1),
            None => self.distinct = self.distinct.saturating_sub(1),
        }
    }

    /// The n-grams that end at `at`, as long as the model counts them.
    fn chain(&self, symbols: &[u16], at: usize) -> Chain {
        Chain::ending(&symbols[(at + 1).saturating_sub(self.shape.order)..=at])
    }

    /// Moves on by `symbol`, and how surprising it was.
    fn advance(&self, cursor: &mut Cursor, symbol: u16) -> f64 {
        let (probability, found) = self.probability(cursor, symbol);
        cursor.advance(symbol, found);
        -probability.log2()
    }

    /// Of `symbol` as the next, and what is known of the n-grams that it ends.
    fn probability(&self, cursor: &Cursor, symbol: u16) -> (f64, [Counts; MAX_ORDER]) {
        let mut found = [Counts::default(); MAX_ORDER];
        let mut probability = 1.0 / ALPHABET;
        let recent = &cursor.recent()[..cursor.recent().len().min(self.shape.order - 1)];
        let chain = Chain::new(symbol, recent.iter().copied());
        for (length, &hash) in chain.hashes().iter().enumerate() {
            let (total, distinct) = match length {
                0 => (self.total as f64, f64::from(self.distinct)),
                length => {
                    let context = cursor.context(length);
                    (f64::from(context.count), f64::from(context.distinct))
                }
            };
            if distinct == 0.0 {
                // Never continued, so no longer context was either. At the end of a trace it may have been seen.
                break;
            }
            found[length] = self.table.get(hash);
            // Eviction may have left a context rarer than what follows it.
            let count = f64::from(found[length].count);
            // The divisions do not wait for each other so: they are most of what a symbol costs.
            let share = 1.0 / (total.max(count) + distinct);
            probability = count * share + distinct * share * probability;
        }
        let probability = probability.min(1.0);
        (probability, found)
    }
}

#[cfg(test)]
mod tests;
