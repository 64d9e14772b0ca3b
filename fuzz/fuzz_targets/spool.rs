//! A spool that somebody else wrote: whatever is in the file, opening it and delivering from it neither panics nor leaves gaps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor::export::Spool;

fuzz_target!(|bytes: &[u8]| {
    let folder = std::env::temp_dir().join(format!("spool-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    if std::fs::create_dir_all(&folder).is_err() {
        return;
    }
    let path = folder.join("spool.db");
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    let mut spool = Spool::open(&path, 1 << 20);
    let mut before = None;
    for _ in 0..64 {
        spool.commit();
        let epoch = spool.epoch();
        // Where the file says that an epoch begins is its own affair.
        let stored = before.filter(|(known, _)| *known == epoch).map_or(0, |(_, stored)| stored);
        let batches = spool.batches(epoch, stored, 16);
        let Some(last) = batches.last().map(|batch| batch.sequence) else { break };
        assert!(batches.iter().zip(stored + 1..).all(|(batch, due)| batch.sequence == due));
        spool.acknowledge(epoch, last);
        before = Some((epoch, last));
    }
    spool.end();
    let _ = std::fs::remove_dir_all(&folder);
});
