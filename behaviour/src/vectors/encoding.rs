//! A forest as bytes. After the envelope's head: dimensions (1), windows learned (8), points gathered (4), whether there is a frame (1). With a
//! frame: per dimension median and spread (4 each), then the counts of the window that scores and of the one under way, each as pairs of how many
//! zeros come first and a count (both LEB128), until all are told. Without: the points of the first window (4 per number).

use super::{DIMENSIONS, Forest, NODES, TREES, WINDOW};
use crate::snapshot::{self, Kind, Reader, SnapshotError};

const VERSION: u16 = 1;

impl Forest {
    /// The forest as bytes: most counts are 0 or small, and take less than two each.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = vec![self.dimensions as u8];
        out.extend(self.windows.to_le_bytes());
        if let Some(frame) = &self.frame {
            out.extend(self.gathered.to_le_bytes());
            out.push(1);
            for (median, spread) in frame {
                out.extend(median.to_le_bytes());
                out.extend(spread.to_le_bytes());
            }
            encode(&self.reference, &mut out);
            encode(&self.latest, &mut out);
        } else {
            out.extend((self.first.len() as u32).to_le_bytes());
            out.push(0);
            for number in self.first.iter().flatten() {
                out.extend(number.to_le_bytes());
            }
        }
        snapshot::seal(Kind::Forest, VERSION, &out)
    }

    /// The forest that [`Forest::to_snapshot`] wrote.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut reader = Reader(snapshot::open(Kind::Forest, VERSION, bytes)?);
        let fields = (reader.array(), reader.u64(), reader.u32(), reader.array());
        let (Some([dimensions]), Some(windows), Some(gathered), Some([framed])) = fields else {
            return Err(SnapshotError::Inside("it ends before its first number"));
        };
        if !(1..=DIMENSIONS).contains(&dimensions.into()) || gathered >= WINDOW || framed > 1 {
            return Err(SnapshotError::Inside("a size that no forest has"));
        }
        let mut forest = Self::new(dimensions.into());
        forest.windows = windows;
        let read = if framed == 1 {
            forest.gathered = gathered;
            framed_from(&mut reader, &mut forest)
        } else {
            first_from(&mut reader, &mut forest, gathered)
        };
        read.ok_or(SnapshotError::Inside("a number is missing or makes no sense"))?;
        if reader.0.is_empty() {
            Ok(forest)
        } else {
            Err(SnapshotError::Inside("more after the last number"))
        }
    }
}

fn framed_from(reader: &mut Reader<'_>, forest: &mut Forest) -> Option<()> {
    let mut frame = [(0.0, 0.0); DIMENSIONS];
    for place in &mut frame {
        *place = (number(reader)?, number(reader)?);
        if place.1 < 0.1 {
            return None;
        }
    }
    forest.frame = Some(frame);
    decode(reader, &mut forest.reference)?;
    decode(reader, &mut forest.latest)
}

fn first_from(reader: &mut Reader<'_>, forest: &mut Forest, points: u32) -> Option<()> {
    for _ in 0..points {
        let mut point = [0.0; DIMENSIONS];
        for value in &mut point {
            *value = number(reader)?;
        }
        forest.first.push(point);
    }
    Some(())
}

/// A logarithm of something: none is larger.
fn number(reader: &mut Reader<'_>) -> Option<f32> {
    let number = f32::from_le_bytes(reader.array()?);
    (0.0..=1e4).contains(&number).then_some(number)
}

fn encode(counts: &[u16], out: &mut Vec<u8>) {
    let mut zeros = 0;
    for &count in counts {
        if count == 0 {
            zeros += 1;
        } else {
            leb128(zeros, out);
            leb128(count.into(), out);
            zeros = 0;
        }
    }
    if zeros > 0 {
        leb128(zeros, out);
    }
}

fn decode(reader: &mut Reader<'_>, counts: &mut [u16]) -> Option<()> {
    debug_assert_eq!(counts.len(), TREES * NODES);
    let mut at = 0;
    while at < counts.len() {
        at = at.checked_add(from_leb128(reader)? as usize)?;
        if at == counts.len() {
            break;
        }
        *counts.get_mut(at)? = u16::try_from(from_leb128(reader)?)
            .ok()
            .filter(|&count| count > 0)?;
        at += 1;
    }
    Some(())
}

fn leb128(mut number: u32, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn from_leb128(reader: &mut Reader<'_>) -> Option<u32> {
    let mut number = 0;
    for shift in [0, 7, 14] {
        let [byte] = reader.array()?;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
