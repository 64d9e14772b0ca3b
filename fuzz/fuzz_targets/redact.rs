//! Arguments, texts and variables of whoever runs programs: hiding secrets in them never fails, keeps as many arguments as there were, and grows
//! no text beyond its marks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor::privacy::redact::{MARK, arguments, secrets, text, variable};

fuzz_target!(|bytes: &[u8]| {
    for shown in [arguments(bytes), text(bytes), variable(bytes)] {
        assert!(shown.len() <= bytes.len() * MARK.len());
    }
    let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == 0).count();
    assert_eq!(count(&arguments(bytes)), count(bytes));
    assert!(secrets(bytes).all(|secret| secret.len() <= bytes.len()));
});
