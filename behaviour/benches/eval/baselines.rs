//! What a model has to beat: STIDE and a Witten–Bell n-gram, plain and unbounded, the mean over the trace.

use std::collections::{HashMap, HashSet};

/// Symbols of a window and of an n-gram.
const ORDER: usize = 6;

pub(crate) trait Baseline: Default {
    const NAME: &str;

    fn learn(&mut self, symbols: &[u32]);

    /// Mean surprise.
    fn score(&self, symbols: &[u32]) -> f64;

    /// About what the model takes.
    fn bytes(&self) -> usize;
}

/// The share of windows never seen. (S. Forrest et al.: *A sense of self for Unix processes*, 1996.)
#[derive(Default)]
pub(crate) struct Stide(HashSet<[u32; ORDER]>);

impl Baseline for Stide {
    const NAME: &str = "stide-6";

    fn learn(&mut self, symbols: &[u32]) {
        self.0.extend(symbols.array_windows());
    }

    fn score(&self, symbols: &[u32]) -> f64 {
        let windows = symbols.array_windows::<ORDER>();
        let (all, new) = windows.fold((0, 0), |(all, new), window| {
            (all + 1, new + u32::from(!self.0.contains(window)))
        });
        f64::from(new) / f64::from(all.max(1))
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * (size_of::<[u32; ORDER]>() + 1)
    }
}

/// Counts of what followed each context. (Witten and Bell 1991, method C.)
#[derive(Default)]
pub(crate) struct WittenBell {
    contexts: HashMap<Box<[u32]>, Context>,
}

#[derive(Default)]
struct Context {
    total: u32,
    followers: HashMap<u32, u32>,
}

impl Baseline for WittenBell {
    const NAME: &str = "witten-bell-6";

    fn learn(&mut self, symbols: &[u32]) {
        for (at, &symbol) in symbols.iter().enumerate() {
            for length in 0..ORDER.min(at + 1) {
                let context = self.contexts.entry(symbols[at - length..at].into()).or_default();
                context.total += 1;
                *context.followers.entry(symbol).or_default() += 1;
            }
        }
    }

    fn score(&self, symbols: &[u32]) -> f64 {
        let surprise = |at: usize| {
            let mut probability = 1.0 / 512.0;
            for length in 0..ORDER.min(at + 1) {
                let Some(context) = self.contexts.get(&symbols[at - length..at]) else {
                    break;
                };
                let count = context.followers.get(&symbols[at]).copied().unwrap_or(0);
                let distinct = context.followers.len() as f64;
                probability =
                    (f64::from(count) + distinct * probability) / (f64::from(context.total) + distinct);
            }
            -probability.log2()
        };
        (0..symbols.len()).map(surprise).sum::<f64>() / symbols.len() as f64
    }

    fn bytes(&self) -> usize {
        let contexts = self.contexts.iter().map(|(symbols, context)| {
            size_of_val(&**symbols) + size_of::<(Box<[u32]>, Context)>() + context.followers.capacity() * 9
        });
        contexts.sum()
    }
}
