//! Edges: to whom a subject connects, and bursts of edges that it has never had or that fail.
//!
//! Scans, sweeps, brute force and lateral movement have two numbers in common that are otherwise small: how many *new* edges a source has in
//! ten minutes, and how many attempts *fail*. Both are counts, known from past windows; how surprising *k* of them are is
//! −ln P(K ≥ k) of the negative binomial distribution that follows from a Poisson rate of which *s* events in *n* windows are known
//! (A. Gelman et al.: *Bayesian Data Analysis*, 2.6). Events come in clumps, so counts are divided by the clump size *φ* = variance / mean, at
//! least 3, before they are looked up. A source of which nothing is known may have ten or so, of one clump (*s* = 1, *n* = 0.1). The score of a
//! window is the larger of both surprises, in nats, less ln 2 for having looked twice. Scores are for [`crate::Conformal`] to calibrate.
//!
//! A window is learned when it is over: its new edges become known only if it was no burst, and its counts enter no higher than what would
//! have been one. So whoever insists stays new, and an attacker moves the rates by no more than that per window.
//!
//! Bounds: [`Bounds`]; the sources and the edges seen the longest ago are forgotten first. New edges of a window beyond 64
//! are told apart no longer but counted.

mod counts;
mod encoding;
mod window;

use std::hash::Hasher;

use counts::Counts;
use lru::LruCache;
use siphasher::sip::SipHasher13;
pub use window::Kind;
use window::{New, Window};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Sources.
    pub sources: usize,
    /// Known edges of one source.
    pub edges: usize,
    /// Nanoseconds of a window, at least one.
    pub window_ns: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            sources: 512,
            edges: 512,
            window_ns: 600_000_000_000,
        }
    }
}

/// Longest name of a source, in bytes; the rest is cut off.
const NAME_MAX: usize = 256;

/// From this score on, in nats, a window is a burst: one in a thousand by the model's own reckoning.
pub const BURST: f64 = 7.0;

/// An attempt of a source to reach somebody.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Who: a workload, a user, a remote address.
    pub source: &'a str,
    /// Whom: an address, a host, an account.
    pub target: &'a [u8],
    /// Where there: a port; 0 where there is none.
    pub port: u16,
    /// Refused, timed out, wrong password.
    pub failed: bool,
    /// Nanoseconds of event time.
    pub time_ns: u64,
}

/// A window so far, and why it is surprising.
#[derive(Clone, Debug, PartialEq)]
pub struct Burst {
    /// How surprising it is, in nats; never negative.
    pub score: f64,
    /// What it looks like.
    pub kind: Kind,
    /// New edges.
    pub new: u32,
    /// Different targets and ports among them, as far as they were told apart.
    pub targets: usize,
    /// Different ports.
    pub ports: usize,
    /// Attempts that failed, on whatever edge.
    pub failures: u32,
    /// All attempts.
    pub attempts: u32,
    /// New edges and failures that are usual in a window.
    pub usual: [f64; 2],
    /// Windows that were learned.
    pub windows: u64,
    /// The first few new edges, or the one that failed the most.
    pub examples: Vec<(Box<[u8]>, u16)>,
    /// An attempt went through where many had failed.
    pub succeeded: bool,
}

#[derive(Clone, Debug)]
struct Source {
    /// Keys of known edges with the ordinal of their latest use, by key.
    known: Vec<(u64, u64)>,
    new: Counts,
    failures: Counts,
    window: Window,
}

/// Edges of all sources.
#[derive(Clone, Debug)]
pub struct Edges {
    bounds: Bounds,
    sources: LruCache<String, Source>,
    ordinal: u64,
}

