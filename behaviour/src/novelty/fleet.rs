//! What other hosts know: the scope that is wider than any of a host's own.
//!
//! A host [shares](Novelty::share) the facts of its widest scopes, each with its context as two hashes. Whoever has those of all hosts counts on how many each
//! was seen ([`Prevalence`]), and gives each host [what the others know](Prevalence::without) as its [prior](Novelty::set_prior). As between a host's own
//! scopes, hosts are counted and not observations: what one host does all day is one host's habit. The program is part of a fact's context, so that
//! this is a baseline of each image as well, merged over all hosts that run it.
//!
//! As with wider scopes, what no other host does is less likely by the chance that something new here is new there as well. And what is usual there is
//! no surprise, however settled this host is: the p-value is at least the chance that two other hosts, drawn at random, both do it. Of *k* in *H*
//! that is *k (k − 1) / (H (H + 1))*, with one host more in the divisor than there are, so that few hosts never make certainty. One host alone, which may lie, makes nothing usual.
//!
//! Nothing is named. But who guesses a path or an address can hash it: where that matters a [`Veil`] stands between hosts and who counts, so that only
//! hosts that have its key understand each other.
//!
//! Bounds: [`SHARED`] facts of each scope that a host shares; [`COUNTED`] different ones of each scope of a fleet, the latest to come being left out.

use std::collections::{BTreeMap, HashMap};

use siphasher::sip::SipHasher13;

use super::{Known, Learning, Level, Limits, Novelty, cut, scope::Scope};
use crate::SnapshotError;

/// Facts of one scope that a host shares: the latest.
pub const SHARED: usize = 2_048;

/// Different facts of one scope that are counted, and that a prior has.
pub const COUNTED: usize = 16_384;

/// Makes hashes that only those understand who have the same key.
#[derive(Clone, Copy)]
pub struct Veil(SipHasher13);

impl std::fmt::Debug for Veil {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Veil(..)")
    }
}

impl Veil {
    /// By this key, which is secret.
    #[must_use]
    pub fn new(key: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(key))
    }

    fn over(&self, hash: u64) -> u64 {
        self.0.hash(&hash.to_le_bytes())
    }
}

fn veiled(veil: Option<&Veil>, hashes: [u64; 2]) -> [u64; 2] {
    hashes.map(|hash| veil.map_or(hash, |veil| veil.over(hash)))
}

/// What the other hosts of a fleet know.
#[derive(Debug, Default)]
pub(super) struct Prior {
    facts: Option<Box<Novelty>>,
    hosts: u32,
    veil: Option<Veil>,
}

impl Prior {
    /// What the scope has to say; nothing where there is none.
    pub(super) fn ask(&self, scope: &str, context: u64, key: u64) -> Option<(Level, Option<Known>)> {
        let scope = self.facts.as_ref()?.scopes.peek(cut(scope))?;
        let [context, key] = veiled(self.veil.as_ref(), [context, key]);
        Some((scope.level(context, key), scope.known(context, key)))
    }

    /// The chance that two other hosts both do what so many of them do.
    pub(super) fn usual(&self, count: u64) -> f64 {
        let hosts = f64::from(self.hosts);
        // What was counted may be a host ahead of how many there are.
        let count = (count as f64).min(hosts);
        if count < 2.0 {
            return 0.0;
        }
        count * (count - 1.0) / (hosts * (hosts + 1.0))
    }
}

impl Novelty {
    /// The latest facts of the scopes of these names, each once, as hashes alone.
    #[must_use]
    pub fn share(&self, scopes: &[&str], veil: Option<&Veil>) -> Self {
        let mut shared = Self::new(limits(SHARED), Learning::default());
        for name in scopes {
            let Some(known) = self.scopes.peek(cut(name)) else {
                continue;
            };
            let mut scope = Scope::new(cut(name));
            for (context, fact) in known.by_age() {
                shared.ordinal += 1;
                let [context, key] = veiled(veil, [context, fact.key]);
                scope.add(context, key, &[], 1, shared.ordinal, SHARED);
            }
            shared.put(name, scope);
        }
        shared
    }

    /// From now on, what is new here is looked for in what other hosts know as well, of which there are `hosts`: [`Prevalence::without`] has
    /// made `facts`. A `veil` is what [`share`](Self::share) was called with.
    pub fn set_prior(&mut self, facts: Self, hosts: u32, veil: Option<Veil>) {
        self.prior = Prior {
            facts: Some(Box::new(facts)),
            hosts,
            veil,
        };
    }

    /// What [`share`](Self::share) has made, of its bytes.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn shared_from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        Self::from_snapshot(bytes, limits(SHARED), Learning::default())
    }

    /// What [`Prevalence::without`] has made, of its bytes.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn prior_from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        Self::from_snapshot(bytes, limits(COUNTED), Learning::default())
    }
}

/// Most scopes that a host shares.
const SCOPES: usize = 3;

fn limits(facts: usize) -> Limits {
    Limits {
        subjects: SCOPES,
        facts,
        ..Limits::default()
    }
}

/// On how many hosts facts were seen.
#[derive(Debug, Default)]
pub struct Prevalence {
    hosts: u32,
    /// By the name of the scope; in it by context and key, how many hosts.
    scopes: BTreeMap<String, HashMap<(u64, u64), u32>>,
    left_out: u64,
}

impl Prevalence {
    /// One host more, which has [shared](Novelty::share) this.
    pub fn add(&mut self, host: &Novelty) {
        self.hosts += 1;
        // The latest scopes first.
        for (name, scope) in host.scopes.iter().take(SCOPES) {
            if !self.scopes.contains_key(name) && self.scopes.len() >= SCOPES {
                continue;
            }
            let counted = self.scopes.entry(name.clone()).or_default();
            for (context, fact) in scope.by_age() {
                if let Some(hosts) = counted.get_mut(&(context, fact.key)) {
                    *hosts += 1;
                } else if counted.len() < COUNTED {
                    counted.insert((context, fact.key), 1);
                } else {
                    self.left_out += 1;
                }
            }
        }
    }

    /// How many hosts.
    #[must_use]
    pub fn hosts(&self) -> u32 {
        self.hosts
    }

    /// Different facts of all scopes.
    #[must_use]
    pub fn facts(&self) -> usize {
        self.scopes.values().map(HashMap::len).sum()
    }

    /// How often a host had a fact for which there was no room.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// What all hosts know but `host`, which is one of those that were added.
    #[must_use]
    pub fn without(&self, host: &Novelty) -> Novelty {
        let mut prior = Novelty::new(limits(COUNTED), Learning::default());
        for (name, counted) in &self.scopes {
            let own = host.scopes.peek(name.as_str());
            let mut scope = Scope::new(name);
            let mut facts: Vec<_> = counted.iter().collect();
            facts.sort_unstable_by_key(|(keys, _)| **keys);
            for ((context, key), hosts) in facts {
                let is_own = own.is_some_and(|own| own.knows(*context, *key));
                let others = hosts - u32::from(is_own);
                if others > 0 {
                    prior.ordinal += 1;
                    scope.add(*context, *key, &[], others, prior.ordinal, COUNTED);
                }
            }
            prior.put(name, scope);
        }
        prior
    }
}
