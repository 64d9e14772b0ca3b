//! Entries taken apart for the lake, and put together again.
//!
//! A process is the same in many entries, so it has a column of its own, in which Parquet writes it once. An entry without it looks as
//! in a batch: its event refers to process 1, with the thread that acted.

use prost::{DecodeError, Message as _};
use sensor_proto::v1::{Batch, Entry, Process, entry};

/// Takes the process out of an event that brings its own, and leaves a reference; what is not an event stays whole.
pub fn take_process(entry: &mut Entry) -> Option<Process> {
    let Some(entry::Body::Event(event)) = &mut entry.body else {
        return None;
    };
    let mut process = event.process.take()?;
    event.process_ref = 1;
    event.comm = std::mem::take(&mut process.comm);
    event.tid = std::mem::take(&mut process.tid);
    Some(process)
}

/// The entry of which `entry` and `process` are the columns, complete.
///
/// # Errors
/// If they are not what this collector wrote.
pub fn put_together(host: &str, entry: &[u8], process: Option<&[u8]>) -> Result<Entry, DecodeError> {
    let entry = Entry::decode(entry)?;
    let processes = process.map(Process::decode).transpose()?.into_iter().collect();
    let batch = Batch {
        sequence: 0,
        entries: vec![entry],
        processes,
    };
    Ok(batch.into_complete(host).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sensor_proto::v1::{Event, Fork, event};

    #[test]
    fn what_is_taken_apart_is_put_together() {
        let process = Process {
            executable: "/bin/sh".into(),
            comm: "worker".into(),
            tid: 7,
            ..Process::default()
        };
        let event = Event {
            process: Some(process),
            body: Some(event::Body::Fork(Fork {})),
            ..Event::default()
        };
        let whole = Entry {
            host: "web1".into(),
            body: Some(entry::Body::Event(event)),
        };
        let mut apart = whole.clone();
        let process = take_process(&mut apart).map(|process| process.encode_to_vec());
        let again = put_together("web1", &apart.encode_to_vec(), process.as_deref());
        assert_eq!(again, Ok(whole));
    }
}
