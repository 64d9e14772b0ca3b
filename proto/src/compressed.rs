//! Batches as they lie in a spool and travel: one Zstandard frame each.
//!
//! What comes from a peer is decompressed into as many bytes as its frame says, [`MESSAGE_BYTES_MAX`] at most, and never more: a few
//! bytes that would become gigabytes are refused before anything is reserved for them.

use std::io;

use prost::{
    bytes::Bytes,
    encoding::{encoded_len_varint, key_len, uint64},
};
use zstd::{bulk, zstd_safe};

use crate::{MESSAGE_BYTES_MAX, v1::CompressedBatch};

/// Of `Batch`.
const SEQUENCE: u32 = 1;

/// The level at which a batch takes a fraction of a millisecond; higher ones save a tenth of its bytes for a multiple of the time.
const LEVEL: i32 = 3;

/// Why bytes are no compressed batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// It does not begin as a frame does, or does not say how long its content is.
    #[error("{0} bytes are no Zstandard frame that says how long its content is")]
    NoFrame(usize),
    /// It would be too long.
    #[error("{length} bytes say that they become {claimed}; {MESSAGE_BYTES_MAX} are allowed")]
    TooLong {
        /// How many bytes there are.
        length: usize,
        /// How many there would be.
        claimed: u64,
    },
    /// It is damaged, or longer than it says.
    #[error("{length} bytes cannot be decompressed: {cause}")]
    Broken {
        /// How many bytes there are.
        length: usize,
        /// What the decompressor says.
        cause: String,
    },
}

/// Compresses one batch after another.
pub struct Compressor(bulk::Compressor<'static>);

impl Compressor {
    /// A compressor with its tables, about 1 MiB.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new() -> io::Result<Self> {
        bulk::Compressor::new(LEVEL).map(Self)
    }

    /// `body` as a frame that says how long it is.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn compress(&mut self, body: &[u8]) -> io::Result<Bytes> {
        self.0.compress(body).map(Bytes::from)
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

/// The content of a frame.
///
/// # Errors
/// If it is no frame, a damaged one, or would be longer than [`MESSAGE_BYTES_MAX`].
pub fn decompress(frame: &[u8]) -> Result<Vec<u8>, DecompressError> {
    decompress_behind(&[], frame)
}

impl CompressedBatch {
    /// The encoded `Batch` that it is, sequence and all.
    ///
    /// # Errors
    /// As for [`decompress`].
    pub fn open(&self) -> Result<Bytes, DecompressError> {
        let mut head = Vec::with_capacity(key_len(SEQUENCE) + encoded_len_varint(self.sequence));
        if self.sequence != 0 {
            uint64::encode(SEQUENCE, &self.sequence, &mut head);
        }
        decompress_behind(&head, &self.body).map(Bytes::from)
    }
}

fn decompress_behind(head: &[u8], frame: &[u8]) -> Result<Vec<u8>, DecompressError> {
    let length = frame.len();
    let claimed = zstd_safe::get_frame_content_size(frame)
        .ok()
        .flatten()
        .ok_or(DecompressError::NoFrame(length))?;
    let size = usize::try_from(claimed).unwrap_or(usize::MAX);
    if size > MESSAGE_BYTES_MAX {
        return Err(DecompressError::TooLong { length, claimed });
    }
    let broken = |cause: io::Error| DecompressError::Broken {
        length,
        cause: cause.to_string(),
    };
    let content = bulk::decompress(frame, size).map_err(broken)?;
    if head.is_empty() {
        return Ok(content);
    }
    Ok([head, &content].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::v1::{Batch, Entry};

    fn compressed(body: &[u8]) -> Bytes {
        Compressor::new()
            .expect("has memory")
            .compress(body)
            .expect("compresses")
    }

    #[test]
    fn a_batch_is_what_it_was_and_has_its_number() {
        let entries = vec![
            Entry {
                host: "web1".into(),
                body: None
            };
            3
        ];
        let batch = Batch {
            sequence: 0,
            entries,
            processes: Vec::new(),
        };
        let packed = CompressedBatch {
            sequence: 300,
            body: compressed(&batch.encode_to_vec()),
        };
        let opened = Batch::decode(packed.open().expect("opens")).expect("is a batch");
        assert_eq!(
            opened,
            Batch {
                sequence: 300,
                ..batch
            }
        );
    }

    #[test]
    fn a_bomb_is_refused_by_what_it_says_of_itself() {
        let bomb = compressed(&vec![0; MESSAGE_BYTES_MAX + 1]);
        assert!(bomb.len() < 2_000, "{}", bomb.len());
        let error = decompress(&bomb).expect_err("is refused").to_string();
        assert!(
            error.ends_with("bytes say that they become 8388609; 8388608 are allowed"),
            "{error}"
        );
        assert_eq!(
            decompress(&compressed(&vec![0; MESSAGE_BYTES_MAX])).map(|all| all.len()),
            Ok(MESSAGE_BYTES_MAX)
        );
    }

    #[test]
    fn a_bomb_that_lies_about_its_size_stays_within_it() {
        // The header of a frame of ten bytes before the blocks of one of a million, and one frame behind another.
        let (small, large) = (compressed(&[7; 10]), compressed(&vec![7; 1_000_000]));
        let mut liar = large.to_vec();
        assert_eq!(
            liar[4] & 0xe0,
            0xa0,
            "a size of four bytes in a frame of one segment"
        );
        liar[5..9].copy_from_slice(&10_u32.to_le_bytes());
        assert!(matches!(decompress(&liar), Err(DecompressError::Broken { .. })));
        assert!(matches!(
            decompress(&[small, large].concat()),
            Err(DecompressError::Broken { .. })
        ));
    }

    #[test]
    fn what_says_nothing_of_its_size_is_refused() {
        let mut stream = zstd::stream::Encoder::new(Vec::new(), 1).expect("begins");
        io::Write::write_all(&mut stream, b"abc").expect("writes");
        let stream = stream.finish().expect("ends");
        for bytes in [&b""[..], b"abc", &stream] {
            assert_eq!(decompress(bytes), Err(DecompressError::NoFrame(bytes.len())));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_compressed_comes_back(body: Vec<u8>) {
            prop_assert_eq!(decompress(&compressed(&body)), Ok(body));
        }

        #[test]
        fn whatever_comes_is_bounded(frame: Vec<u8>) {
            if let Ok(content) = decompress(&frame) {
                prop_assert!(content.len() <= MESSAGE_BYTES_MAX);
            }
        }
    }
}
