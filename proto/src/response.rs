//! A response of `Subscribe`. It is generated no differently than the other messages would be, but for one thing: who sends it
//! need not have its entries as messages. They can be written as bytes, one after the other, which spares the sender a dozen
//! small allocations for each.

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut, Bytes, BytesMut},
    encoding::{self, DecodeContext, WireType},
};

use crate::{ENTRY_BYTES_MAX, RESPONSE_BYTES, v1::Entry};

const ENTRIES: u32 = 1;
const DROPPED: u32 = 2;
const POSITION: u32 = 3;
const TAKEN: u32 = 4;
const DAMAGED: u32 = 5;

/// Entries that happened since the last response, as many as are ready.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeResponse {
    /// The entries, of a response that was received.
    pub entries: Vec<Entry>,
    /// Entries that were dropped since the last response, because this reader was too slow.
    pub dropped: u64,
    /// Of a collector: the position up to which everything was passed on, filtered, or told as lost. 0 where there are no positions.
    pub position: u64,
    /// Of a collector: entries that retention has taken since the position before.
    pub taken: u64,
    /// Of a collector: entries since the position before that cannot be read any more.
    pub damaged: u64,
    /// The entries before those in `entries`, of a response that is to be sent: the field as it is on the wire. Empty in one that
    /// was received.
    pub encoded: Bytes,
}

impl Message for SubscribeResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.encoded);
        encoding::message::encode_repeated(ENTRIES, &self.entries, buf);
        for (tag, number) in self.numbers() {
            if number != 0 {
                encoding::uint64::encode(tag, &number, buf);
            }
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            ENTRIES => encoding::message::merge_repeated(wire_type, &mut self.entries, buf, context),
            DROPPED => encoding::uint64::merge(wire_type, &mut self.dropped, buf, context),
            POSITION => encoding::uint64::merge(wire_type, &mut self.position, buf, context),
            TAKEN => encoding::uint64::merge(wire_type, &mut self.taken, buf, context),
            DAMAGED => encoding::uint64::merge(wire_type, &mut self.damaged, buf, context),
            _ => encoding::skip_field(wire_type, tag, buf, context),
        }
    }

    fn encoded_len(&self) -> usize {
        let numbers = self.numbers().into_iter().map(|(tag, number)| match number {
            0 => 0,
            number => encoding::uint64::encoded_len(tag, &number),
        });
        self.encoded.len()
            + encoding::message::encoded_len_repeated(ENTRIES, &self.entries)
            + numbers.sum::<usize>()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl SubscribeResponse {
    /// Its fields that are numbers, by tag.
    fn numbers(&self) -> [(u32, u64); 4] {
        [
            (DROPPED, self.dropped),
            (POSITION, self.position),
            (TAKEN, self.taken),
            (DAMAGED, self.damaged),
        ]
    }
}

/// The entries of one response, while they are written.
#[derive(Debug, Default)]
pub struct Entries {
    bytes: BytesMut,
    dropped: u64,
    position: u64,
}

impl Entries {
    /// Appends an entry.
    pub fn push(&mut self, entry: &Entry) {
        self.push_with(entry.encoded_len(), |bytes| entry.encode_raw(bytes));
    }

    /// Appends an entry of `length` bytes, which `write` writes. One of more than [`ENTRY_BYTES_MAX`] would break the stream at the
    /// reader's limit; it is left out, and the response says that one was dropped.
    pub fn push_with(&mut self, length: usize, write: impl FnOnce(&mut BytesMut)) {
        if length > ENTRY_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        encoding::encode_key(ENTRIES, WireType::LengthDelimited, &mut self.bytes);
        encoding::encode_varint(length as u64, &mut self.bytes);
        let before = self.bytes.len();
        write(&mut self.bytes);
        debug_assert_eq!(self.bytes.len() - before, length, "the length that was announced");
    }

    /// Everything up to `position` has been pushed, or is not to be. The response says so.
    pub fn reach(&mut self, position: u64) {
        self.position = position;
    }

    /// Whether the response is to be sent before more is appended.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= RESPONSE_BYTES
    }

    /// The response; what is appended next belongs to another. `dropped` entries were lost on the way here.
    pub fn take(&mut self, dropped: u64) -> SubscribeResponse {
        SubscribeResponse {
            entries: Vec::new(),
            dropped: dropped + std::mem::take(&mut self.dropped),
            position: self.position,
            taken: 0,
            damaged: 0,
            encoded: self.bytes.split().freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Loss, entry};

    fn entry(count: u64) -> Entry {
        let loss = Loss {
            count,
            ..Loss::default()
        };
        Entry {
            host: "web1".into(),
            body: Some(entry::Body::Loss(loss)),
        }
    }

    #[test]
    fn what_is_written_as_bytes_is_read_as_entries() {
        let mut entries = Entries::default();
        (0..300).for_each(|count| entries.push(&entry(count)));
        entries.reach(300);
        let response = SubscribeResponse {
            entries: vec![entry(300)],
            taken: 5,
            damaged: 6,
            ..entries.take(7)
        };
        let bytes = response.encode_to_vec();
        assert_eq!(bytes.len(), response.encoded_len());
        let read = SubscribeResponse::decode(&*bytes).expect("is whole");
        assert_eq!(read.entries, (0..=300).map(entry).collect::<Vec<_>>());
        assert_eq!(
            (
                read.dropped,
                read.position,
                read.taken,
                read.damaged,
                read.encoded.len()
            ),
            (7, 300, 5, 6, 0)
        );
        assert_eq!(SubscribeResponse::decode(&*read.encode_to_vec()), Ok(read));
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        let mut bytes = Vec::new();
        encoding::uint64::encode(99, &1, &mut bytes);
        encoding::uint64::encode(DROPPED, &2, &mut bytes);
        assert_eq!(SubscribeResponse::decode(&*bytes).map(|read| read.dropped), Ok(2));
        assert!(SubscribeResponse::decode(&b"\x0a\xff"[..]).is_err());
    }
}