impl Edges {
    /// Knows nobody.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            sources: LruCache::unbounded(),
            ordinal: 0,
        }
    }

    /// Somebody tries to reach somebody. What the window looks like now, if this made it more surprising than nothing at all: an edge that is known
    /// and works never does.
    pub fn observe(&mut self, attempt: &Attempt<'_>) -> Option<Burst> {
        self.ordinal += 1;
        let (bounds, ordinal) = (self.bounds, self.ordinal);
        let number = attempt.time_ns / bounds.window_ns.max(1);
        let name = &attempt.source[..attempt.source.floor_char_boundary(NAME_MAX)];
        let source = self.sources.get_or_insert_mut_ref(name, || Source::new(number));
        source.advance(number, &bounds, ordinal);
        let key = key(attempt.target, attempt.port);
        let new = match source.known.binary_search_by_key(&key, |&(key, _)| key) {
            Ok(place) => {
                source.known[place].1 = ordinal;
                New::Known
            }
            Err(_) => New::Unknown,
        };
        let telling = source.window.add(attempt, key, new) && source.window.is_due();
        let burst = telling.then(|| source.burst());
        while self.sources.len() > bounds.sources {
            self.sources.pop_lru();
        }
        burst.filter(|burst| burst.score > 0.0)
    }

    /// `source` is there, and silent so far: from now on it is known to be.
    pub fn introduce(&mut self, source: &str, time_ns: u64) {
        let number = time_ns / self.bounds.window_ns.max(1);
        let name = &source[..source.floor_char_boundary(NAME_MAX)];
        self.sources.get_or_insert_mut_ref(name, || Source::new(number));
        while self.sources.len() > self.bounds.sources {
            self.sources.pop_lru();
        }
    }

    /// An attempt that was observed before as one that goes through has failed after all; the same otherwise.
    pub fn fail(&mut self, attempt: &Attempt<'_>) -> Option<Burst> {
        self.ordinal += 1;
        let (bounds, ordinal) = (self.bounds, self.ordinal);
        let number = attempt.time_ns / bounds.window_ns.max(1);
        let name = &attempt.source[..attempt.source.floor_char_boundary(NAME_MAX)];
        let source = self.sources.get_mut(name)?;
        source.advance(number, &bounds, ordinal);
        source.window.fail(attempt, key(attempt.target, attempt.port));
        source
            .window
            .is_due()
            .then(|| source.burst())
            .filter(|burst| burst.score > 0.0)
    }

    /// Ends the windows that are over at `time_ns`; what they scored at last, for calibration, with the names of their sources, in their
    /// order.
    pub fn advance(&mut self, time_ns: u64) -> Vec<(String, f64)> {
        let (bounds, ordinal) = (self.bounds, self.ordinal);
        let number = time_ns / bounds.window_ns.max(1);
        let mut ended = Vec::new();
        for (name, source) in self.sources.iter_mut() {
            if source.window.number < number {
                ended.push((name.clone(), source.burst().score));
                source.advance(number, &bounds, ordinal);
            }
        }
        ended.sort_by(|(a, _), (b, _)| a.cmp(b));
        ended
    }

    /// An edge is normal, however it was found.
    pub fn accept(&mut self, source: &str, target: &[u8], port: u16) {
        self.ordinal += 1;
        let name = &source[..source.floor_char_boundary(NAME_MAX)];
        if let Some(source) = self.sources.get_mut(name) {
            source.know(key(target, port), self.ordinal, self.bounds.edges);
        }
    }

    /// Forgets a source; whether there was one.
    pub fn forget(&mut self, source: &str) -> bool {
        self.sources
            .pop(&source[..source.floor_char_boundary(NAME_MAX)])
            .is_some()
    }

    /// Adds what another learned: edges that either knows are known, counts add up.
    pub fn merge(&mut self, other: &Self) {
        for (name, theirs) in other.sources.iter().rev() {
            let ours = self
                .sources
                .get_or_insert_mut_ref(name, || Source::new(theirs.window.number));
            ours.new.merge(&theirs.new);
            ours.failures.merge(&theirs.failures);
            for key in theirs.by_age() {
                self.ordinal += 1;
                ours.know(key, self.ordinal, self.bounds.edges);
            }
        }
        while self.sources.len() > self.bounds.sources {
            self.sources.pop_lru();
        }
    }

    /// The sources with the windows learned and the edges known of each, latest first.
    pub fn sources(&self) -> impl Iterator<Item = (&str, u64, usize)> {
        self.sources
            .iter()
            .map(|(name, source)| (name.as_str(), source.new.windows(), source.known.len()))
    }

    /// Bytes that are held at most.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        let known = 2 * self.bounds.edges.max(4) * size_of::<(u64, u64)>();
        self.bounds.sources * (size_of::<Source>() + known + Window::MAX_BYTES + NAME_MAX + 128)
    }
}

impl Source {
    fn new(number: u64) -> Self {
        Self {
            known: Vec::new(),
            new: Counts::default(),
            failures: Counts::default(),
            window: Window::new(number),
        }
    }

    fn burst(&self) -> Burst {
        let window = &self.window;
        let new = self.new.surprise(window.new);
        let failures = self.failures.surprise(window.failures);
        let score = (new.max(failures) - std::f64::consts::LN_2).max(0.0);
        let kind = window.kind(failures > new);
        let mut burst = Burst {
            score,
            kind,
            new: window.new,
            targets: 0,
            ports: 0,
            failures: window.failures,
            attempts: window.attempts,
            usual: [self.new.mean(), self.failures.mean()],
            windows: self.new.windows(),
            examples: Vec::new(),
            succeeded: false,
        };
        window.describe(&mut burst);
        burst
    }

    /// Learns the window under way, and the silent ones after it, if another has begun.
    fn advance(&mut self, number: u64, bounds: &Bounds, ordinal: u64) {
        if number <= self.window.number {
            return;
        }
        let burst = self.burst().score >= BURST;
        let silent = number - self.window.number - 1;
        let window = std::mem::replace(&mut self.window, Window::new(number));
        self.new.learn(window.new, BURST);
        self.failures.learn(window.failures, BURST);
        self.new.silent(silent);
        self.failures.silent(silent);
        if !burst {
            for key in window.keys() {
                self.know(key, ordinal, bounds.edges);
            }
        }
    }

    fn know(&mut self, key: u64, ordinal: u64, limit: usize) {
        match self.known.binary_search_by_key(&key, |&(key, _)| key) {
            Ok(place) => self.known[place].1 = ordinal,
            Err(_) => {
                if self.known.len() >= limit.max(1) {
                    let oldest = self.known.iter().enumerate().min_by_key(|(_, edge)| edge.1);
                    let oldest = oldest.map_or(0, |(place, _)| place);
                    self.known.remove(oldest);
                }
                let place = self.known.partition_point(|&(other, _)| other < key);
                self.known.insert(place, (key, ordinal));
            }
        }
    }

    /// Keys, the one used the longest ago first.
    fn by_age(&self) -> impl Iterator<Item = u64> {
        let mut known = self.known.clone();
        known.sort_by_key(|&(key, last)| (last, key));
        known.into_iter().map(|(key, _)| key)
    }
}

/// The same on every machine and in every version.
fn key(target: &[u8], port: u16) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(u64::from(port), 0x5e05_0f1e_57ee_0002);
    hasher.write(target);
    hasher.finish()
}

#[cfg(test)]
mod tests;
