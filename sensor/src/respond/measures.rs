//! Measures: what holds until it ends or is undone (blocks, isolation, revoked users, files in quarantine), and what takes long (bundles).
//!
//! A thread of its own takes them one after the other, so that whoever reads the rings never waits for a file system, a program that is
//! loaded into the kernel, or a bundle of some hundred megabytes. It is started when the first is to be taken.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
};

use super::{
    ActionResult,
    order::Order,
    responder::{Done, Finished},
};
use crate::{config, host::ProcessId};

/// Something to be done, and what is known to descend from the process that it is about.
type Job = (Order, Vec<ProcessId>);

/// Takes measures.
#[derive(Debug)]
pub(super) struct Measures {
    state: Option<PathBuf>,
    finished: mpsc::Sender<Finished>,
    jobs: Option<mpsc::Sender<Job>>,
}

impl Measures {
    /// What came of each is sent by `finished`.
    pub(super) fn new(
        _config: &config::Respond,
        state: Option<&Path>,
        finished: mpsc::Sender<Finished>,
    ) -> Self {
        Self {
            state: state.map(Path::to_owned),
            finished,
            jobs: None,
        }
    }

    /// Has a measure taken.
    pub(super) fn take(&mut self, order: Order, family: Vec<ProcessId>) {
        let jobs = match self.jobs.take() {
            Some(jobs) => Ok(jobs),
            None => self.start(),
        };
        match jobs {
            Ok(jobs) => {
                // The thread ends after its last sender.
                let _ = jobs.send((order, family));
                self.jobs = Some(jobs);
            }
            Err(error) => {
                let why = format!("cannot start the thread that does it: {error}");
                let _ = self
                    .finished
                    .send((order, Done::Measure(ActionResult::Failed, why)));
            }
        }
    }

    fn start(&self) -> std::io::Result<mpsc::Sender<Job>> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let finished = self.finished.clone();
        let _state = self.state.clone();
        let work = move || {
            for (order, _family) in queue {
                let done = Done::Measure(ActionResult::Failed, "not there yet".to_owned());
                let _ = finished.send((order, done));
            }
        };
        std::thread::Builder::new()
            .name("measures".to_owned())
            .spawn(work)?;
        Ok(jobs)
    }
}
