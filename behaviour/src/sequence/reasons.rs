//! Why a trace is surprising: its most surprising transitions, and what was expected in their place.

use super::{Cursor, Sequence};

/// A symbol that was not expected where it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Where in the trace, from 0; the first time, if it came several times.
    pub at: usize,
    /// How often this symbol came after the same two, at least.
    pub times: usize,
    /// The symbols before it, oldest first, as many as the model has seen in a row.
    pub context: Vec<u16>,
    /// What came.
    pub symbol: u16,
    /// How surprising it was, in bits, where it was the most surprising.
    pub bits: f64,
    /// What was more likely there, with probabilities, the most likely first.
    pub expected: Vec<(u16, f64)>,
}

/// How many alternatives a transition lists.
const ALTERNATIVES: usize = 3;

/// Symbols by which two transitions are told apart, the last included.
const SAME: usize = 3;

impl Sequence {
    /// The `most` surprising transitions of a trace, the most surprising first. It costs as much as scoring the trace again, and for each
    /// transition a look at every symbol that was ever learned: for what was flagged, not for every trace.
    #[must_use]
    pub fn reasons(&self, symbols: &[u16], most: usize) -> Vec<Transition> {
        let mut cursor = Cursor::default();
        let mut found: Vec<(Transition, Cursor)> = Vec::new();
        for (at, &symbol) in symbols.iter().enumerate() {
            let before = cursor.clone();
            let bits = self.advance(&mut cursor, symbol);
            let same = |known: &&mut (Transition, Cursor)| ending(symbols, known.0.at) == ending(symbols, at);
            if let Some((known, place)) = found.iter_mut().find(same) {
                known.times += 1;
                if bits > known.bits {
                    (known.bits, *place) = (bits, before);
                }
                continue;
            }
            let last = found.last().filter(|_| found.len() >= most);
            if last.is_none_or(|(last, _)| bits > last.bits) {
                let transition = Transition {
                    at,
                    times: 1,
                    context: Vec::new(),
                    symbol,
                    bits,
                    expected: Vec::new(),
                };
                found.push((transition, before));
                found.sort_by(|(a, _), (b, _)| b.bits.total_cmp(&a.bits).then(a.at.cmp(&b.at)));
                found.truncate(most);
            }
        }
        found.sort_by(|(a, _), (b, _)| b.bits.total_cmp(&a.bits).then(a.at.cmp(&b.at)));
        let complete = |(transition, place)| self.complete(transition, &place);
        found.into_iter().map(complete).collect()
    }

    fn complete(&self, mut transition: Transition, place: &Cursor) -> Transition {
        let known = (1..self.shape.order.min(place.recent().len() + 1))
            .take_while(|&length| place.context(length).distinct > 0)
            .last()
            .unwrap_or(0);
        transition.context = place.recent()[..known].iter().rev().copied().collect();
        let surprising = self.probability(place, transition.symbol).0;
        let mut expected: Vec<(u16, f64)> = (0..=u16::MAX)
            .filter(|&symbol| self.count(&[symbol]) > 0)
            .map(|symbol| (symbol, self.probability(place, symbol).0))
            .filter(|&(_, probability)| probability > surprising)
            .collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        expected.truncate(ALTERNATIVES);
        transition.expected = expected;
        transition
    }
}

fn ending(symbols: &[u16], at: usize) -> &[u16] {
    &symbols[(at + 1).saturating_sub(SAME)..=at]
}
