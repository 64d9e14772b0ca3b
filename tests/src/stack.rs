//! An agent and its collector, as most tests want them.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Error, Result, bail};
use sensor_proto::v1::Filter;

use crate::{agent::Agent, collector::Collector, stream::Stream};

/// An agent that delivers to a collector.
pub struct Stack {
    /// The agent; ends first.
    pub agent: Agent,
    /// The collector.
    pub collector: Collector,
}

/// The one that tests share which need no configuration of their own: starting one takes longer than most of them.
/// An error is why it cannot be started, which is not tried again.
static SHARED: Mutex<Option<Result<Arc<Stack>, String>>> = Mutex::new(None);

impl Stack {
    /// Starts a collector and an agent with `config`.
    ///
    /// # Errors
    /// If one does not come up.
    pub fn start(config: &str) -> Result<Self> {
        let collector = Collector::start()?;
        let agent = Agent::start(config, Some(&collector.address()))?;
        Ok(Self { agent, collector })
    }

    /// The shared one.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn shared() -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        match shared.as_mut() {
            Some(Err(why)) => bail!("as before: {why}"),
            Some(Ok(stack)) => match Arc::get_mut(stack).map_or(Ok(()), Self::check) {
                Ok(()) => return Ok(Arc::clone(stack)),
                // One case has ended it; the others shall be judged by themselves.
                Err(error) => eprintln!("the shared agent or collector is gone: {error:#}"),
            },
            None => {}
        }
        let started = Self::start("")
            .map(Arc::new)
            .map_err(|error| format!("{error:#}"));
        shared.insert(started).clone().map_err(Error::msg)
    }

    /// An error with what it said if the agent or the collector has ended.
    ///
    /// # Errors
    /// If one of them has ended.
    pub fn check(&mut self) -> Result<()> {
        self.collector.daemon().check().context("the collector")?;
        self.agent.daemon().check().context("the agent")
    }

    /// Ends the shared one, at the end of all tests.
    pub fn end_shared() {
        SHARED.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Everything that readers of the collector get, from now on.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn subscribe(&self) -> Result<Stream> {
        Stream::from_collector(&self.collector.address(), Filter::default())
    }
}
