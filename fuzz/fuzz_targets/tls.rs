//! Bytes of a process as the first message of a TLS client: whatever they are, reading them ends and keeps to its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor::host::tls;

fuzz_target!(|bytes: &[u8]| {
    let read = tls::read(bytes, bytes.len());
    assert!(read.protocols.len() <= 8);
    assert!(read.server_name.len() <= 4 * 255);
    assert!(read.ja4.is_empty() || read.ja4.len() == 36);
});
