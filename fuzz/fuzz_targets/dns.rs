//! Bytes from the network as a message of the domain name system: whatever they are, reading them ends and keeps to its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor::host::dns;

fuzz_target!(|bytes: &[u8]| {
    let read = dns::read(bytes, bytes.len());
    assert!(read.answers.len() <= 32);
    // A name has 255 bytes at most, each written in four characters at most.
    assert!(read.name.len() <= 4 * 255);
});
