//! Rates as bytes. After the envelope's head: number of series (4); for each, the one touched the longest ago first, its name (length 2), the
//! periods learned (8), then means as pairs of weight and value (4 each): level, three spreads, and those hours that have any evidence
//! (number 1; place 1, pair), of the day, then of the week; then its latest residues, oldest first (number 2; 4 each).
//!
//! The period that is under way when a snapshot is made is not in it.

use lru::LruCache;

use super::{
    Bounds, NAME_MAX, Rates, Running, Series,
    series::{Mean, RESIDUES},
};
use crate::snapshot::{self, Kind, Reader, SnapshotError};

const VERSION: u16 = 1;

impl Rates {
    /// The model as bytes: at most 3 KiB for each series.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend((self.series.len() as u32).to_le_bytes());
        for (name, running) in self.series.iter().rev() {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name.as_bytes());
            encode(&running.series, &mut out);
        }
        snapshot::seal(Kind::Rates, VERSION, &out)
    }

    /// The model that [`Rates::to_snapshot`] wrote, within `bounds`; periods begin at `unix_seconds`.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_snapshot(
        bytes: &[u8],
        bounds: Bounds,
        offset_seconds: i32,
        unix_seconds: u64,
    ) -> Result<Self, SnapshotError> {
        let mut reader = Reader(snapshot::open(Kind::Rates, VERSION, bytes)?);
        let mut rates = Self::new(bounds, offset_seconds);
        rates.series = LruCache::unbounded();
        let period = rates.period(unix_seconds);
        let number = reader
            .u32()
            .ok_or(SnapshotError::Inside("it ends before its first series"))?;
        for _ in 0..number {
            let name = reader.u16().and_then(|length| reader.bytes(length.into()));
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            let name = name.filter(|name| name.len() <= NAME_MAX);
            let name = name.ok_or(SnapshotError::Inside("a series without a proper name"))?;
            let series =
                decode(&mut reader).ok_or(SnapshotError::Inside("a series is cut off or damaged"))?;
            let running = Running {
                series,
                period,
                value: 0.0,
                due: 0.0,
            };
            if rates.series.put(name.to_owned(), running).is_some() {
                return Err(SnapshotError::Inside("a series is there twice"));
            }
            while rates.series.len() > bounds.series {
                rates.series.pop_lru();
            }
        }
        if reader.0.is_empty() {
            Ok(rates)
        } else {
            Err(SnapshotError::Inside("more after the last series"))
        }
    }
}

fn encode(series: &Series, out: &mut Vec<u8>) {
    let mean = |mean: &Mean, out: &mut Vec<u8>| {
        out.extend((mean.weight as f32).to_le_bytes());
        out.extend((mean.value as f32).to_le_bytes());
    };
    out.extend(series.periods.to_le_bytes());
    mean(&series.level, out);
    series.spreads.iter().for_each(|spread| mean(spread, out));
    for hours in [&series.day[..], &series.week[..]] {
        let known = hours.iter().enumerate().filter(|(_, hour)| hour.weight > 0.0);
        out.push(known.clone().count() as u8);
        for (place, hour) in known {
            out.push(place as u8);
            mean(hour, out);
        }
    }
    out.extend((series.residues.len() as u16).to_le_bytes());
    for residue in series.residues.by_age() {
        out.extend((residue as f32).to_le_bytes());
    }
}

fn decode(reader: &mut Reader<'_>) -> Option<Series> {
    let mut series = Series::new();
    series.periods = reader.u64()?;
    series.level = mean(reader)?;
    for spread in &mut series.spreads {
        *spread = mean(reader)?;
        if spread.value < 0.0 {
            return None;
        }
    }
    for hours in [&mut series.day[..], &mut series.week[..]] {
        let [known] = reader.array()?;
        for _ in 0..known {
            let [place] = reader.array()?;
            *hours.get_mut(usize::from(place))? = mean(reader)?;
        }
    }
    let residues = usize::from(reader.u16()?);
    if residues > RESIDUES {
        return None;
    }
    for _ in 0..residues {
        series.residues.push(number(reader)?);
    }
    Some(series)
}

fn mean(reader: &mut Reader<'_>) -> Option<Mean> {
    let (weight, value) = (number(reader)?, number(reader)?);
    (weight >= 0.0).then_some(Mean { weight, value })
}

/// Larger ones than any logarithm are nobody's.
fn number(reader: &mut Reader<'_>) -> Option<f64> {
    let number = f64::from(f32::from_le_bytes(reader.array()?));
    (number.abs() <= 1e6).then_some(number)
}
