//! Habits as bytes. After the envelope's head: number of people (4); for each, the one seen the longest ago first, the name (length 2), what was learned and what
//! is done now (each: number 4; symbol 4 and count 4, f32, by symbol), the latest scores (number 1; 4 each, f32); then the latest deviations of
//! everybody (number 2; 4 each). What the population does follows from what was learned of each. Blocks that wait are not in it: they
//! wait for what has not come.

use super::{Bounds, CALIBRATION, Habits, NAME_MAX, counts::Counts, person::SCORES};
use crate::snapshot::{self, Kind, Reader, SnapshotError};

const VERSION: u16 = 1;

impl Habits {
    /// The model as bytes: eight for each symbol of a person, twice. To be made after [`Habits::settle`]: blocks that were not settled are
    /// learned but will never be scored.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut people: Vec<_> = self.people.iter().collect();
        people.sort_by_key(|(_, person)| person.last);
        let mut out = Vec::new();
        out.extend((people.len() as u32).to_le_bytes());
        for (name, person) in people {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name.as_bytes());
            for counts in [&person.learned, &person.current] {
                out.extend((counts.kinds() as u32).to_le_bytes());
                for (symbol, count) in counts.iter() {
                    out.extend(symbol.to_le_bytes());
                    out.extend((count as f32).to_le_bytes());
                }
            }
            out.push(person.scores().len() as u8);
            for score in person.scores() {
                out.extend((score as f32).to_le_bytes());
            }
        }
        out.extend((self.calibration.len() as u16).to_le_bytes());
        for deviation in self.calibration.by_age() {
            out.extend((deviation as f32).to_le_bytes());
        }
        snapshot::seal(Kind::Habits, VERSION, &out)
    }

    /// The model that [`Habits::to_snapshot`] wrote, within `bounds`: what does not fit is given up as always.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_snapshot(bytes: &[u8], bounds: Bounds) -> Result<Self, SnapshotError> {
        let mut reader = Reader(snapshot::open(Kind::Habits, VERSION, bytes)?);
        let mut habits = Self::new(bounds);
        let people = reader
            .u32()
            .ok_or(SnapshotError::Inside("it ends before the first person"))?;
        for _ in 0..people {
            let name = reader.u16().and_then(|length| reader.bytes(length.into()));
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            let name = name.filter(|name| name.len() <= NAME_MAX);
            let name = name.ok_or(SnapshotError::Inside("a person without a proper name"))?;
            if habits.people.contains_key(name) {
                return Err(SnapshotError::Inside("a person is there twice"));
            }
            habits
                .person_from(&mut reader, name)
                .ok_or(SnapshotError::Inside("a person is cut off or damaged"))?;
        }
        calibration_from(&mut reader, &mut habits)
            .ok_or(SnapshotError::Inside("deviations are cut off or damaged"))?;
        if !reader.0.is_empty() {
            return Err(SnapshotError::Inside("more after the last deviation"));
        }
        habits.share();
        Ok(habits)
    }

    fn person_from(&mut self, reader: &mut Reader<'_>, name: &str) -> Option<()> {
        self.make_room(name);
        self.ordinal += 1;
        let mut learned = counts(reader)?;
        let mut current = counts(reader)?;
        learned.keep(self.bounds.symbols);
        current.keep(self.bounds.symbols);
        self.everyone.add_all(&learned);
        let person = self.people.entry(name.to_owned()).or_default();
        (person.learned, person.current, person.last) = (learned, current, self.ordinal);
        let [scores] = reader.array()?;
        if usize::from(scores) > SCORES {
            return None;
        }
        for _ in 0..scores {
            person.record(number(reader)?);
        }
        Some(())
    }
}

fn calibration_from(reader: &mut Reader<'_>, habits: &mut Habits) -> Option<()> {
    let deviations = usize::from(reader.u16()?);
    if deviations > CALIBRATION {
        return None;
    }
    for _ in 0..deviations {
        habits.calibration.push(number(reader)?);
    }
    Some(())
}

fn counts(reader: &mut Reader<'_>) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut before = None;
    for _ in 0..reader.u32()? {
        let symbol = reader.u32()?;
        let count = number(reader).filter(|&count| count > 0.0)?;
        if before.replace(symbol).is_some_and(|before| before >= symbol) {
            return None;
        }
        counts.put(symbol, count);
    }
    Some(counts)
}

fn number(reader: &mut Reader<'_>) -> Option<f64> {
    let number = f64::from(f32::from_le_bytes(reader.array()?));
    (number.abs() <= 1e12).then_some(number)
}
