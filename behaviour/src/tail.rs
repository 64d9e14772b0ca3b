//! A p-value for scores that a model reckons in nats, before and after there are enough of them to be ranked.
//!
//! A model that says "this has probability *e^−s*" is right at best about itself. If it is right, what is normal exceeds *s* with *e^−s*: an exponential tail of mean
//! one. So a subject begins with five such scores that nobody saw, and every normal score above 0 is added to them; a positive score exceeds *s* with
//! *(1 + s / Σ)^−k*, *k* scores summing up to *Σ* (see [`Conformal`](crate::Conformal)). How often a score is positive at all is counted, by Laplace's rule of succession:
//! *p = (k₊ + 1) / (n + 1) · (1 + s / Σ)^−k*. A model that promises too much has its promises cut down by what it scored before; a subject that was quiet for
//! a week is known to be.
//!
//! Defence: a score enters no higher than what is reached once in a hundred times, so that who creeps up has to be patient first; but of positive scores
//! one in twenty may be as high as it is, or who is silent but for a rare burst would never be learned. The tail is a twentieth too short for that.
//!
//! Bounds: five numbers; so many subjects ([`Tails::new`]), the one judged the longest ago is forgotten first.

use lru::LruCache;

use crate::snapshot::{self, Kind, Reader, SnapshotError};

const VERSION: u16 = 1;

/// Scores that a subject begins with, of mean one.
const PRIOR: f64 = 5.0;

/// Scores that are remembered; older ones fade.
const MEMORY: f64 = 1_000.0;

/// Above that is entered no score: what is reached so rarely, and that by so few of the positive ones.
const EXTREME: f64 = 0.01;
const LEAST: f64 = 0.05;

/// The smallest p-value that is claimed.
const P_MIN: f64 = 1e-12;

/// What is known of the scores of one subject and model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tail {
    number: f64,
    positive: f64,
    sum: f64,
}

impl Tail {
    /// The chance that something normal scores as high, in (0, 1].
    #[must_use]
    pub fn p_value(&self, score: f64) -> f64 {
        if score.is_nan() || score <= 0.0 {
            return 1.0;
        }
        (self.share() * self.beyond(score)).clamp(P_MIN, 1.0)
    }

    /// Something normal scored that.
    pub fn learn(&mut self, score: f64) {
        if !score.is_finite() {
            return;
        }
        if self.number >= MEMORY {
            let left = MEMORY / (self.number + 1.0);
            self.number *= left;
            self.positive *= left;
            self.sum *= left;
        }
        self.number += 1.0;
        if score > 0.0 {
            let most = self.exceeded_by((EXTREME / self.share()).clamp(LEAST, 1.0));
            self.positive += 1.0;
            self.sum += score.min(most);
        }
    }

    /// Adds what another has seen.
    pub fn merge(&mut self, other: &Self) {
        self.number += other.number;
        self.positive += other.positive;
        self.sum += other.sum;
        let left = (MEMORY / self.number).min(1.0);
        if left < 1.0 {
            self.number *= left;
            self.positive *= left;
            self.sum *= left;
        }
    }

    /// How many scores there were, older ones counting less.
    #[must_use]
    pub fn number(&self) -> f64 {
        self.number
    }

    /// How often a score is positive.
    fn share(&self) -> f64 {
        (self.positive + 1.0) / (self.number + 1.0)
    }

    fn beyond(&self, score: f64) -> f64 {
        let (number, sum) = (PRIOR + self.positive, PRIOR + self.sum);
        (-number * (score / sum).ln_1p()).exp()
    }

    fn exceeded_by(&self, chance: f64) -> f64 {
        let (number, sum) = (PRIOR + self.positive, PRIOR + self.sum);
        sum * (chance.powf(-1.0 / number) - 1.0)
    }
}

/// Of many subjects, by a hash of subject and model.
#[derive(Clone, Debug)]
pub struct Tails {
    tails: LruCache<u64, Tail>,
    limit: usize,
}

