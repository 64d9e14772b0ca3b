//! A peer's bytes on a `Deliver` stream: whatever they are, what the collector would store has no gaps.
#![no_main]

use collector::session::{CREDIT, Session, Step};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use sensor_proto::{
    MESSAGE_BYTES_MAX, decompress,
    v1::{DeliverRequest, DeliverResponse, SubscribeRequest},
};

// Frames follow each other, each with two bytes of length before it; a frame of no bytes stands for a commit.
fuzz_target!(|bytes: &[u8]| {
    let (mut session, mut last, mut durable) = (Session::default(), 0, 0);
    let mut rest = bytes;
    while let [low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (frame, after) = tail.split_at(length);
        rest = after;
        if frame.is_empty() {
            durable = last;
            session.stored(durable);
            continue;
        }
        let _ = DeliverResponse::decode(frame);
        if let Ok(content) = decompress(frame) {
            assert!(content.len() <= MESSAGE_BYTES_MAX);
        }
        if let Ok(SubscribeRequest { filter: Some(filter), .. }) = SubscribeRequest::decode(frame) {
            let _ = filter.validate();
        }
        let Ok(frame) = DeliverRequest::decode(frame) else { continue };
        match session.take(frame) {
            Ok(Step::Greet { .. }) => session.open(0),
            Ok(Step::Store(taken)) => {
                assert_eq!(taken.batch.sequence, last + 1);
                last = taken.batch.sequence;
                let entries = taken.batch.entries.len();
                // Compressed or not.
                assert!(taken.encoded.len() <= MESSAGE_BYTES_MAX + 16);
                assert_eq!(taken.batch.into_complete("host").count(), entries);
                assert!(last - durable <= u64::from(CREDIT));
            }
            Ok(Step::Again(sequence)) => assert!(sequence <= durable),
            Err(_) => {}
        }
    }
});
