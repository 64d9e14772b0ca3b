//! Records of logins, written by whoever wants to log in: whatever they are, reading them neither panics nor yields long texts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor::session::{TEXT_MAX, audit, utmp};

fuzz_target!(|input: (u16, &[u8])| {
    let (kind, bytes) = input;
    let mut record = [0; utmp::RECORD];
    let length = bytes.len().min(record.len());
    record[..length].copy_from_slice(&bytes[..length]);
    // Half of the inputs have the type of an audit message that counts.
    let kind = if kind % 2 == 0 { 1100 + kind % 24 } else { kind };
    let told = [
        audit::parse(kind, bytes),
        utmp::parse(&record, utmp::Kind::Sessions),
        utmp::parse(&record, utmp::Kind::Failures),
    ];
    for told in told.into_iter().flatten() {
        let session = told.session;
        for text in [session.user, session.terminal, session.remote, session.program] {
            // A byte that is no UTF-8 becomes a character of three.
            assert!(text.len() <= 3 * TEXT_MAX);
        }
    }
});
