//! A budget as bytes. After the envelope's head: number of days (1); for each, the earliest first, how many days before the last it
//! was (1), whether peaks were dropped (1), as much of it as was seen (4, f32), peaks (number 1; 4 each, f32, descending). What was asked for is not in it.

use super::{Budget, DAYS, Day, PEAKS};
use crate::snapshot::{self, Kind, Reader, SnapshotError};

const VERSION: u16 = 1;

impl Budget {
    /// What was counted, as bytes: 7.5 KiB at most.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(self.days.len() as u8);
        let last = self.days.back().map_or(0, |day| day.number);
        for day in &self.days {
            out.push((last - day.number) as u8);
            out.push(day.dropped.into());
            out.extend(day.span.to_le_bytes());
            out.push(day.peaks.len() as u8);
            for peak in &day.peaks {
                out.extend(peak.to_le_bytes());
            }
        }
        snapshot::seal(Kind::Budget, VERSION, &out)
    }

    /// A budget of so many a day that goes on with what [`Budget::to_snapshot`] wrote.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_snapshot(bytes: &[u8], per_day: f64) -> Result<Self, SnapshotError> {
        let mut reader = Reader(snapshot::open(Kind::Budget, VERSION, bytes)?);
        let mut budget = Self::new(per_day);
        decode(&mut reader, &mut budget)
            .ok_or(SnapshotError::Inside("days that are cut off or make no sense"))?;
        if !reader.0.is_empty() {
            return Err(SnapshotError::Inside("more after the last day"));
        }
        budget.refit();
        Ok(budget)
    }
}

fn decode(reader: &mut Reader<'_>, budget: &mut Budget) -> Option<()> {
    let [days] = reader.array()?;
    let last = DAYS as u64 - 1;
    // The last day is over, however much of it was seen: what comes is another.
    budget.begin = last + 1;
    for _ in 0..days {
        let [before, dropped] = reader.array()?;
        let span = f32::from_le_bytes(reader.array()?);
        let [number] = reader.array()?;
        let mut day = Day {
            number: last.checked_sub(before.into())?,
            dropped: dropped != 0,
            span: (0.0..=1.0).contains(&span).then_some(span)?,
            ..Day::default()
        };
        let in_order = budget
            .days
            .back()
            .is_none_or(|earlier| earlier.number < day.number);
        if !in_order || usize::from(number) > PEAKS {
            return None;
        }
        for _ in 0..number {
            let peak = f32::from_le_bytes(reader.array()?);
            let sensible = peak.is_finite() && day.peaks.last().is_none_or(|&higher| peak <= higher);
            day.peaks.push(sensible.then_some(peak)?);
        }
        budget.days.push_back(day);
    }
    Some(())
}
