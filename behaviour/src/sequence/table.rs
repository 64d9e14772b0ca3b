//! Counts of n-grams, by hash, in a table that never grows.
//!
//! A bucket is one cache line of eight nodes; an n-gram lives in the bucket that its hash names and is told from its
//! neighbours by 31 further bits of the hash. Where a bucket is full, the newcomer wears down the rarest node in it by one and
//! takes its place once nothing is left: what is frequent survives a flood of what is not, and whatever keeps coming gets in.
//! (J. Misra, D. Gries: *Finding repeated elements*, 1982, per bucket.)

use crate::snapshot::Reader;

const WAYS: usize = 8;
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;
const DISTINCT_MAX: u32 = 255;

/// What is known of an n-gram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// How often it was seen; stops at 2^24 − 1.
    pub(super) count: u32,
    /// How many different symbols were seen after it; stops at 255.
    pub(super) distinct: u32,
}

impl Counts {
    fn pack(self) -> u32 {
        self.distinct.min(DISTINCT_MAX) << COUNT_BITS | self.count.min(COUNT_MAX)
    }

    fn unpack(packed: u32) -> Self {
        Self {
            count: packed & COUNT_MAX,
            distinct: packed >> COUNT_BITS,
        }
    }
}

/// Tags and counts lie apart, so that a look at all eight is a few vector instructions and no guess. Tag 0 is an empty
/// place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
struct Bucket {
    tags: [u32; WAYS],
    packed: [u32; WAYS],
}

impl Bucket {
    fn get(&self, tag: u32) -> Counts {
        let nodes = self.tags.iter().zip(&self.packed);
        let packed = nodes.fold(0, |found, (&its, &packed)| {
            found | if its == tag { packed } else { 0 }
        });
        Counts::unpack(packed)
    }

    fn place(&self, tag: u32) -> Option<usize> {
        let places = self.tags.iter().enumerate();
        let found = places.fold(0_u32, |found, (place, &its)| {
            found | u32::from(its == tag) << place
        });
        (found != 0).then(|| found.trailing_zeros() as usize)
    }

    fn rarest(&self) -> usize {
        let rarest = (0..WAYS).min_by_key(|&place| self.packed[place] & COUNT_MAX);
        rarest.unwrap_or(0)
    }

    fn used(&self) -> usize {
        self.tags.iter().filter(|&&tag| tag != 0).count()
    }
}

/// Bytes of one bucket.
pub(super) const BUCKET_BYTES: usize = size_of::<Bucket>();

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    buckets: Box<[Bucket]>,
    /// Observations that found no place.
    pub(super) refused: u64,
}

/// What became of an n-gram that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    Known,
    New,
    Refused,
}

impl Table {
    pub(super) fn new(buckets: usize) -> Self {
        Self {
            buckets: vec![Bucket::default(); buckets.max(1)].into(),
            refused: 0,
        }
    }

    pub(super) fn nodes(&self) -> usize {
        self.buckets.iter().map(Bucket::used).sum()
    }

    fn index(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * self.buckets.len() as u64) >> 32) as usize
    }

    pub(super) fn get(&self, hash: u64) -> Counts {
        self.buckets[self.index(hash)].get(tag(hash))
    }

    pub(super) fn add(&mut self, hash: u64, count: u32) -> Added {
        let (index, tag) = (self.index(hash), tag(hash));
        let bucket = &mut self.buckets[index];
        if let Some(place) = bucket.place(tag) {
            let known = Counts::unpack(bucket.packed[place]);
            let count = known.count.saturating_add(count);
            bucket.packed[place] = Counts { count, ..known }.pack();
            return Added::Known;
        }
        let rarest = bucket.rarest();
        let known = Counts::unpack(bucket.packed[rarest]);
        if bucket.tags[rarest] != 0 && known.count > count {
            let count = known.count - count;
            bucket.packed[rarest] = Counts { count, ..known }.pack();
            self.refused = self.refused.saturating_add(1);
            return Added::Refused;
        }
        self.refused = self.refused.saturating_add(u64::from(bucket.tags[rarest] != 0));
        bucket.tags[rarest] = tag;
        bucket.packed[rarest] = Counts { count, distinct: 0 }.pack();
        Added::New
    }

    /// Takes one observation back; true if it was the last.
    pub(super) fn remove(&mut self, hash: u64) -> bool {
        let (index, tag) = (self.index(hash), tag(hash));
        let bucket = &mut self.buckets[index];
        let Some(place) = bucket.place(tag) else {
            return false;
        };
        let known = Counts::unpack(bucket.packed[place]);
        if known.count <= 1 {
            (bucket.tags[place], bucket.packed[place]) = (0, 0);
            return true;
        }
        // A count that stopped no longer tells how many there were.
        if known.count < COUNT_MAX {
            let count = known.count - 1;
            bucket.packed[place] = Counts { count, ..known }.pack();
        }
        false
    }

    /// One more, or one fewer, different symbol after this n-gram.
    pub(super) fn followers(&mut self, hash: u64, more: bool) {
        let (index, tag) = (self.index(hash), tag(hash));
        let bucket = &mut self.buckets[index];
        if let Some(place) = bucket.place(tag) {
            let known = Counts::unpack(bucket.packed[place]);
            let distinct = match known.distinct {
                DISTINCT_MAX => DISTINCT_MAX,
                distinct if more => distinct + 1,
                distinct => distinct.saturating_sub(1),
            };
            bucket.packed[place] = Counts { distinct, ..known }.pack();
        }
    }

    /// Appends what is in the table: for each bucket how many nodes, then those.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for bucket in &self.buckets {
            out.push(bucket.used() as u8);
            let nodes = bucket.tags.iter().zip(&bucket.packed);
            for (tag, packed) in nodes.filter(|&(&tag, _)| tag != 0) {
                out.extend(tag.to_le_bytes());
                out.extend(packed.to_le_bytes());
            }
        }
    }

    /// Reads what [`Table::encode`] wrote, all of `bytes`; what is wrong with it otherwise.
    pub(super) fn decode(buckets: usize, refused: u64, bytes: &[u8]) -> Result<Self, &'static str> {
        // Every bucket takes a byte at least: nothing is reserved for buckets that are not there.
        if bytes.len() < buckets {
            return Err("fewer buckets than it says");
        }
        let mut table = Self::new(buckets);
        table.refused = refused;
        let mut reader = Reader(bytes);
        for bucket in &mut table.buckets {
            let [used] = reader.array().ok_or("fewer buckets than it says")?;
            if usize::from(used) > WAYS {
                return Err("more than eight nodes in a bucket");
            }
            for place in 0..usize::from(used) {
                let (Some(tag), Some(packed)) = (reader.u32(), reader.u32()) else {
                    return Err("a node is cut off");
                };
                if tag & 1 == 0 || packed & COUNT_MAX == 0 {
                    return Err("an empty node where one was said to be");
                }
                if bucket.place(tag).is_some() {
                    return Err("a node is there twice");
                }
                (bucket.tags[place], bucket.packed[place]) = (tag, packed);
            }
        }
        if reader.0.is_empty() {
            Ok(table)
        } else {
            Err("more after the last bucket")
        }
    }
}

/// Never 0.
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}
