//! Where one is in a sequence: the latest symbols, and what is known of the n-grams they end.

use super::{MAX_ORDER, table::Counts};

/// A place in a sequence, of a few dozen words. It belongs to the model it was moved along with.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// Latest first.
    recent: [u16; MAX_ORDER],
    len: usize,
    /// Of the n-gram that ends here, by its length less one.
    found: [Counts; MAX_ORDER],
}

impl Cursor {
    /// The latest symbols, the latest first.
    pub(super) fn recent(&self) -> &[u16] {
        &self.recent[..self.len]
    }

    /// What is known of the context of `length` symbols, at least one.
    pub(super) fn context(&self, length: usize) -> Counts {
        self.found[length - 1]
    }

    pub(super) fn advance(&mut self, symbol: u16, found: [Counts; MAX_ORDER]) {
        self.recent.copy_within(..MAX_ORDER - 1, 1);
        self.recent[0] = symbol;
        self.len = (self.len + 1).min(MAX_ORDER);
        self.found = found;
    }
}

/// Hashes of the n-grams that end at one place, the shortest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    hashes: [u64; MAX_ORDER],
    len: usize,
}

impl Chain {
    /// Of those that end with `symbol`; `before` are the symbols before it, the latest first.
    pub(super) fn new(symbol: u16, before: impl Iterator<Item = u16>) -> Self {
        let mut chain = Self::default();
        let mut hash = 0;
        let symbols = std::iter::once(symbol).chain(before);
        for (place, symbol) in chain.hashes.iter_mut().zip(symbols) {
            hash = mix(hash, symbol);
            *place = hash;
            chain.len += 1;
        }
        chain
    }

    /// Of those that end with the last symbol of `ngram`.
    pub(super) fn ending(ngram: &[u16]) -> Self {
        match ngram.split_last() {
            Some((&last, before)) => Self::new(last, before.iter().rev().copied()),
            None => Self::default(),
        }
    }

    /// Of all the symbols together.
    pub(super) fn pattern(symbols: impl Iterator<Item = u16>) -> u64 {
        symbols.fold(0, mix)
    }

    pub(super) fn hashes(&self) -> &[u64] {
        &self.hashes[..self.len]
    }

    /// Of the n-gram of that many symbols, at least one.
    pub(super) fn of_length(&self, length: usize) -> Option<u64> {
        self.hashes().get(length.wrapping_sub(1)).copied()
    }
}

/// A folded multiplication: the two halves of a 128-bit product, so that every bit of the input reaches both the bucket and
/// the tag.
fn mix(hash: u64, symbol: u16) -> u64 {
    let key = (u64::from(symbol) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let wide = u128::from(hash ^ key ^ 0x2545_f491_4f6c_dd1d) * u128::from(0xd6e8_feb8_6659_fd93_u64);
    (wide >> 64) as u64 ^ wide as u64
}
