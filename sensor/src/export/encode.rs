//! Entries straight to the bytes of the wire, for readers that want everything.
//!
//! Most of an event is its process, which is the same for each event of it: that is written once and copied after that. The bytes
//! are those that [`Converter`] and prost would make, but for the order of fields, which means nothing.

mod operation;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use lru::LruCache;
use prost::{Message as _, bytes::BufMut, encode_length_delimiter, length_delimiter_len};
use sensor_proto::{Entries, v1};

use super::{Converter, Entry};
use crate::{
    host::{Body, Event, Process, Thread},
    time::BootTime,
};

/// Processes whose bytes are kept for one reader: usually some hundred each, 25 KiB at most.
const PROCESSES: NonZeroUsize = NonZeroUsize::new(128).unwrap();

/// How long they are good for: the names of users can change.
const KEPT: Duration = Duration::from_secs(1);

/// `Entry.event` and `Event.process`: numbers of the fields, and that a length follows.
const ENTRY_EVENT: u8 = 2 << 3 | 2;
const EVENT_PROCESS: u8 = 4 << 3 | 2;

/// Writes entries for one reader.
#[derive(Debug)]
pub struct Encoder {
    converter: Converter,
    /// The entry without a body.
    host: Vec<u8>,
    processes: LruCache<Key, Described>,
    /// The event that is being written, but for its process; and a part of it.
    event: Vec<u8>,
    part: Vec<u8>,
}

/// A process as it was made, by address: [`Described`] keeps it from being another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(usize);

impl Key {
    fn of(process: &Arc<Process>) -> Self {
        Self(Arc::as_ptr(process).addr())
    }
}

/// A process as bytes.
#[derive(Debug)]
struct Described {
    _process: Arc<Process>,
    parent: Option<Arc<Process>>,
    written: BootTime,
    /// All of it but the thread.
    bytes: Vec<u8>,
    thread: Thread,
    thread_bytes: Vec<u8>,
}

impl Described {
    fn length(&self) -> usize {
        self.bytes.len() + self.thread_bytes.len()
    }

    fn fits(&self, event: &Event) -> bool {
        self.parent.as_ref().map(Arc::as_ptr) == event.parent.as_ref().map(Arc::as_ptr)
            && event.time.since(self.written) < KEPT
    }
}

impl Encoder {
    /// Writes what `converter` would convert.
    #[must_use]
    pub fn new(converter: Converter) -> Self {
        let host = v1::Entry {
            host: converter.host().to_owned(),
            body: None,
        };
        Self {
            converter,
            host: host.encode_to_vec(),
            processes: LruCache::new(PROCESSES),
            event: Vec::new(),
            part: Vec::new(),
        }
    }

    /// Appends `entry`.
    pub fn push(&mut self, entry: &Entry, entries: &mut Entries) {
        match entry {
            Entry::Event(event) => self.push_event(event, entries),
            other => entries.push(&self.converter.entry(other)),
        }
    }

    fn push_event(&mut self, event: &Event, entries: &mut Entries) {
        self.event.clear();
        match &event.body {
            // Where nothing of it is changed, without a message in between.
            Body::Operation(operation) if self.converter.policy().spares_operations() => {
                Converter::head(event).encode_raw(&mut self.event);
                operation::put(operation, &mut self.part, &mut self.event);
            }
            _ => self.converter.without_process(event).encode_raw(&mut self.event),
        }
        self.describe(event);
        let process = event
            .process
            .as_ref()
            .and_then(|process| self.processes.peek(&Key::of(process)));
        let length = self.event.len() + process.map_or(0, |process| field_length(process.length()));
        entries.push_with(self.host.len() + field_length(length), |out| {
            out.put_slice(&self.host);
            begin(ENTRY_EVENT, length, out);
            out.put_slice(&self.event);
            if let Some(process) = process {
                begin(EVENT_PROCESS, process.length(), out);
                out.put_slice(&process.bytes);
                out.put_slice(&process.thread_bytes);
            }
        });
    }