impl Tails {
    /// Keeps so many, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            tails: LruCache::unbounded(),
            limit: limit.max(1),
        }
    }

    /// The chance that something normal of `subject` scores as high, in (0, 1].
    #[must_use]
    pub fn p_value(&self, subject: u64, score: f64) -> f64 {
        let tail = self.tails.peek(&subject).copied();
        tail.unwrap_or_default().p_value(score)
    }

    /// Something normal of `subject` scored that.
    pub fn learn(&mut self, subject: u64, score: f64) {
        self.tails.get_or_insert_mut(subject, Tail::default).learn(score);
        while self.tails.len() > self.limit {
            self.tails.pop_lru();
        }
    }

    /// Forgets a subject.
    pub fn forget(&mut self, subject: u64) {
        self.tails.pop(&subject);
    }

    /// Adds what another has seen.
    pub fn merge(&mut self, other: &Self) {
        for (subject, tail) in other.tails.iter().rev() {
            self.tails.get_or_insert_mut(*subject, Tail::default).merge(tail);
        }
        while self.tails.len() > self.limit {
            self.tails.pop_lru();
        }
    }

    /// The tails as bytes: for each, the one judged the longest ago first, the subject and three numbers, eight bytes each.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (subject, tail) in self.tails.iter().rev() {
            out.extend(subject.to_le_bytes());
            for number in [tail.number, tail.positive, tail.sum] {
                out.extend(number.to_le_bytes());
            }
        }
        snapshot::seal(Kind::Tails, VERSION, &out)
    }

    /// What [`Tails::to_snapshot`] wrote, the latest `limit` of it.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_snapshot(bytes: &[u8], limit: usize) -> Result<Self, SnapshotError> {
        let mut reader = Reader(snapshot::open(Kind::Tails, VERSION, bytes)?);
        let mut tails = Self::new(limit);
        while !reader.0.is_empty() {
            let numbers = (reader.u64(), reader.f64(), reader.f64(), reader.f64());
            let (Some(subject), Some(number), Some(positive), Some(sum)) = numbers else {
                return Err(SnapshotError::Inside("a tail is cut off, or has no numbers"));
            };
            let makes_sense =
                (0.0..=MEMORY + 1.0).contains(&number) && (0.0..=number).contains(&positive) && sum >= 0.0;
            if !makes_sense {
                return Err(SnapshotError::Inside("a tail that no scores have"));
            }
            tails.tails.put(
                subject,
                Tail {
                    number,
                    positive,
                    sum,
                },
            );
            while tails.tails.len() > tails.limit {
                tails.tails.pop_lru();
            }
        }
        Ok(tails)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores with an exponential tail of that mean, evenly spread over their distribution.
    fn exponential(number: usize, mean: f64) -> Vec<f64> {
        let place = |index| (index as f64 + 0.5) / number as f64;
        (0..number)
            .map(|index| -mean * f64::ln(1.0 - place(index)))
            .collect()
    }

    /// In an order that is not theirs.
    fn shuffled(mut scores: Vec<f64>) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(7);
        random.shuffle(&mut scores);
        scores
    }

    #[test]
    fn a_model_that_is_right_is_believed() {
        let tail = Tail::default();
        assert_eq!(tail.p_value(0.0), 1.0);
        let p = tail.p_value(3.0);
        assert!(
            p > (-3.0_f64).exp() && p < 0.15,
            "nothing is certain of somebody unknown: {p}"
        );
        let mut tail = Tail::default();
        shuffled(exponential(900, 1.0))
            .into_iter()
            .for_each(|score| tail.learn(score));
        let ratio = tail.p_value(7.0) / (-7.0_f64).exp();
        assert!((0.5..1.7).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_model_that_promises_too_much_is_cut_down() {
        let mut tail = Tail::default();
        shuffled(exponential(900, 4.0))
            .into_iter()
            .for_each(|score| tail.learn(score));
        let ratio = tail.p_value(20.0) / (-5.0_f64).exp();
        assert!((0.5..2.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn who_was_quiet_for_long_is_surprising_sooner() {
        let mut tail = Tail::default();
        let before = tail.p_value(30.0);
        (0..200).for_each(|_| tail.learn(0.0));
        assert!(tail.p_value(30.0) < before / 150.0);
    }

    #[test]
    fn who_creeps_up_moves_it_slowly() {
        let mut tail = Tail::default();
        shuffled(exponential(900, 1.0))
            .into_iter()
            .for_each(|score| tail.learn(score));
        let before = tail.p_value(12.0);
        (0..50).for_each(|_| tail.learn(1e9));
        let after = tail.p_value(12.0);
        assert!(before < 1e-4 && after < 1e-3, "{before} {after}");
    }

    #[test]
    fn the_oldest_subject_is_forgotten() {
        let mut tails = Tails::new(2);
        for subject in [1, 2, 1, 3] {
            tails.learn(subject, 1.0);
        }
        let kept: Vec<u64> = tails.tails.iter().map(|(subject, _)| *subject).collect();
        assert_eq!(kept, [3, 1]);
    }

    #[test]
    fn a_snapshot_is_read_back() {
        let mut tails = Tails::new(8);
        for subject in 1..=5 {
            (0..subject).for_each(|score| tails.learn(subject, score as f64));
        }
        let back = Tails::from_snapshot(&tails.to_snapshot(), 8).expect("it is whole");
        for subject in 0..=6 {
            assert_eq!(back.p_value(subject, 3.0), tails.p_value(subject, 3.0));
        }
        assert_eq!(back.to_snapshot(), tails.to_snapshot());
        let mut made_up = vec![0; 32];
        made_up[8..16].copy_from_slice(&f64::INFINITY.to_le_bytes());
        assert!(Tails::from_snapshot(&snapshot::seal(Kind::Tails, VERSION, &made_up), 8).is_err());
        assert!(Tails::from_snapshot(&snapshot::seal(Kind::Tails, VERSION, &[0; 31]), 8).is_err());
    }
}
