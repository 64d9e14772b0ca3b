//! Batches of `Deliver`: a process that many events are of is in them once.

use crate::v1::{Batch, Entry, Event, Process, entry};

/// A batch's event refers to a process that the batch does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event refers to process {reference} of {processes}")]
pub struct DanglingProcess {
    /// The position that the event names, from 1.
    pub reference: u32,
    /// How many processes the batch has.
    pub processes: usize,
}

impl Batch {
    /// Checks that every process that is referred to is there.
    ///
    /// # Errors
    /// If one is not.
    pub fn check_references(&self) -> Result<(), DanglingProcess> {
        let processes = self.processes.len();
        let dangling = self
            .entries
            .iter()
            .filter_map(event)
            .map(|event| event.process_ref)
            .find(|reference| *reference as usize > processes);
        dangling.map_or(Ok(()), |reference| Err(DanglingProcess { reference, processes }))
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

    #[test]
    fn a_dangling_reference_is_found_and_harmless() {
        let batch = batch(2);
        let error = batch.check_references().expect_err("is refused");
        assert_eq!(error.to_string(), "an event refers to process 2 of 1");
        assert_eq!(only_process(batch), None);
    }
}
