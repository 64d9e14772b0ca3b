//! A sequence model as bytes. After the envelope's head: order, weighting, long view's share in percent (a byte each), buckets (4),
//! symbols learned (8), different ones (4), refused (8), then each bucket's nodes.

use super::{BUCKETS_MAX, MAX_ORDER, Sequence, Shape, Weighting, table::Table};
use crate::snapshot::{self, Kind, Reader, SnapshotError};

const VERSION: u16 = 1;

impl Sequence {
    /// The model as bytes, the same for the same model on every machine: nine bytes per n-gram or less, and one per
    /// bucket.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = vec![
            self.shape.order as u8,
            match self.shape.weighting {
                Weighting::BySymbol => 0,
                Weighting::ByPattern => 1,
            },
            (self.shape.long_share * 100.0).round() as u8,
        ];
        out.extend((self.shape.buckets as u32).to_le_bytes());
        out.extend(self.total.to_le_bytes());
        out.extend(self.distinct.to_le_bytes());
        out.extend(self.table.refused.to_le_bytes());
        self.table.encode(&mut out);
        snapshot::seal(Kind::Sequence, VERSION, &out)
    }

    /// The model that [`Sequence::to_snapshot`] wrote.
    ///
    /// # Errors
    /// If the bytes are anything else. Memory is reserved for what is there, not for what is said to be.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut reader = Reader(snapshot::open(Kind::Sequence, VERSION, bytes)?);
        let fields = (
            reader.array(),
            reader.u32(),
            reader.u64(),
            reader.u32(),
            reader.u64(),
        );
        let (
            Some([order, weighting, long_percent]),
            Some(buckets),
            Some(total),
            Some(distinct),
            Some(refused),
        ) = fields
        else {
            return Err(SnapshotError::Inside("it ends before its first bucket"));
        };
        let order = usize::from(order);
        if !(1..=MAX_ORDER).contains(&order) {
            return Err(SnapshotError::Inside("an order that no model has"));
        }
        let buckets = buckets as usize;
        if !(1..=BUCKETS_MAX).contains(&buckets) {
            return Err(SnapshotError::Inside("a size that no model has"));
        }
        let weighting = match weighting {
            0 => Weighting::BySymbol,
            1 => Weighting::ByPattern,
            _ => return Err(SnapshotError::Inside("a weighting that does not exist")),
        };
        if long_percent > 100 {
            return Err(SnapshotError::Inside("a share of more than all"));
        }
        Ok(Self {
            shape: Shape {
                order,
                buckets,
                weighting,
                long_share: f64::from(long_percent) / 100.0,
            },
            table: Table::decode(buckets, refused, reader.0).map_err(SnapshotError::Inside)?,
            total,
            distinct,
        })
    }
}
