//! What an agent may say, and when: the rules of one `Deliver` stream, as a state machine without I/O.

use prost::bytes::Bytes;
use sensor_proto::{
    BatchError, DecodeError, DecompressError, PROTOCOL, decode,
    v1::{Batch, CompressedBatch, Compression, DeliverRequest, Entry, Hello, deliver_request::Frame},
};

/// Batches that may be on the way without an acknowledgement.
pub const CREDIT: u32 = 32;

/// Longest host name in bytes, as DNS has it.
pub const HOST_BYTES_MAX: usize = 253;

/// Longest version text of an agent in bytes.
pub const VERSION_BYTES_MAX: usize = 64;

/// One numbering of one host: what sequences are unique within.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamId {
    /// Name of the host.
    pub host: String,
    /// The number that was drawn when the agent's numbering began.
    pub epoch: u64,
}

/// Where a stream stands.
#[derive(Debug, Default)]
pub enum Session {
    /// Nothing was said yet.
    #[default]
    New,
    /// The agent said hello and waits to be told what is stored.
    Greeted(StreamId),
    /// Batches flow.
    Open {
        /// Whose stream it is.
        stream: StreamId,
        /// Highest sequence that was taken: the next one is one more.
        taken: u64,
        /// Highest sequence that is durable.
        stored: u64,
    },
}

/// What is to be done about a frame that keeps the rules.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Look up what is stored of this numbering, then [`Session::open`].
    Greet {
        /// Whose stream it is.
        stream: StreamId,
        /// Version of the protocol that both speak.
        protocol: u32,
        /// Version of the agent.
        agent_version: String,
        /// What its batches are to be compressed with.
        compression: Compression,
    },
    /// Store this batch, then acknowledge it.
    Store(TakenBatch),
    /// It is stored already: acknowledge again.
    Again(u64),
}

/// A batch that keeps the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenBatch {
    /// What it says.
    pub batch: Batch,
    /// The same in bytes, not compressed.
    pub encoded: Bytes,
}

/// How an agent broke the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Neither hello nor batch.
    #[error("the frame is neither hello nor batch; the agent may be newer than this collector")]
    Empty,
    /// Something else came before hello.
    #[error("a batch came before hello; an agent must say who it is first")]
    NotGreeted,
    /// Hello was said twice, or a batch came before the welcome.
    #[error("{0} came at the wrong time; one hello, then its welcome, then batches")]
    OutOfTurn(&'static str),
    /// Protocol 0.
    #[error("protocol {0} is none; this collector speaks {PROTOCOL}")]
    Protocol(u32),
    /// A host name that cannot be one.
    #[error("host name of {length} bytes is empty, longer than {HOST_BYTES_MAX}, or has control characters")]
    Host {
        /// How long it is.
        length: usize,
    },
    /// A version text that is too long.
    #[error("agent version of {length} bytes is longer than {VERSION_BYTES_MAX}")]
    Version {
        /// How long it is.
        length: usize,
    },
    /// Bytes that are no batch, or would become one that takes too much memory.
    #[error("a batch of {length} bytes cannot be read: {cause}")]
    Unreadable {
        /// How many bytes there were.
        length: usize,
        /// What is wrong with them.
        cause: DecodeError,
    },
    /// Bytes that are no compressed batch, or one that would be too long.
    #[error("compressed batch {sequence}: {cause}")]
    Compressed {
        /// Its number.
        sequence: u64,
        /// What is wrong with it.
        cause: DecompressError,
    },
    /// A batch that is too large or refers to what it does not have.
    #[error("batch {sequence}: {cause}")]
    Batch {
        /// Its number.
        sequence: u64,
        /// What is wrong with it.
        cause: BatchError,
    },
    /// An entry that claims to be of another host.
    #[error("batch {sequence} has an entry of another host than the stream's")]
    Impostor {
        /// Its number.
        sequence: u64,
    },
    /// A number was left out.
    #[error("batch {sequence} came where {expected} was due; send from there, or begin a new epoch")]
    Gap {
        /// The number that came.
        sequence: u64,
        /// The number that was due.
        expected: u64,
    },
    /// More batches on the way than the credit allows.
    #[error("batch {sequence} is over the credit of {CREDIT}; {stored} is the last that was acknowledged")]
    Credit {
        /// The number that came.
        sequence: u64,
        /// The last one that is durable.
        stored: u64,
    },
}

