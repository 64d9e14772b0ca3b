//! One trace as it happens: its mean surprise and its worst window, in bounded memory.

use super::{Cursor, Sequence, cursor::Chain};

/// Symbols of the short view. Chosen, like the order of the models, by what finds foreign stretches that were spliced into normal
/// traces: the surprise of a short intrusion sits where it begins and ends.
const WINDOW: usize = 3;

/// Symbols of a pattern.
const PATTERN: usize = 3;

/// Different patterns of a trace that are told apart; those beyond count as one.
const PATTERNS: usize = 3_072;

/// How a trace is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// Every symbol counts the same.
    BySymbol,
    /// Every pattern of three symbols counts the same, however often the trace repeats it: what a service does in a loop
    /// does not drown what it does once.
    ByPattern,
}

/// How surprising a trace is, in bits per symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// Over the whole trace. 0 for an empty one.
    pub long: f64,
    /// Of its worst few symbols in a row. 0 for an empty trace; one that is shorter counts as padded with what was expected.
    pub short: f64,
}

/// A trace so far. It is to be moved along with one model.
#[derive(Clone, Debug)]
pub struct Trace {
    cursor: Cursor,
    weighting: Weighting,
    window: [f64; WINDOW],
    worst: f64,
    symbols: u64,
    bits: f64,
    patterns: Patterns,
}

impl Trace {
    /// The most that a trace takes, in bytes.
    pub const MAX_BYTES: usize = size_of::<Self>() + 2 * PATTERNS.next_power_of_two() * size_of::<Pattern>();

    /// A trace that has not begun.
    #[must_use]
    pub fn new(weighting: Weighting) -> Self {
        Self {
            cursor: Cursor::default(),
            weighting,
            window: [0.0; WINDOW],
            worst: 0.0,
            symbols: 0,
            bits: 0.0,
            patterns: Patterns::default(),
        }
    }

    /// The next symbol, and how surprising it was, in bits.
    pub fn push(&mut self, model: &Sequence, symbol: u16) -> f64 {
        let bits = model.advance(&mut self.cursor, symbol);
        self.window[(self.symbols % WINDOW as u64) as usize] = bits;
        self.worst = self.worst.max(self.window.iter().sum::<f64>() / WINDOW as f64);
        self.symbols += 1;
        self.bits += bits;
        if self.weighting == Weighting::ByPattern {
            let pattern = self.cursor.recent().iter().copied().take(PATTERN);
            self.patterns.add(Chain::pattern(pattern), bits);
        }
        bits
    }

    /// How surprising it is so far.
    #[must_use]
    pub fn scores(&self) -> Scores {
        let long = match self.weighting {
            _ if self.symbols == 0 => 0.0,
            Weighting::BySymbol => self.bits / self.symbols as f64,
            Weighting::ByPattern => self.patterns.mean(),
        };
        Scores {
            long,
            short: self.worst,
        }
    }

    /// Bytes that are held, at most [`Trace::MAX_BYTES`].
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.patterns.slots.len() * size_of::<Pattern>()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Pattern {
    /// 0 is an empty place.
    hash: u64,
    count: u32,
    bits: f32,
}

/// Sums per pattern: open addressing, doubled at half full, until there are [`PATTERNS`].
#[derive(Clone, Debug, Default)]
struct Patterns {
    slots: Vec<Pattern>,
    used: usize,
    /// What found no place.
    rest: Pattern,
}

impl Patterns {
    fn add(&mut self, hash: u64, bits: f64) {
        let hash = hash | 1;
        if self.used * 2 >= self.slots.len() {
            self.grow();
        }
        let place = self.place(hash);
        let full = self.used >= PATTERNS;
        let pattern = match &mut self.slots[place] {
            empty if empty.hash == 0 && full => &mut self.rest,
            found => found,
        };
        if pattern.hash == 0 && !full {
            pattern.hash = hash;
            self.used += 1;
        }
        pattern.count = pattern.count.saturating_add(1);
        pattern.bits += bits as f32;
    }

    fn place(&self, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = (hash >> 32) as usize & mask;
        while self.slots[place].hash != 0 && self.slots[place].hash != hash {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(64);
        let old = std::mem::replace(&mut self.slots, vec![Pattern::default(); size]);
        for pattern in old.into_iter().filter(|pattern| pattern.hash != 0) {
            let place = self.place(pattern.hash);
            self.slots[place] = pattern;
        }
    }

    fn mean(&self) -> f64 {
        let all = self.slots.iter().chain([&self.rest]);
        let (mut sum, mut patterns) = (0.0, 0.0);
        for pattern in all.filter(|pattern| pattern.count > 0) {
            sum += f64::from(pattern.bits) / f64::from(pattern.count);
            patterns += 1.0;
        }
        if patterns > 0.0 { sum / patterns } else { 0.0 }
    }
}
