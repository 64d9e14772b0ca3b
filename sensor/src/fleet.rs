//! What other hosts know as normal, by way of the collector, so that what is new here and usual everywhere else is no news.
//!
//! ```text
//! detector ─facts of the host and its people, as hashes─▶ collector ═counts hosts═▶ what the others know ─▶ prior of the models
//! ```
//!
//! Now and then, and over TLS alone, by which the collector knows that a host speaks for itself. Where people, addresses or paths have pseudonyms, the
//! hashes are made with the tenant's key: hosts with the same key understand each other. A collector that cannot be reached, or is too old to be
//! asked, changes nothing: what was heard last holds, until the agent ends.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sensor_behaviour::{
    SnapshotError,
    novelty::{Novelty, Veil},
};
use sensor_proto::{
    MESSAGE_BYTES_MAX,
    v1::{FleetStatus, ShareFactsRequest, control_client::ControlClient},
};
use sensor_trust::{Address, DialError, OnConnecting, Security, dial};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::{orders::Orders, time::WallTime};

/// When an agent that has just begun asks first: by then it is connected, if it will be.
const FIRST: Duration = Duration::from_secs(60);

/// How long the collector may take: it may have to count first.
const ANSWER: Duration = Duration::from_secs(60);

/// What was heard last.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Option<FleetStatus>>);

impl Heard {
    /// It, for people.
    #[must_use]
    pub fn status(&self) -> Option<FleetStatus> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, status: FleetStatus) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}

/// Why nothing was heard.
#[derive(Debug, thiserror::Error)]
enum ShareError {
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{}", _0.message())]
    Refused(#[from] Status),
    #[error("it did not answer within {ANSWER:?}")]
    Silent,
    #[error("what it answers is of no use: {0}")]
    Answer(#[from] SnapshotError),
    #[error("the agent is ending")]
    Ending,
}

/// Shares and hears.
pub struct Neighbours {
    /// Where the collector is.
    pub address: Address,
    /// As whom to go there.
    pub security: Security,
    /// Told of each connection.
    pub on_connecting: OnConnecting,
    /// The way to what was learned.
    pub orders: Orders,
    /// What hashes are made with, where they are not to be guessed.
    pub veil: Option<Veil>,
    /// How often.
    pub interval: Duration,
}

impl Neighbours {
    /// Without end, noting in `heard` what was heard. `scatter` is a part of the interval, in [0, 1): hosts that begin at once shall not ask at once.
    pub async fn run(self, heard: &Heard, scatter: f64) {
        if !self.address.is_secure() || self.interval.is_zero() {
            return;
        }
        sleep(FIRST.min(self.interval).mul_f64(1.0 + scatter)).await;
        let mut last = String::new();
        loop {
            match self.share().await {
                Ok(status) => {
                    last.clear();
                    heard.note(status);
                }
                Err(ShareError::Refused(status)) if status.code() == Code::Unimplemented => {
                    tracing::info!("the collector counts no facts; it may be older than this agent");
                }
                Err(error) => {
                    let message = error.to_string();
                    if message != last {
                        tracing::info!(
                            "it is not known what is normal on other hosts: {message}; trying again"
                        );
                        last = message;
                    }
                }
            }
            sleep(self.interval).await;
        }
    }

    async fn share(&self) -> Result<FleetStatus, ShareError> {
        let veil = self.veil;
        let facts = self
            .orders
            .examine(move |detector, _| detector.shared(veil.as_ref()));
        let facts = facts.await.ok_or(ShareError::Ending)?;
        let channel = dial(&self.address, &self.security, &self.on_connecting).await?;
        let mut client = ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answered = timeout(ANSWER, client.share_facts(ShareFactsRequest { facts })).await;
        let answer = answered.map_err(|_| ShareError::Silent)??.into_inner();
        let others = Novelty::prior_from_snapshot(&answer.others)?;
        let facts = others.subjects().map(|(_, _, facts)| facts as u64).sum();
        let told = self
            .orders
            .examine(move |detector, _| detector.hear_of_others(others, answer.hosts, veil));
        told.await.ok_or(ShareError::Ending)?;
        Ok(FleetStatus {
            hosts: answer.hosts,
            facts,
            time_ns: WallTime::now().0,
        })
    }
}
