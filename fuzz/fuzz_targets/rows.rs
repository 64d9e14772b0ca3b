//! Batches as agents send them, made into rows and put together again: nothing panics, and no entry is lost.
#![no_main]

use collector::{
    lake::rows::{Builder, Layout, all_fields},
    store::{Position, StoredBatch},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let stored = StoredBatch {
        position: Position(1),
        host: "web1".into(),
        received_ns: 0,
        entries: 0,
        body: body.to_vec(),
    };
    for layout in [Layout::ByClass, Layout::Together(all_fields())] {
        let mut rows = Builder::new(layout);
        if rows.push(&stored, Position(0)).is_err() {
            return;
        }
        let expected = rows.rows();
        let tables = rows.finish().expect("columns fit");
        assert_eq!(tables.iter().map(|table| table.rows.num_rows()).sum::<usize>(), expected);
    }
});
