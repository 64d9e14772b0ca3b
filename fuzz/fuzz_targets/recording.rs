//! Recordings, which come from anybody: whatever they are, reading them ends, without a panic. Half of the inputs are what is inside a
//! block, in an envelope that is right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor::recording::{END, Reader};

fuzz_target!(|input: (bool, &[u8])| {
    let (inside, bytes) = input;
    if !inside {
        if let Ok(reader) = Reader::new(bytes) {
            reader.for_each(drop);
        }
        return;
    }
    let Ok(stored) = zstd::bulk::compress(bytes, 1) else { return };
    let mut whole = b"SNSR\x01\0".to_vec();
    whole.extend((stored.len() as u32).to_le_bytes());
    whole.extend((bytes.len() as u32).to_le_bytes());
    whole.extend(crc32fast::hash(&stored).to_le_bytes());
    whole.extend(stored);
    whole.extend(END);
    if let Ok(reader) = Reader::new(&whole[..]) {
        reader.for_each(drop);
    }
});