impl Session {
    /// Takes the next frame.
    ///
    /// # Errors
    /// If the frame breaks the rules; the stream should end then, saying why.
    pub fn take(&mut self, frame: DeliverRequest) -> Result<Step, FrameError> {
        match frame.frame {
            None => Err(FrameError::Empty),
            Some(Frame::Hello(hello)) => self.hello(hello),
            Some(Frame::Batch(batch)) => self.batch(batch),
            Some(Frame::Compressed(batch)) => self.compressed(&batch),
        }
    }

    /// Says what of this numbering is stored. Only the first call after [`Step::Greet`] has an effect.
    pub fn open(&mut self, stored: u64) {
        if let Self::Greeted(stream) = self {
            *self = Self::Open {
                stream: stream.clone(),
                taken: stored,
                stored,
            };
        }
    }

    /// Says that everything up to `sequence` is durable.
    pub fn stored(&mut self, sequence: u64) {
        if let Self::Open { stored, .. } = self {
            *stored = sequence.max(*stored);
        }
    }

    /// Whether every batch that was taken is durable.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !matches!(self, Self::Open { taken, stored, .. } if stored < taken)
    }

    fn hello(&mut self, hello: Hello) -> Result<Step, FrameError> {
        if !matches!(self, Self::New) {
            return Err(FrameError::OutOfTurn("hello"));
        }
        let Hello {
            protocol,
            host,
            epoch,
            agent_version,
            compressions,
        } = hello;
        if protocol == 0 {
            return Err(FrameError::Protocol(protocol));
        }
        if host.is_empty() || host.len() > HOST_BYTES_MAX || host.chars().any(char::is_control) {
            return Err(FrameError::Host { length: host.len() });
        }
        if agent_version.len() > VERSION_BYTES_MAX {
            return Err(FrameError::Version {
                length: agent_version.len(),
            });
        }
        let stream = StreamId { host, epoch };
        *self = Self::Greeted(stream.clone());
        Ok(Step::Greet {
            stream,
            protocol: protocol.min(PROTOCOL),
            agent_version,
            compression: compression(&compressions),
        })
    }

    fn compressed(&mut self, batch: &CompressedBatch) -> Result<Step, FrameError> {
        // Nobody who has not said who they are makes work.
        self.stream()?;
        let sequence = batch.sequence;
        let encoded = batch
            .open()
            .map_err(|cause| FrameError::Compressed { sequence, cause })?;
        self.batch(encoded)
    }

    /// Whose batches are due.
    fn stream(&self) -> Result<&StreamId, FrameError> {
        match self {
            Self::New => Err(FrameError::NotGreeted),
            Self::Greeted(_) => Err(FrameError::OutOfTurn("a batch")),
            Self::Open { stream, .. } => Ok(stream),
        }
    }

    fn batch(&mut self, encoded: Bytes) -> Result<Step, FrameError> {
        self.stream()?;
        let Self::Open {
            stream,
            taken,
            stored,
        } = self
        else {
            return Err(FrameError::NotGreeted);
        };
        let batch: Batch = decode(encoded.clone()).map_err(|cause| FrameError::Unreadable {
            length: encoded.len(),
            cause,
        })?;
        let sequence = batch.sequence;
        batch
            .check()
            .map_err(|cause| FrameError::Batch { sequence, cause })?;
        let foreign = |entry: &Entry| !entry.host.is_empty() && entry.host != stream.host;
        if batch.entries.iter().any(foreign) {
            return Err(FrameError::Impostor { sequence });
        }
        if sequence <= *stored {
            return Ok(Step::Again(*stored));
        }
        // Sequences count from 1 and never come near the end of u64; a claim that they did is a gap.
        let expected = taken.saturating_add(1);
        if sequence != expected || *taken == u64::MAX {
            return Err(FrameError::Gap { sequence, expected });
        }
        if sequence - *stored > u64::from(CREDIT) {
            return Err(FrameError::Credit {
                sequence,
                stored: *stored,
            });
        }
        *taken = sequence;
        Ok(Step::Store(TakenBatch { batch, encoded }))
    }
}

