//! Bytes from a ring: whatever they are, decoding neither panics nor reads outside of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor::capture::record::{Record, RecordBody, path_from_components};
use zerocopy::IntoBytes;

fuzz_target!(|bytes: &[u8]| {
    // Rings align records to eight bytes.
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    let Ok(record) = Record::decode(&words.as_bytes()[..bytes.len()]) else { return };
    if let RecordBody::Exec(exec) = record.body {
        let tail = exec.args.len() + exec.path.len() + exec.cwd.len() + exec.filename.len();
        assert!(tail < bytes.len());
        assert!(path_from_components(exec.path, false).len() <= exec.path.len() + 1);
    }
});
