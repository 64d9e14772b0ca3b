//! What a peer's bytes would become, reckoned before they become it.
//!
//! A message in a message takes two bytes on the wire and as much memory as its type has, a kilobyte for an
//! [`Entry`](crate::v1::Entry): 8 MiB of them would become more than 4 GiB. So bytes are walked along the schema first and what they
//! would take is added up; what would be more than [`DECODED_BYTES_MAX`] is refused. Messages too short to become so much are not
//! walked: that is every batch of usual events, so that nothing is paid for what is honest.
//!
//! What is reckoned are the elements of lists, texts and what their allocation takes. Measured with empty entries, the worst there is:
//! 199,728 bytes, which compress to less than a hundred, become 99,864 entries and 97 MiB; 8 MiB, which would become 4.2 million and
//! 3.9 GiB, are refused after 5 ms. Walking takes a fifth to two fifths of what decoding does.

use std::marker::PhantomData;

use prost::{
    DecodeError as Malformed, Message,
    bytes::{Buf as _, Bytes},
    encoding::{WireType, decode_key, decode_varint},
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

use crate::MESSAGE_BYTES_MAX;

/// Most memory that a message may take when it is decoded, in bytes. An honest one of [`ENTRY_BYTES_MAX`](crate::ENTRY_BYTES_MAX) stays
/// below it even if all of it are texts of one character.
pub const DECODED_BYTES_MAX: usize = 12 * MESSAGE_BYTES_MAX;

/// Memory of a text in a list: the `String`, and the least that is allocated.
const TEXT: usize = size_of::<String>() + ALLOCATED;
const ALLOCATED: usize = 32;

/// The shortest message in a message: its key and its length.
const SHORTEST: usize = 2;

/// Why bytes do not become a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They are none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It would take too much memory.
    #[error(
        "{length} bytes would become a {message} of more than {DECODED_BYTES_MAX}: it is made of too many small parts"
    )]
    TooLarge {
        /// How many bytes there are.
        length: usize,
        /// What they would become.
        message: &'static str,
    },
}

/// A message whose memory can be reckoned before it is decoded: all of `sensor.v1`.
pub trait Bounded: Message + Default {
    /// What it is made of.
    fn shape() -> &'static Shape;
}

/// What a message is made of, as far as memory goes.
#[derive(Debug)]
pub struct Shape {
    name: &'static str,
    /// Of one, with all that is not in lists and texts.
    bytes: usize,
    /// Of the largest that it may have a list of, at any depth.
    widest: usize,
    /// By number.
    fields: &'static [Field],
}

#[derive(Debug)]
enum Field {
    /// A number, or unknown.
    Plain,
    /// One or more texts.
    Text,
    /// A list of numbers.
    Numbers,
    /// A message that is a part of the memory of what it is in.
    One(&'static Shape),
    /// A list of messages.
    Many(&'static Shape),
}

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

/// A message of bytes from a peer.
///
/// # Errors
/// If they are no such message, or one that would take more than [`DECODED_BYTES_MAX`].
pub fn decode<M: Bounded>(bytes: Bytes) -> Result<M, DecodeError> {
    let (shape, length) = (M::shape(), bytes.len());
    let mut left = DECODED_BYTES_MAX;
    if shape.may_exceed(length) && !shape.fits(&bytes, &mut left) {
        let message = shape.name;
        return Err(DecodeError::TooLarge { length, message });
    }
    Ok(M::decode(bytes)?)
}

impl Shape {
    /// Whether so many bytes can become too much at all.
    fn may_exceed(&self, length: usize) -> bool {
        // Texts of one character, with a key and a length, are the most that there is where there are no lists of messages.
        let most = (self.widest / SHORTEST).max(TEXT / (SHORTEST + 1) + 1);
        length.saturating_mul(most) > DECODED_BYTES_MAX
    }

    /// Takes what `bytes` would take from `left`; false if that is not enough. What cannot be read ends it: nothing after that will be
    /// decoded either.
    fn fits(&self, mut bytes: &[u8], left: &mut usize) -> bool {
        while let Some((field, part)) = self.next(&mut bytes) {
            let taken = match (field, part) {
                (Field::Text, Part::Content([])) => TEXT - ALLOCATED,
                (Field::Text, Part::Content(_)) => TEXT,
                (Field::Numbers, Part::Number) => size_of::<u64>(),
                (Field::Numbers, Part::Content(packed)) => packed.len() * size_of::<u64>(),
                (Field::One(shape), Part::Content(within)) if !shape.fits(within, left) => return false,
                (Field::Many(shape), Part::Content(within)) => {
                    if !shape.fits(within, left) {
                        return false;
                    }
                    shape.bytes
                }
                _ => 0,
            };
            match left.checked_sub(taken) {
                Some(rest) => *left = rest,
                None => return false,
            }
        }
        true
    }

    /// The next field of what is left of a message.
    fn next<'a>(&self, bytes: &mut &'a [u8]) -> Option<(&'static Field, Part<'a>)> {
        let (number, wire) = decode_key(bytes).ok()?;
        let field = self.fields.get(number as usize).unwrap_or(&Field::Plain);
        let part = match wire {
            WireType::Varint => {
                decode_varint(bytes).ok()?;
                Part::Number
            }
            WireType::ThirtyTwoBit => bytes.split_off(..4).map(|_| Part::Number)?,
            WireType::SixtyFourBit => bytes.split_off(..8).map(|_| Part::Number)?,
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
                bytes.split_off(..length).map(Part::Content)?
            }
            WireType::StartGroup | WireType::EndGroup => Part::Group,
        };
        Some((field, part))
    }
}

