//! One person: what they did and how it scored.

use std::collections::VecDeque;

use super::counts::Counts;

/// Scores that the gate is set by.
pub(super) const SCORES: usize = 100;

/// Scores that say what is usual.
const RECENT: usize = 50;

/// Share of a person's own scores that the gate lets through.
const GATE: f64 = 0.98;

/// What a person costs beside counts and blocks.
pub(super) const PERSON_BYTES: usize = size_of::<Person>() + 256 * size_of::<f64>() + 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Person {
    /// What was learned before settling: the person's part in the population.
    pub(super) learned: Counts,
    /// What the person does now.
    pub(super) current: Counts,
    /// Blocks to be scored by [`super::Habits::settle`].
    pub(super) unsettled: Vec<Box<[u32]>>,
    /// Blocks to be learned unless something alarming comes.
    pub(super) waiting: VecDeque<Box<[u32]>>,
    /// Number of the latest block.
    pub(super) last: u64,
    scores: VecDeque<f64>,
    pub(super) recent: Record,
}

impl Person {
    pub(super) fn record(&mut self, score: f64) {
        if self.scores.len() >= SCORES {
            self.scores.pop_front();
        }
        self.scores.push_back(score);
        self.recent = Record::of(self.scores.iter().rev().take(RECENT).copied());
    }

    pub(super) fn scores(&self) -> impl ExactSizeIterator<Item = f64> {
        self.scores.iter().copied()
    }

    /// The highest score that is learned from.
    pub(super) fn gate(&self) -> f64 {
        let mut scores: Vec<f64> = self.scores().collect();
        scores.sort_by(f64::total_cmp);
        let at = (GATE * scores.len() as f64) as usize;
        let at = at.min(scores.len().saturating_sub(1));
        scores.get(at).copied().unwrap_or(f64::NEG_INFINITY)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let blocks = self.unsettled.iter().chain(&self.waiting);
        let blocks = blocks.map(|block| size_of_val(&**block)).sum::<usize>();
        PERSON_BYTES + self.learned.memory_bytes() + self.current.memory_bytes() + blocks
    }
}

/// Mean of scores, and their variance around the mean of their own group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    number: f64,
    sum: f64,
    squares: f64,
}

impl Record {
    fn of(scores: impl Iterator<Item = f64> + Clone) -> Self {
        let (number, sum) = scores
            .clone()
            .fold((0.0, 0.0), |(number, sum), score| (number + 1.0, sum + score));
        let mean = if number > 0.0 { sum / number } else { 0.0 };
        Self {
            number,
            sum,
            squares: scores.map(|score| (score - mean).powi(2)).sum(),
        }
    }

    pub(super) fn include(&mut self, group: &Self) {
        self.number += group.number;
        self.sum += group.sum;
        self.squares += group.squares;
    }

    pub(super) fn exclude(&mut self, group: &Self) {
        self.number -= group.number;
        self.sum -= group.sum;
        self.squares -= group.squares;
    }

    pub(super) fn mean(&self) -> f64 {
        if self.number > 0.0 {
            self.sum / self.number
        } else {
            0.0
        }
    }

    pub(super) fn variance(&self) -> f64 {
        if self.number > 0.0 {
            (self.squares / self.number).max(0.0)
        } else {
            0.0
        }
    }
}
