//! Counts of n-grams, by hash, in a table that never grows.
//!
//! A bucket is one cache line of eight nodes; an n-gram lives in the bucket that its hash names and is told from its
//! neighbours by 31 further bits of the hash. Where a bucket is full, the newcomer wears down the rarest node in it by one and
//! takes its place once nothing is left: what is frequent survives a flood of what is not, and whatever keeps coming gets in.
//! (J. Misra, D. Gries: *Finding repeated elements*, 1982, per bucket.)

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

/// `tag` 0 is an empty place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Node {
    tag: u32,
    packed: u32,
}

impl Node {
    fn new(tag: u32, counts: Counts) -> Self {
        Self {
            tag,
            packed: counts.distinct.min(DISTINCT_MAX) << COUNT_BITS | counts.count.min(COUNT_MAX),
        }
    }

    fn counts(self) -> Counts {
        Counts {
            count: self.packed & COUNT_MAX,
            distinct: self.packed >> COUNT_BITS,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
struct Bucket([Node; WAYS]);

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
        let used = |bucket: &Bucket| bucket.0.iter().filter(|node| node.tag != 0).count();
        self.buckets.iter().map(used).sum()
    }

    fn index(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * self.buckets.len() as u64) >> 32) as usize
    }

    pub(super) fn get(&self, hash: u64) -> Counts {
        let (bucket, tag) = (&self.buckets[self.index(hash)], tag(hash));
        let found = bucket.0.iter().find(|node| node.tag == tag);
        found.map_or_else(Counts::default, |node| node.counts())
    }

    pub(super) fn add(&mut self, hash: u64, count: u32) -> Added {
        let (index, tag) = (self.index(hash), tag(hash));
        let bucket = &mut self.buckets[index].0;
        if let Some(node) = bucket.iter_mut().find(|node| node.tag == tag) {
            let known = node.counts();
            *node = Node::new(
                tag,
                Counts {
                    count: known.count.saturating_add(count),
                    ..known
                },
            );
            return Added::Known;
        }
        let fresh = Node::new(tag, Counts { count, distinct: 0 });
        if let Some(free) = bucket.iter_mut().find(|node| node.tag == 0) {
            *free = fresh;
            return Added::New;
        }
        if let Some(rarest) = bucket.iter_mut().min_by_key(|node| node.counts().count) {
            let known = rarest.counts();
            if known.count <= count {
                *rarest = fresh;
                return Added::New;
            }
            *rarest = Node::new(
                rarest.tag,
                Counts {
                    count: known.count - count,
                    ..known
                },
            );
        }
        self.refused += 1;
        Added::Refused
    }

    /// Takes one observation back; true if it was the last.
    pub(super) fn remove(&mut self, hash: u64) -> bool {
        let (index, tag) = (self.index(hash), tag(hash));
        let Some(node) = self.buckets[index].0.iter_mut().find(|node| node.tag == tag) else {
            return false;
        };
        let known = node.counts();
        if known.count <= 1 {
            *node = Node::default();
            return true;
        }
        // A count that stopped no longer tells how many there were.
        if known.count < COUNT_MAX {
            *node = Node::new(
                tag,
                Counts {
                    count: known.count - 1,
                    ..known
                },
            );
        }
        false
    }

    /// One more, or one fewer, different symbol after this n-gram.
    pub(super) fn followers(&mut self, hash: u64, more: bool) {
        let (index, tag) = (self.index(hash), tag(hash));
        if let Some(node) = self.buckets[index].0.iter_mut().find(|node| node.tag == tag) {
            let known = node.counts();
            let distinct = match known.distinct {
                DISTINCT_MAX => DISTINCT_MAX,
                distinct if more => distinct + 1,
                distinct => distinct.saturating_sub(1),
            };
            *node = Node::new(tag, Counts { distinct, ..known });
        }
    }

    /// Appends what is in the table: for each bucket how many nodes, then those.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for bucket in &self.buckets {
            let used = bucket.0.iter().filter(|node| node.tag != 0);
            out.push(used.clone().count() as u8);
            for node in used {
                out.extend(node.tag.to_le_bytes());
                out.extend(node.packed.to_le_bytes());
            }
        }
    }

    /// Reads what [`Table::encode`] wrote, all of `bytes`; what is wrong with it otherwise.
    pub(super) fn decode(buckets: usize, refused: u64, mut bytes: &[u8]) -> Result<Self, &'static str> {
        // Every bucket takes a byte at least: nothing is reserved for buckets that are not there.
        if bytes.len() < buckets {
            return Err("fewer buckets than it says");
        }
        let mut table = Self::new(buckets);
        table.refused = refused;
        for bucket in &mut table.buckets {
            let (&used, rest) = bytes.split_first().ok_or("fewer buckets than it says")?;
            let places = bucket
                .0
                .get_mut(..usize::from(used))
                .ok_or("more than eight nodes in a bucket")?;
            bytes = rest;
            for place in places {
                let (node, rest) = bytes.split_first_chunk::<8>().ok_or("a node is cut off")?;
                let [t0, t1, t2, t3, p0, p1, p2, p3] = *node;
                *place = Node {
                    tag: u32::from_le_bytes([t0, t1, t2, t3]),
                    packed: u32::from_le_bytes([p0, p1, p2, p3]),
                };
                if place.tag & 1 == 0 || place.counts().count == 0 {
                    return Err("an empty node where one was said to be");
                }
                bytes = rest;
            }
            let tags = &bucket.0[..usize::from(used)];
            let twice = |(at, node): (usize, &Node)| tags[..at].iter().any(|before| before.tag == node.tag);
            if tags.iter().enumerate().any(twice) {
                return Err("a node is there twice");
            }
        }
        if bytes.is_empty() {
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
