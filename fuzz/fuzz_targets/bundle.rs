//! Bundles of evidence, which come from anybody: whatever they are, looking at them ends, without a panic, and none that was made up is taken for
//! signed. Some of the inputs are what is inside the tar, some what is inside the compression, in envelopes that are right.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use sensor::forensics::verify;

fuzz_target!(|input: (u8, &str, &[u8])| {
    let (depth, name, bytes) = input;
    let tar = match depth % 3 {
        0 => return check(bytes),
        1 => bytes.to_vec(),
        _ => part(name, bytes),
    };
    let Ok(mut whole) = zstd::bulk::compress(&tar, 1) else { return };
    // As long as a seal, which nobody can make up.
    whole.extend([0; 112]);
    check(&whole);
});

fn check(bytes: &[u8]) {
    let report = verify(Cursor::new(bytes), None).expect("reading memory does not fail");
    assert!(!report.findings.is_empty(), "nobody signed it");
}

fn part(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let _ = header.set_path(if name.is_empty() { "manifest.json" } else { name });
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}
