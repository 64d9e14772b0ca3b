//! Batches of `Deliver`: a process that many events are of is in them once.

use prost::Message as _;

use crate::{
    BATCH_ENTRIES_MAX, PROCESS_BYTES_MAX, PROCESSES_MAX,
    v1::{Batch, Entry, Event, Process, entry},
};

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A batch without entries, or with too many.
    #[error("it has {0} entries, not 1 to {BATCH_ENTRIES_MAX}")]
    Entries(usize),
    /// More processes than there is a use for.
    #[error("it has {0} processes, more than {PROCESSES_MAX}")]
    Processes(usize),
    /// A process that is too long: it becomes a part of every event that refers to it.
    #[error("process {position} has {length} bytes, more than {PROCESS_BYTES_MAX}")]
    Long {
        /// Its position, from 1.
        position: usize,
        /// Its length.
        length: usize,
    },
    /// An event of a process that is not there.
    #[error("an event refers to process {reference} of {processes}")]
    Dangling {
        /// The position that the event names, from 1.
        reference: u32,
        /// How many processes the batch has.
        processes: usize,
    },
}

impl Batch {
    /// Checks that it is no larger than allowed, also when its entries are complete, and that every process that is referred to is there.
    ///
    /// # Errors
    /// If that is not so.
    pub fn check(&self) -> Result<(), BatchError> {
        let (entries, processes) = (self.entries.len(), self.processes.len());
        if !(1..=BATCH_ENTRIES_MAX).contains(&entries) {
            return Err(BatchError::Entries(entries));
        }
        if processes > PROCESSES_MAX {
            return Err(BatchError::Processes(processes));
        }
        let lengths = self.processes.iter().map(Process::encoded_len);
        if let Some((position, length)) = (1..).zip(lengths).find(|(_, length)| *length > PROCESS_BYTES_MAX) {
            return Err(BatchError::Long { position, length });
        }
        let dangling = self
            .entries
            .iter()
            .filter_map(event)
            .map(|event| event.process_ref)
            .find(|reference| *reference as usize > processes);
        dangling.map_or(Ok(()), |reference| {
            Err(BatchError::Dangling { reference, processes })
        })
    }

    /// Its entries as consumers get them: each complete, as coming from `host`. An event whose reference dangles has no process.
    pub fn into_complete(self, host: &str) -> impl Iterator<Item = Entry> {
        let Self {
            entries, processes, ..
        } = self;
        entries.into_iter().map(move |mut entry| {
            host.clone_into(&mut entry.host);
            if let Some(entry::Body::Event(event)) = &mut entry.body {
                complete(event, &processes);
            }
            entry
        })
    }
}

fn event(entry: &Entry) -> Option<&Event> {
    match &entry.body {
        Some(entry::Body::Event(event)) => Some(event),
        _ => None,
    }
}

fn complete(event: &mut Event, processes: &[Process]) {
    let Some(index) = (event.process_ref as usize).checked_sub(1) else {
        return;
    };
    event.process_ref = 0;
    let comm = std::mem::take(&mut event.comm);
    let tid = std::mem::take(&mut event.tid);
    event.process = processes.get(index).map(|process| Process {
        comm,
        tid,
        ..process.clone()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(reference: u32) -> Batch {
        let event = Event {
            process_ref: reference,
            comm: "worker".into(),
            tid: 7,
            ..Event::default()
        };
        batch_of(event)
    }

    fn batch_of(event: Event) -> Batch {
        Batch {
            sequence: 1,
            entries: vec![Entry {
                host: String::new(),
                body: Some(entry::Body::Event(event)),
            }],
            processes: vec![Process {
                executable: "/bin/true".into(),
                ..Process::default()
            }],
        }
    }

    fn only_process(batch: Batch) -> Option<Process> {
        let entry = batch.into_complete("web1").next()?;
        assert_eq!(entry.host, "web1");
        let event = event(&entry)?;
        assert_eq!((event.process_ref, event.comm.as_str(), event.tid), (0, "", 0));
        event.process.clone()
    }

    #[test]
    fn a_process_is_put_back_with_the_thread_that_acted() {
        let process = only_process(batch(1)).expect("it has one");
        assert_eq!(
            (process.executable.as_str(), process.comm.as_str(), process.tid),
            ("/bin/true", "worker", 7)
        );
    }

    #[test]
    fn an_event_that_brings_its_own_keeps_it() {
        let own = Process {
            executable: "/bin/own".into(),
            ..Process::default()
        };
        let event = Event {
            process: Some(own.clone()),
            ..Event::default()
        };
        assert_eq!(only_process(batch_of(event)), Some(own));
    }

    /// 512 events of a process of megabytes would become gigabytes.
    #[test]
    fn a_long_process_is_refused() {
        let with = |length: usize| {
            let mut batch = batch(1);
            batch.processes[0].executable = "x".repeat(length);
            batch.check()
        };
        assert_eq!(with(PROCESS_BYTES_MAX - 100), Ok(()));
        let error = with(PROCESS_BYTES_MAX).expect_err("is refused").to_string();
        assert_eq!(error, "process 1 has 262148 bytes, more than 262144");
    }

    #[test]
    fn a_dangling_reference_is_found_and_harmless() {
        let batch = batch(2);
        let error = batch.check().expect_err("is refused");
        assert_eq!(error.to_string(), "an event refers to process 2 of 1");
        assert_eq!(only_process(batch), None);
    }
}
