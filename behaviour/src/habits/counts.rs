//! Counts of symbols that fade.

use std::collections::BTreeMap;

/// What a symbol costs: itself, its count, its share of a tree node.
pub(super) const ENTRY_BYTES: usize = 32;

/// What is left of a count when a block is learned on top of it.
const FADE: f64 = 0.985;

#[derive(Clone, Debug)]
pub(super) struct Counts {
    /// In units of `unit`.
    counts: BTreeMap<u32, f64>,
    total: f64,
    /// What one occurrence adds now. It grows instead of everything else fading.
    unit: f64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            counts: BTreeMap::new(),
            total: 0.0,
            unit: 1.0,
        }
    }
}

impl Counts {
    pub(super) fn add(&mut self, block: &[u32]) {
        for &symbol in block {
            *self.counts.entry(symbol).or_insert(0.0) += self.unit;
        }
        self.total += self.unit * block.len() as f64;
    }

    pub(super) fn remove(&mut self, block: &[u32]) {
        for &symbol in block {
            self.take(symbol, self.unit);
        }
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        for (&symbol, count) in &other.counts {
            self.take(symbol, count / other.unit * self.unit);
        }
    }

    /// Everything so far counts a little less.
    pub(super) fn fade(&mut self) {
        self.unit /= FADE;
        if self.unit > 1e100 {
            let unit = self.unit;
            self.counts.values_mut().for_each(|count| *count /= unit);
            self.total /= unit;
            self.unit = 1.0;
        }
    }

    /// Forgets the rarest, down to nine tenths, where there are more than `most`.
    pub(super) fn keep(&mut self, most: usize) {
        if self.counts.len() <= most {
            return;
        }
        let mut rarest: Vec<(f64, u32)> = self
            .counts
            .iter()
            .map(|(&symbol, &count)| (count, symbol))
            .collect();
        rarest.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for &(count, symbol) in &rarest[..rarest.len() - most * 9 / 10] {
            self.counts.remove(&symbol);
            self.total -= count;
        }
    }

    /// Symbols with their counts, by symbol.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, f64)> {
        self.counts
            .iter()
            .map(|(&symbol, count)| (symbol, count / self.unit))
    }

    /// So many occurrences of a symbol more.
    pub(super) fn put(&mut self, symbol: u32, count: f64) {
        *self.counts.entry(symbol).or_insert(0.0) += count * self.unit;
        self.total += count * self.unit;
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        other.iter().for_each(|(symbol, count)| self.put(symbol, count));
    }

    pub(super) fn of(&self, symbol: u32) -> f64 {
        self.counts.get(&symbol).map_or(0.0, |count| count / self.unit)
    }

    pub(super) fn total(&self) -> f64 {
        self.total.max(0.0) / self.unit
    }

    /// How many different symbols.
    pub(super) fn kinds(&self) -> usize {
        self.counts.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.counts.len() * ENTRY_BYTES
    }

    fn take(&mut self, symbol: u32, amount: f64) {
        if let Some(count) = self.counts.get_mut(&symbol) {
            let taken = amount.min(*count);
            *count -= taken;
            self.total -= taken;
            // Less than half an occurrence is what rounding left.
            if *count < self.unit / 2.0 {
                self.total -= *count;
                self.counts.remove(&symbol);
            }
        }
    }
}