/// What a field has.
enum Part<'a> {
    Number,
    Content(&'a [u8]),
    /// The beginning or end of a group, which nothing of ours is. What is in it is walked as if it were beside it: more may be counted,
    /// never less.
    Group,
}

const fn largest(sizes: &[usize]) -> usize {
    let (mut largest, mut index) = (0, 0);
    while index < sizes.len() {
        if sizes[index] > largest {
            largest = sizes[index];
        }
        index += 1;
    }
    largest
}

/// Sends messages as they are, and takes those of a peer within bounds. All services of this crate use it, at both ends.
#[derive(Clone, Copy, Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Bounded + Send + 'static> Codec for BoundedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder::default()
    }
}

/// Decodes with [`decode`].
#[derive(Clone, Copy, Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U> Default for BoundedDecoder<U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<U: Bounded> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        decode(bytes).map(Some).map_err(|error| match error {
            DecodeError::Malformed(error) => Status::internal(error.to_string()),
            error @ DecodeError::TooLarge { .. } => Status::invalid_argument(error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::encoding::{encode_key, encode_varint};

    use super::*;
    use crate::v1::{
        Batch, CommandAnswer, Entry, ListResponsesResponse, Process, Snapshot, SubscribeResponse,
    };

    /// So many empty fields that have a length.
    fn empties(number: u32, count: usize) -> Vec<u8> {
        let mut field = Vec::new();
        within(number, &[], &mut field);
        field.repeat(count)
    }

    fn within(number: u32, content: &[u8], bytes: &mut Vec<u8>) {
        encode_key(number, WireType::LengthDelimited, bytes);
        encode_varint(content.len() as u64, bytes);
        bytes.extend_from_slice(content);
    }

    fn read<M: Bounded>(bytes: &[u8]) -> Result<M, DecodeError> {
        decode(Bytes::copy_from_slice(bytes))
    }

    fn refused<M: Bounded + std::fmt::Debug>(bytes: &[u8]) -> String {
        read::<M>(bytes).expect_err("is refused").to_string()
    }

    #[test]
    fn a_batch_of_empty_parts_is_refused_before_it_is_made() {
        const ENTRIES: u32 = 2;
        let bomb = empties(ENTRIES, MESSAGE_BYTES_MAX / 2);
        assert_eq!(
            refused::<Batch>(&bomb),
            "8388608 bytes would become a Batch of more than 100663296: it is made of too many small parts"
        );
        let most = DECODED_BYTES_MAX / size_of::<Entry>();
        assert!(refused::<Batch>(&empties(ENTRIES, most + 1)).contains("too many small parts"));
        let batch: Batch = read(&empties(ENTRIES, most)).expect("fits");
        assert_eq!(batch.entries.len(), most);
    }

    #[test]
    fn parts_are_counted_wherever_they_are() {
        // Processes of a snapshot in an answer.
        let (mut snapshot, mut answer) = (Vec::new(), Vec::new());
        within(2, &empties(1, 1), &mut snapshot);
        snapshot.extend(empties(2, DECODED_BYTES_MAX / size_of::<Process>() + 1));
        assert!(refused::<Snapshot>(&snapshot).contains("a Snapshot of"));
        within(6, &snapshot, &mut answer);
        assert!(refused::<CommandAnswer>(&answer).contains("a CommandAnswer of"));
        // A field that is there again adds to the one before.
        let mut again = Vec::new();
        let half = empties(2, DECODED_BYTES_MAX / size_of::<Process>() / 2 + 1);
        within(6, &half, &mut again);
        within(6, &half, &mut again);
        assert!(refused::<CommandAnswer>(&again).contains("a CommandAnswer of"));
        // In what no version of ours knows: it is skipped, and takes nothing.
        let mut unknown = Vec::new();
        within(99, &snapshot, &mut unknown);
        assert_eq!(read(&unknown), Ok(Snapshot::default()));
        // In a group of another version, with the numbers of ours: more is counted than would be made.
        let mut group = Vec::new();
        encode_key(99, WireType::StartGroup, &mut group);
        group.extend(&snapshot);
        encode_key(99, WireType::EndGroup, &mut group);
        assert!(refused::<Snapshot>(&group).contains("a Snapshot of"));
        assert!(
            refused::<SubscribeResponse>(&empties(1, MESSAGE_BYTES_MAX / 2))
                .contains("a SubscribeResponse of")
        );
        assert!(refused::<ListResponsesResponse>(&empties(1, MESSAGE_BYTES_MAX / 2)).contains("too many"));
    }

    #[test]
    fn what_is_honest_fits_whatever_it_says() {
        // As many arguments of one character as the longest entry has room for.
        let mut process = Vec::new();
        const ARGS: u32 = 5;
        while process.len() < crate::ENTRY_BYTES_MAX {
            within(ARGS, b"x", &mut process);
        }
        assert!(Process::shape().may_exceed(2 * process.len()));
        assert!(read::<Process>(&process).is_ok());
    }

    #[test]
    fn no_usual_batch_is_walked() {
        assert!(!Batch::shape().may_exceed(128 << 10), "{}", Batch::shape().widest);
        assert!(Batch::shape().widest >= size_of::<Entry>());
    }

    #[test]
    fn what_is_no_message_is_said_so() {
        let mut cut = empties(2, 150_000);
        cut.push(0x12);
        assert!(matches!(read::<Snapshot>(&cut), Err(DecodeError::Malformed(_))));
        cut.push(0x7f);
        assert!(matches!(read::<Snapshot>(&cut), Err(DecodeError::Malformed(_))));
    }

    /// Bytes that are fields, most of them.
    fn fields() -> impl Strategy<Value = Vec<u8>> {
        let field = (1..8_u32, 0..6_u64, proptest::collection::vec(any::<u8>(), 0..12));
        proptest::collection::vec(field, 0..40).prop_map(|fields| {
            let mut bytes = Vec::new();
            for (number, wire, content) in fields {
                encode_varint(u64::from(number) << 3 | wire, &mut bytes);
                if wire == 2 {
                    encode_varint(content.len() as u64, &mut bytes);
                }
                bytes.extend(content);
            }
            bytes
        })
    }

    proptest! {
        /// Otherwise what is behind the place that only one of them can read would not be counted.
        #[test]
        fn whatever_becomes_a_message_can_be_walked(bytes in fields()) {
            if Batch::decode(&*bytes).is_ok() {
                let mut left = DECODED_BYTES_MAX;
                prop_assert!(Batch::shape().fits(&bytes, &mut left));
                let batch: Batch = read(&bytes).expect("is a batch");
                let listed = batch.entries.len() * size_of::<Entry>() + batch.processes.len() * size_of::<Process>();
                prop_assert!(DECODED_BYTES_MAX - left >= listed);
            }
        }
    }
}
