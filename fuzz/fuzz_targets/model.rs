//! A snapshot of a model: whatever the bytes are, they are a model that works or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor_behaviour::sequence::Sequence;

/// Magic, kind, version and length stand before the payload, the checksum behind it.
const HEAD: [u8; 7] = *b"SNSM\x01\x01\x00";

fuzz_target!(|bytes: &[u8]| {
    let _ = Sequence::from_snapshot(bytes);
    // The same bytes in an envelope that is right, or the checksum would keep everything out.
    let mut sealed = HEAD.to_vec();
    sealed.extend((bytes.len() as u32).to_le_bytes());
    sealed.extend(bytes);
    let sum = crc32fast::hash(&sealed);
    sealed.extend(sum.to_le_bytes());
    let Ok(mut model) = Sequence::from_snapshot(&sealed) else { return };
    assert_eq!(Sequence::from_snapshot(&model.to_snapshot()).as_ref(), Ok(&model));
    let symbols: Vec<u16> = bytes.iter().take(64).map(|&byte| u16::from(byte)).collect();
    let scores = model.scores(&symbols);
    assert!(scores.long >= 0.0 && scores.short >= 0.0);
    model.learn(&symbols);
    model.unlearn(&symbols);
    assert!(model.reasons(&symbols, 1).len() <= 1);
});