/// The best that both know. The numbers of later versions are none.
fn compression(offered: &[i32]) -> Compression {
    if offered.contains(&Compression::Zstd.into()) {
        Compression::Zstd
    } else {
        Compression::Unspecified
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use sensor_proto::{PROCESSES_MAX, v1::Process};

    use super::*;

    fn hello(host: &str, protocol: u32) -> DeliverRequest {
        let hello = Hello {
            protocol,
            host: host.into(),
            epoch: 7,
            agent_version: "1".into(),
            compressions: vec![Compression::Zstd.into(), 99],
        };
        DeliverRequest {
            frame: Some(Frame::Hello(hello)),
        }
    }

    fn batch(sequence: u64, entries: usize, host: &str) -> DeliverRequest {
        let entries = vec![
            Entry {
                host: host.into(),
                body: None
            };
            entries
        ];
        let batch = Batch {
            sequence,
            entries,
            processes: Vec::new(),
        };
        DeliverRequest {
            frame: Some(Frame::Batch(batch.encode_to_vec().into())),
        }
    }

    fn open(stored: u64) -> Session {
        let mut session = Session::default();
        session.take(hello("web1", 1)).expect("hello is fine");
        session.open(stored);
        session
    }

    #[test]
    fn a_newer_agent_is_answered_in_our_protocol() {
        let step = Session::default().take(hello("web1", 9)).expect("hello is fine");
        assert!(matches!(
            step,
            Step::Greet {
                protocol: PROTOCOL,
                ..
            }
        ));
    }

    #[test]
    fn hello_is_checked() {
        let long = "x".repeat(254);
        for (host, protocol, error) in [
            ("web1", 0, FrameError::Protocol(0)),
            ("", 1, FrameError::Host { length: 0 }),
            ("a\nb", 1, FrameError::Host { length: 3 }),
            (&long, 1, FrameError::Host { length: 254 }),
        ] {
            assert_eq!(Session::default().take(hello(host, protocol)), Err(error));
        }
    }

    #[test]
    fn order_is_kept() {
        let mut session = Session::default();
        assert_eq!(session.take(batch(1, 1, "web1")), Err(FrameError::NotGreeted));
        assert_eq!(
            session.take(DeliverRequest { frame: None }),
            Err(FrameError::Empty)
        );
        session.take(hello("web1", 1)).expect("hello is fine");
        assert_eq!(
            session.take(batch(1, 1, "web1")),
            Err(FrameError::OutOfTurn("a batch"))
        );
        assert_eq!(
            session.take(hello("web1", 1)),
            Err(FrameError::OutOfTurn("hello"))
        );
    }

    #[test]
    fn batches_are_checked() {
        for (sequence, entries, host, error) in [
            (
                11,
                0,
                "web1",
                FrameError::Batch {
                    sequence: 11,
                    cause: BatchError::Entries(0),
                },
            ),
            (
                11,
                513,
                "web1",
                FrameError::Batch {
                    sequence: 11,
                    cause: BatchError::Entries(513),
                },
            ),
            (11, 1, "web2", FrameError::Impostor { sequence: 11 }),
            (
                12,
                1,
                "web1",
                FrameError::Gap {
                    sequence: 12,
                    expected: 11,
                },
            ),
            (
                u64::MAX,
                1,
                "web1",
                FrameError::Gap {
                    sequence: u64::MAX,
                    expected: 11,
                },
            ),
        ] {
            assert_eq!(open(10).take(batch(sequence, entries, host)), Err(error));
        }
    }

    /// They would lie in memory until the batch is stored.
    #[test]
    fn processes_that_nothing_is_of_are_refused() {
        let with = |processes: usize| {
            let batch = Batch {
                sequence: 11,
                entries: vec![Entry::default()],
                processes: vec![Process::default(); processes],
            };
            let frame = Some(Frame::Batch(batch.encode_to_vec().into()));
            open(10).take(DeliverRequest { frame })
        };
        assert!(with(PROCESSES_MAX).is_ok());
        let error = with(PROCESSES_MAX + 1).expect_err("is refused").to_string();
        assert_eq!(error, "batch 11: it has 1025 processes, more than 1024");
    }

    fn compressed(sequence: u64, body: &[u8]) -> DeliverRequest {
        let mut compressor = sensor_proto::Compressor::new().expect("has memory");
        let body = compressor.compress(body).expect("compresses");
        DeliverRequest {
            frame: Some(Frame::Compressed(CompressedBatch { sequence, body })),
        }
    }

    #[test]
    fn a_compressed_batch_is_the_same_as_another() {
        let DeliverRequest {
            frame: Some(Frame::Batch(plain)),
        } = batch(11, 2, "web1")
        else {
            panic!("a batch");
        };
        let body = Batch {
            sequence: 0,
            ..Batch::decode(plain.clone()).expect("a batch")
        };
        let request = compressed(11, &body.encode_to_vec());
        let Ok(Step::Store(taken)) = open(10).take(request.clone()) else {
            panic!("it keeps the rules");
        };
        assert_eq!((taken.batch.sequence, taken.encoded), (11, plain));
        assert_eq!(Session::default().take(request), Err(FrameError::NotGreeted));
        let request = compressed(12, &body.encode_to_vec());
        assert_eq!(
            open(10).take(request),
            Err(FrameError::Gap {
                sequence: 12,
                expected: 11
            })
        );
    }

    #[test]
    fn a_compressed_bomb_is_refused() {
        let error = open(10)
            .take(compressed(11, &vec![0; 64 << 20]))
            .expect_err("is refused");
        let text = error.to_string();
        assert!(
            text.starts_with("compressed batch 11: ") && text.contains("67108864; 8388608 are allowed"),
            "{text}"
        );
    }

    /// A kilobyte of thousands of parts with nothing in them, which would become gigabytes of entries.
    #[test]
    fn a_compressed_batch_of_empty_parts_is_refused() {
        let parts = [0x12, 0].repeat(4 << 20);
        let request = compressed(11, &parts[..parts.len() - 2]);
        assert!(prost::Message::encoded_len(&request) < 1_000);
        let error = open(10).take(request).expect_err("is refused").to_string();
        assert!(
            error.starts_with("a batch of 8388608 bytes cannot be read: ")
                && error.ends_with("too many small parts"),
            "{error}"
        );
    }

    #[test]
    fn what_is_stored_is_acknowledged_again() {
        assert_eq!(open(10).take(batch(3, 1, "web1")), Ok(Step::Again(10)));
    }

    #[test]
    fn credit_is_enforced_and_renewed() {
        let mut session = open(0);
        for sequence in 1..=u64::from(CREDIT) {
            session.take(batch(sequence, 1, "web1")).expect("within credit");
        }
        let next = u64::from(CREDIT) + 1;
        assert_eq!(
            session.take(batch(next, 1, "web1")),
            Err(FrameError::Credit {
                sequence: next,
                stored: 0
            })
        );
        assert!(!session.is_settled());
        session.stored(u64::from(CREDIT));
        assert!(session.is_settled());
        session.take(batch(next, 1, "web1")).expect("within credit");
    }

    proptest! {
        /// Whatever is sent, what is stored is numbered without gaps and never twice.
        #[test]
        fn stored_sequences_have_no_gaps(stored in 0..5_u64, sequences: Vec<(u8, bool)>) {
            let mut session = open(stored);
            let mut last = stored;
            for (sequence, durable) in sequences {
                if let Ok(Step::Store(taken)) = session.take(batch(u64::from(sequence) % 8, 1, "web1")) {
                    prop_assert_eq!(taken.batch.sequence, last + 1);
                    last = taken.batch.sequence;
                }
                if durable {
                    session.stored(last);
                }
            }
        }
    }
}
