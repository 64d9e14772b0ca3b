//! Models as bytes: what every snapshot begins and ends with.
//!
//! Little-endian: `SNSM`, a byte for the kind of model, two for the version of its format, four for the length of what
//! follows, that, and the CRC-32 (IEEE) of everything before it. The checksum is against accidents; a snapshot that somebody made up
//! passes it, so what is inside is checked as well.

use thiserror::Error;

const MAGIC: [u8; 4] = *b"SNSM";
const HEAD: usize = 11;
const SUM: usize = 4;

/// Largest snapshot that is read, in bytes.
pub const SNAPSHOT_MAX: usize = 64 << 20;

/// What kind of model a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Sequence = 1,
    Novelty = 2,
    Rates = 3,
    Edges = 4,
    Habits = 5,
    Forest = 6,
    Budget = 7,
    Windows = 8,
    Tails = 9,
}

impl Kind {
    fn name(kind: u8) -> &'static str {
        match kind {
            1 => "a sequence model",
            2 => "a model of novelty",
            3 => "a model of rates",
            4 => "a model of edges",
            5 => "a model of habits",
            6 => "a forest",
            7 => "a budget of alerts",
            8 => "windows of system calls",
            9 => "tails of scores",
            _ => "a kind of model that this version does not know",
        }
    }
}

/// Why bytes are not a model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Something else, or empty.
    #[error("not a snapshot of a model: it does not begin with \"SNSM\"")]
    Foreign,
    /// Another model's.
    #[error("a snapshot of {found}, where {wanted} is needed")]
    Kind {
        /// What it is.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Of another version of Sensor.
    #[error("version {found} of the format, where this version of Sensor reads {known}: export it again")]
    Version {
        /// Of the snapshot.
        found: u16,
        /// The one that is read.
        known: u16,
    },
    /// Cut off, or with something behind it.
    #[error("{found} bytes, where its head says {said}: it was cut off or added to; copy it again")]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        said: usize,
    },
    /// More than [`SNAPSHOT_MAX`].
    #[error("{0} bytes are more than a snapshot may have")]
    TooLarge(usize),
    /// Changed on the way.
    #[error("the checksum is wrong: it was damaged; copy it again")]
    Checksum,
    /// The checksum is right and yet it makes no sense.
    #[error("damaged inside: {0}")]
    Inside(&'static str),
}

/// `payload` in an envelope.
pub(crate) fn seal(kind: Kind, version: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + payload.len() + SUM);
    out.extend(MAGIC);
    out.push(kind as u8);
    out.extend(version.to_le_bytes());
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend(payload);
    out.extend(crc32fast::hash(&out).to_le_bytes());
    out
}

/// What is in the envelope.
pub(crate) fn open(kind: Kind, version: u16, bytes: &[u8]) -> Result<&[u8], SnapshotError> {
    let mut head = Reader(bytes);
    if head.array() != Some(MAGIC) {
        return Err(SnapshotError::Foreign);
    }
    let cut_off = SnapshotError::Length {
        found: bytes.len(),
        said: HEAD + SUM,
    };
    let (Some([found]), Some(its_version), Some(length)) = (head.array(), head.u16(), head.u32()) else {
        return Err(cut_off);
    };
    if found != kind as u8 {
        return Err(SnapshotError::Kind {
            found: Kind::name(found),
            wanted: Kind::name(kind as u8),
        });
    }
    if its_version != version {
        return Err(SnapshotError::Version {
            found: its_version,
            known: version,
        });
    }
    if bytes.len() > SNAPSHOT_MAX {
        return Err(SnapshotError::TooLarge(bytes.len()));
    }
    let said = HEAD + length as usize + SUM;
    let wrong_length = SnapshotError::Length {
        found: bytes.len(),
        said,
    };
    if bytes.len() != said {
        return Err(wrong_length);
    }
    let (content, sum) = bytes.split_at(said - SUM);
    if sum != crc32fast::hash(content).to_le_bytes() {
        return Err(SnapshotError::Checksum);
    }
    Ok(&content[HEAD..])
}

/// Takes numbers off the front of bytes; `None` where they end.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, number: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(number)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A number that is finite.
    pub(crate) fn f64(&mut self) -> Option<f64> {
        self.array()
            .map(f64::from_le_bytes)
            .filter(|number| number.is_finite())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
