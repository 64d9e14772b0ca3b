//! Frames as they go out: what the spool holds is encoded and compressed already, and is sent as it lies there, but to a collector of before
//! there was compression.

use prost::{
    Message,
    bytes::{BufMut, Bytes},
    encoding::{WireType, bytes, encode_key, encode_varint, encoded_len_varint, key_len, uint64},
};
use sensor_proto::{
    BoundedDecoder, decompress,
    v1::{Compression, DeliverRequest, DeliverResponse, Entry, Process},
};
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};

use crate::export::spool::Numbered;

/// Field numbers of `sensor/v1/ingest.proto`.
const BATCH_OF_FRAME: u32 = 2;
const COMPRESSED_OF_FRAME: u32 = 3;
const SEQUENCE_OF_BATCH: u32 = 1;
const ENTRIES_OF_BATCH: u32 = 2;
const PROCESSES_OF_BATCH: u32 = 3;
const BODY_OF_COMPRESSED: u32 = 2;

/// A frame to send.
#[derive(Debug)]
pub(super) enum Outgoing {
    Hello(DeliverRequest),
    /// A batch, as the collector wants it.
    Batch(Numbered, Compression),
}

/// Adds `entry` to the body of a batch.
pub(super) fn add_entry(entry: &Entry, body: &mut Vec<u8>) {
    prost::encoding::message::encode(ENTRIES_OF_BATCH, entry, body);
}

/// Adds a process that events of the batch refer to.
pub(super) fn add_process(process: &Process, body: &mut Vec<u8>) {
    prost::encoding::message::encode(PROCESSES_OF_BATCH, process, body);
}

/// Encodes [`Outgoing`] as `DeliverRequest`, decodes `DeliverResponse`.
#[derive(Debug, Default)]
pub(super) struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Outgoing;
    type Decode = DeliverResponse;
    type Encoder = FrameEncoder;
    type Decoder = BoundedDecoder<DeliverResponse>;

    fn encoder(&mut self) -> Self::Encoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder::default()
    }
}

/// See [`FrameCodec`].
#[derive(Debug)]
pub(super) struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, item: Outgoing, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match item {
            Outgoing::Hello(hello) => hello
                .encode(buffer)
                .map_err(|error| Status::internal(error.to_string())),
            Outgoing::Batch(Numbered { sequence, body }, Compression::Zstd) => {
                put_compressed(sequence, &body, buffer);
                Ok(())
            }
            Outgoing::Batch(Numbered { sequence, body }, Compression::Unspecified) => {
                let body = decompress(&body).map_err(|error| Status::internal(error.to_string()))?;
                put_batch(sequence, &body, buffer);
                Ok(())
            }
        }
    }
}

/// The frame of a batch whose entries are encoded already.
fn put_batch(sequence: u64, body: &[u8], buffer: &mut impl BufMut) {
    let length = key_len(SEQUENCE_OF_BATCH) + encoded_len_varint(sequence) + body.len();
    encode_key(BATCH_OF_FRAME, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
    uint64::encode(SEQUENCE_OF_BATCH, &sequence, buffer);
    buffer.put_slice(body);
}

/// The frame of a batch as it lies in the spool.
fn put_compressed(sequence: u64, body: &Bytes, buffer: &mut impl BufMut) {
    let number = key_len(SEQUENCE_OF_BATCH) + encoded_len_varint(sequence);
    let content = key_len(BODY_OF_COMPRESSED) + encoded_len_varint(body.len() as u64) + body.len();
    encode_key(COMPRESSED_OF_FRAME, WireType::LengthDelimited, buffer);
    encode_varint((number + content) as u64, buffer);
    uint64::encode(SEQUENCE_OF_BATCH, &sequence, buffer);
    bytes::encode(BODY_OF_COMPRESSED, body, buffer);
}

#[cfg(test)]
mod tests {
    use sensor_proto::{
        Compressor,
        v1::{Batch, CompressedBatch, deliver_request::Frame},
    };

    use super::*;

    #[test]
    fn frames_are_what_prost_would_have_written() {
        for sequence in [1, 127, 128, u64::MAX] {
            let entries: Vec<_> = ["a", "b"]
                .map(|host| Entry {
                    host: host.into(),
                    body: None,
                })
                .into();
            let processes = vec![Process {
                tid: 7,
                ..Process::default()
            }];
            let (mut body, mut frame) = (Vec::new(), Vec::new());
            entries.iter().for_each(|entry| add_entry(entry, &mut body));
            processes
                .iter()
                .for_each(|process| add_process(process, &mut body));
            put_batch(sequence, &body, &mut frame);
            let packed = Compressor::new()
                .expect("has memory")
                .compress(&body)
                .expect("compresses");
            let batch = Batch {
                sequence,
                entries,
                processes,
            };
            let expected = DeliverRequest {
                frame: Some(Frame::Batch(batch.encode_to_vec().into())),
            };
            assert_eq!(frame, expected.encode_to_vec());
            frame.clear();
            put_compressed(sequence, &packed, &mut frame);
            let expected = DeliverRequest {
                frame: Some(Frame::Compressed(CompressedBatch {
                    sequence,
                    body: packed,
                })),
            };
            assert_eq!(frame, expected.encode_to_vec());
        }
    }
}