    /// Keeps the event's process as bytes, those from before where nothing has changed.
    fn describe(&mut self, event: &Event) {
        let Some(process) = &event.process else { return };
        let key = Key::of(process);
        let converter = &self.converter;
        let fresh = || Described {
            _process: Arc::clone(process),
            parent: event.parent.clone(),
            written: event.time,
            bytes: v1::Process {
                tid: 0,
                ..converter.process_of(process, event.parent.as_deref())
            }
            .encode_to_vec(),
            thread: event.thread,
            thread_bytes: Converter::thread(&event.thread).encode_to_vec(),
        };
        let described = self.processes.get_or_insert_mut(key, &fresh);
        if !described.fits(event) {
            *described = fresh();
        }
        if described.thread != event.thread {
            described.thread = event.thread;
            described.thread_bytes = Converter::thread(&event.thread).encode_to_vec();
        }
    }
}

/// Length of a field with a length before it.
fn field_length(length: usize) -> usize {
    1 + length_delimiter_len(length) + length
}

fn begin(field: u8, length: usize, out: &mut impl BufMut) {
    out.put_u8(field);
    // It cannot fail: the buffer grows.
    let _ = encode_length_delimiter(length, out);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use sensor_common::Signal;
    use sensor_proto::v1::SubscribeResponse;

    use super::*;
    use crate::{
        capture::{
            calls::{CALLS, TRACEPOINTS},
            hooks::HOOKS,
        },
        export::convert::tests::{body, converter, event, process},
        host::FileId,
        privacy::{Field, Kind, Policy},
    };

    fn read(encoder: &mut Encoder, entries: &[Entry]) -> Vec<v1::Entry> {
        let mut written = Entries::default();
        entries.iter().for_each(|entry| encoder.push(entry, &mut written));
        let bytes = written.take(0).encode_to_vec();
        SubscribeResponse::decode(&*bytes).expect("is whole").entries
    }

    #[test]
    fn every_event_reads_as_if_it_had_been_converted() {
        reads_as_converted(&converter());
    }

    /// By whatever policy: an operation that is written straight to the wire must not be let out by that.
    #[test]
    fn no_event_gets_around_the_policy() {
        let home = tempfile::tempdir().expect("a directory");
        let policy = |pseudonymise: &[Kind], drop: &[Field]| {
            let config = crate::config::Privacy {
                pseudonymise: pseudonymise.to_vec(),
                key_file: home.path().join("key"),
                drop: drop.to_vec(),
                ..crate::config::Privacy::default()
            };
            converter().with_policy(Policy::new(&config).expect("a key"))
        };
        reads_as_converted(&policy(&[Kind::Users, Kind::Addresses, Kind::Paths], &[]));
        reads_as_converted(&policy(&[Kind::Paths], &[Field::Environment]));
        reads_as_converted(&policy(&[], &[Field::Argv, Field::Cwd, Field::HostNames]));
    }

    fn reads_as_converted(converter: &Converter) {
        let process = process(b"mysql\0-phunter2\0b\xff\0", b"/srv/x");
        let mut entries: Vec<_> = Signal::ALL
            .into_iter()
            .map(|signal| Entry::Event(event(Arc::clone(&process), body(signal))))
            .collect();
        let Entry::Event(first) = &entries[0] else {
            panic!("an event");
        };
        let nobodys = Event {
            process: None,
            ..Event::clone(first)
        };
        let of_another_thread = Event {
            thread: Thread {
                tid: 44,
                comm: *b"other\0\0\0\0\0\0\0\0\0\0\0",
            },
            parent: Some(Arc::clone(&process)),
            ..Event::clone(first)
        };
        entries.extend(CALLS.iter().chain(TRACEPOINTS).chain(HOOKS).map(|call| {
            let mut body = body(call.signal);
            if let Body::Operation(operation) = &mut body {
                operation.call = call;
                operation.values = [0, 1, 2, 0x8000, 0o755, u64::MAX, 7, 1 << 40];
                operation.result = i64::from(call.number) - 9;
                operation.file = Some(FileId {
                    inode: 1 << 33,
                    device: 2,
                    mode: 0o100_644,
                });
                operation.previous = (*b"0\xfe").into();
            }
            Entry::Event(event(Arc::clone(&process), body))
        }));
        entries.push(Entry::Event(Arc::new(nobodys)));
        entries.push(Entry::Event(Arc::new(of_another_thread)));
        let mut encoder = Encoder::new(converter.clone());
        let expected: Vec<_> = entries.iter().map(|entry| converter.entry(entry)).collect();
        let text = format!("{expected:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(read(&mut encoder, &entries), expected);
        assert_eq!(read(&mut encoder, &entries), expected, "from what was kept");
        assert_eq!(encoder.processes.len(), 1);
    }
}
