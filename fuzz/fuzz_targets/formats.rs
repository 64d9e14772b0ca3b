//! Entries in other people's words: whatever an event says, what is written of it is one line of JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use sensor::export::format::Format;
use sensor_proto::v1::Entry;

fuzz_target!(|bytes: &[u8]| {
    let Ok(entry) = Entry::decode(bytes) else { return };
    for format in [Format::Json, Format::Ocsf, Format::Ecs] {
        let line = format.line(&entry);
        assert!(line.starts_with('{') && line.ends_with('}') && !line.contains('\n'));
    }
});
