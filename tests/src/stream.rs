//! A reader of a stream that keeps everything it gets, for a test to look at.

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::{Result, bail};
use sensor_proto::v1::{
    Entry, Filter, SubscribeRequest, SubscribeResponse, agent_client::AgentClient,
    collector_client::CollectorClient, entry, event,
};
use tokio::task::JoinHandle;
use tonic::Streaming;

use crate::{client, command, history::History, patience::patience};

/// A subscription that is read in the background.
pub struct Stream {
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    got: Mutex<Got>,
    changed: Condvar,
}

/// What came so far.
#[derive(Default)]
pub struct Got {
    /// In the order in which they came.
    pub entries: Vec<Entry>,
    /// As many did not come, because this reader was too slow.
    pub dropped: u64,
    /// Why nothing more will come.
    pub ended: Option<String>,
}

impl Stream {
    /// Everything that matches `filter` at a collector.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn from_collector(address: &str, filter: Filter) -> Result<Self> {
        let mut client = CollectorClient::new(client::connect(address)?);
        let request = SubscribeRequest {
            filter: Some(filter),
            ..SubscribeRequest::default()
        };
        Ok(Self::read(client::wait(client.subscribe(request))??.into_inner()))
    }

    /// Everything that matches `filter` at an agent.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn from_agent(socket: &Path, filter: Filter) -> Result<Self> {
        Ok(Self::read(unread(socket, filter)?))
    }

    /// Begins to read.
    #[must_use]
    pub fn read(mut responses: Streaming<SubscribeResponse>) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let reader = client::runtime().spawn(async move {
            loop {
                let next = responses.message().await;
                let mut got = writer.lock();
                match next {
                    Ok(Some(response)) => {
                        got.entries.extend(response.entries);
                        got.dropped += response.dropped;
                    }
                    Ok(None) => got.ended = Some("it was closed".into()),
                    Err(status) => got.ended = Some(status.to_string()),
                }
                writer.changed.notify_all();
                if got.ended.is_some() {
                    return;
                }
            }
        });
        Self { shared, reader }
    }

    /// Looks at everything again whenever something has come, until `find` finds what it looks for.
    ///
    /// # Errors
    /// If that does not come in time; the text says what came instead.
    pub fn wait<T>(&self, what: &str, mut find: impl FnMut(&Got) -> Option<T>) -> Result<T> {
        let limit = patience(30);
        let deadline = Instant::now() + limit;
        let mut got = self.shared.lock();
        loop {
            if let Some(found) = find(&got) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(end) = &got.ended {
                bail!("the stream ended before {what} came: {end}; {}", summary(&got));
            }
            if left.is_zero() {
                bail!("{what} did not come within {limit:?}; {}", summary(&got));
            }
            got = self
                .shared
                .changed
                .wait_timeout(got, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for the first entry that `find` makes something of.
    ///
    /// # Errors
    /// If none comes in time.
    pub fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&Entry) -> Option<T>) -> Result<T> {
        let mut next = 0;
        self.wait(what, |got| {
            let found = got.entries[next..].iter().find_map(&mut find);
            next = got.entries.len();
            found
        })
    }

    /// Waits for the end of process `pid` and returns all that came about it.
    ///
    /// # Errors
    /// If its end does not come in time.
    pub fn history(&self, pid: u32) -> Result<History> {
        self.wait_for(&format!("the exit of process {pid}"), |entry| {
            is_exit_of(entry, pid).then_some(())
        })?;
        Ok(History::of(&self.shared.lock().entries, pid))
    }

    /// Waits until everything that has happened up to now has come: runs a process and waits for its end.
    ///
    /// # Errors
    /// If that does not come in time.
    pub fn fence(&self) -> Result<()> {
        let pid = command::succeed(Command::new("/bin/true").arg(command::marker()))?;
        self.history(pid).map(|_| ())
    }

    /// All that came so far.
    pub fn got(&self) -> impl std::ops::Deref<Target = Got> {
        self.shared.lock()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription at an agent that nobody reads yet.
///
/// # Errors
/// If it does not answer.
pub fn unread(socket: &Path, filter: Filter) -> Result<Streaming<SubscribeResponse>> {
    let mut client = AgentClient::new(client::connect_unix(socket)?);
    let request = SubscribeRequest {
        filter: Some(filter),
        ..SubscribeRequest::default()
    };
    Ok(client::wait(client.subscribe(request))??.into_inner())
}

fn is_exit_of(entry: &Entry, pid: u32) -> bool {
    let Some(entry::Body::Event(event)) = &entry.body else {
        return false;
    };
    let tgid = event
        .process
        .as_ref()
        .and_then(|process| process.id)
        .map(|id| id.tgid);
    tgid == Some(pid) && matches!(event.body, Some(event::Body::Exit(_)))
}

fn summary(got: &Got) -> String {
    let lost: Vec<_> = got
        .entries
        .iter()
        .filter(|entry| matches!(entry.body, Some(entry::Body::Loss(_))))
        .collect();
    let Got { entries, dropped, .. } = got;
    format!(
        "{} entries came, {dropped} were dropped, losses: {lost:?}",
        entries.len()
    )
}
