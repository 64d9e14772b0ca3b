//! Novelty as bytes. After the envelope's head: the number of scopes (4); for each, the one observed the longest ago first, its name (length 2),
//! observations (8), span of learning (8) and number of facts (4); for each of those, likewise in order, context and key (8 each), count (4)
//! and name (length 1).

use lru::LruCache;

use super::{
    Learning, Limits, Novelty, SCOPE_NAME_MAX,
    scope::{NAME_MAX, Scope},
};
use crate::snapshot::{self, Kind, Reader, SnapshotError};

const VERSION: u16 = 1;

impl Novelty {
    /// The model as bytes: 21 and its name for each fact. How long it learns and what it may hold is not in it.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend((self.scopes.len() as u32).to_le_bytes());
        for (name, scope) in self.scopes.iter().rev() {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name.as_bytes());
            out.extend(scope.observed.to_le_bytes());
            out.extend(scope.span_ns.to_le_bytes());
            out.extend((scope.facts() as u32).to_le_bytes());
            for (context, fact) in scope.by_age() {
                out.extend(context.to_le_bytes());
                out.extend(fact.key.to_le_bytes());
                out.extend(fact.count.to_le_bytes());
                out.push(fact.name.len() as u8);
                out.extend(&fact.name);
            }
        }
        snapshot::seal(Kind::Novelty, VERSION, &out)
    }

    /// The model that [`Novelty::to_snapshot`] wrote, within `limits`: what does not fit is given up as if it had come one by one.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_snapshot(bytes: &[u8], limits: Limits, learning: Learning) -> Result<Self, SnapshotError> {
        let mut reader = Reader(snapshot::open(Kind::Novelty, VERSION, bytes)?);
        let mut model = Self::new(limits, learning);
        model.scopes = LruCache::unbounded();
        let cut_off = "a scope is cut off";
        let scopes = reader
            .u32()
            .ok_or(SnapshotError::Inside("it ends before its first scope"))?;
        for _ in 0..scopes {
            let name = reader.u16().and_then(|length| reader.bytes(length.into()));
            let name = name.ok_or(SnapshotError::Inside(cut_off))?;
            let name = std::str::from_utf8(name)
                .map_err(|_| SnapshotError::Inside("a scope's name is not UTF-8"))?;
            if name.len() > SCOPE_NAME_MAX || model.scopes.contains(name) {
                return Err(SnapshotError::Inside(
                    "a scope is there twice or has too long a name",
                ));
            }
            let scope =
                scope(&mut reader, name, limits.facts, &mut model.ordinal).map_err(SnapshotError::Inside)?;
            model.bytes += scope.bytes();
            model.scopes.put(name.to_owned(), scope);
            model.keep_bounds();
        }
        if reader.0.is_empty() {
            Ok(model)
        } else {
            Err(SnapshotError::Inside("more after the last scope"))
        }
    }
}

fn scope(
    reader: &mut Reader<'_>,
    name: &str,
    limit: usize,
    ordinal: &mut u64,
) -> Result<Scope, &'static str> {
    let mut scope = Scope::new(name);
    let (Some(observed), Some(span_ns), Some(facts)) = (reader.u64(), reader.u64(), reader.u32()) else {
        return Err("a scope is cut off");
    };
    (scope.observed, scope.span_ns) = (observed, span_ns);
    for _ in 0..facts {
        let fields = (reader.u64(), reader.u64(), reader.u32(), reader.array());
        let (Some(context), Some(key), Some(count), Some([length])) = fields else {
            return Err("a fact is cut off");
        };
        let name = reader.bytes(length.into()).ok_or("a fact is cut off")?;
        if count == 0 || name.len() > NAME_MAX {
            return Err("a fact that was never seen, or has too long a name");
        }
        *ordinal += 1;
        if !scope.add(context, key, name, count, *ordinal, limit) {
            return Err("a fact is there twice");
        }
    }
    Ok(scope)
}
