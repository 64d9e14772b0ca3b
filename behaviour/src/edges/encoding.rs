//! Edges as bytes. After the envelope's head: number of sources (4); for each, the one seen the longest ago first, its name (length 2), new edges and
//! failures (each: windows remembered, sum, sum of squares as f64, windows in all as u64), and the keys of its edges, likewise in order (number 4,
//! 8 each). The window under way is not in it.

use lru::LruCache;

use super::{Bounds, Counts, Edges, NAME_MAX, Source};
use crate::snapshot::{self, Kind, Reader, SnapshotError};

const VERSION: u16 = 1;

impl Edges {
    /// The model as bytes: eight for each edge, seventy and its name for each source.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend((self.sources.len() as u32).to_le_bytes());
        for (name, source) in self.sources.iter().rev() {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name.as_bytes());
            for counts in [&source.new, &source.failures] {
                for number in [counts.windows, counts.sum, counts.squares] {
                    out.extend(number.to_le_bytes());
                }
                out.extend(counts.learned.to_le_bytes());
            }
            out.extend((source.known.len() as u32).to_le_bytes());
            for key in source.by_age() {
                out.extend(key.to_le_bytes());
            }
        }
        snapshot::seal(Kind::Edges, VERSION, &out)
    }

    /// The model that [`Edges::to_snapshot`] wrote, within `bounds`, whose windows begin at `time_ns`.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_snapshot(bytes: &[u8], bounds: Bounds, time_ns: u64) -> Result<Self, SnapshotError> {
        let mut reader = Reader(snapshot::open(Kind::Edges, VERSION, bytes)?);
        let mut edges = Self::new(bounds);
        edges.sources = LruCache::unbounded();
        let number = reader
            .u32()
            .ok_or(SnapshotError::Inside("it ends before its first source"))?;
        for _ in 0..number {
            let name = reader.u16().and_then(|length| reader.bytes(length.into()));
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            let name = name.filter(|name| name.len() <= NAME_MAX);
            let name = name.ok_or(SnapshotError::Inside("a source without a proper name"))?;
            let mut source = Source::new(time_ns / bounds.window_ns.max(1));
            let read = decode(&mut reader, &mut source, &mut edges.ordinal, bounds.edges);
            read.ok_or(SnapshotError::Inside("a source is cut off or damaged"))?;
            if edges.sources.put(name.to_owned(), source).is_some() {
                return Err(SnapshotError::Inside("a source is there twice"));
            }
            while edges.sources.len() > bounds.sources {
                edges.sources.pop_lru();
            }
        }
        if reader.0.is_empty() {
            Ok(edges)
        } else {
            Err(SnapshotError::Inside("more after the last source"))
        }
    }
}

fn decode(reader: &mut Reader<'_>, source: &mut Source, ordinal: &mut u64, limit: usize) -> Option<()> {
    for counts in [&mut source.new, &mut source.failures] {
        let [windows, sum, squares] = [reader.f64()?, reader.f64()?, reader.f64()?];
        let learned = reader.u64()?;
        // More than any window has in any week.
        let sensible = |number: f64| (0.0..=1e15).contains(&number);
        if ![windows, sum, squares].into_iter().all(sensible) {
            return None;
        }
        *counts = Counts {
            windows,
            sum,
            squares,
            learned,
        };
    }
    let known = reader.u32()?;
    for _ in 0..known {
        let key = reader.u64()?;
        *ordinal += 1;
        source.know(key, *ordinal, limit);
    }
    Some(())
}
