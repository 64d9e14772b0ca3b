//! What is asked of this host by way of its collector.
//!
//! ```text
//! collector ═commands═▶ listener ─▶ allowed? ─▶ journal ─▶ done, as if asked on the local socket ─▶ journal ─▶ answer ═▶ collector
//!                                                                                     bundle, if one was made ═▶ collector
//! ```
//!
//! Invariants:
//! - Only over TLS: whoever gives orders is known. `[remote] allow` says what may be asked at all, and the guard has the last word.
//! - What has an id is done once. It is in the [`journal`] before it is begun, and its answer before it is sent; the same id again gets
//!   the same answer, by the next agent too. What an agent was in the midst of when it ended is not begun again.
//! - Nothing is begun after its time.
//! - Who asked stands in the audit of this host beside what was done, or why it was not.

mod bundles;
pub mod journal;
mod listener;
mod perform;
mod permission;
mod rules;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use sensor_trust::{Address, OnConnecting, Security};
use tokio::time::Instant;

pub use journal::{Journal, JournalError};
pub use permission::Permission;
pub use rules::{DIRECTORY as RULES, RulesError};

use crate::{export::LocalService, respond::Responses};

/// Takes what is asked, does it and answers.
pub struct Remote {
    address: Address,
    security: Security,
    on_connecting: OnConnecting,
    allow: Vec<Permission>,
    service: LocalService,
    journal: Journal,
    state: PathBuf,
    /// Why nothing else is done meanwhile: rules are replaced one set at a time.
    rules: tokio::sync::Mutex<()>,
    /// Why only one connection sends bundles at a time.
    sending: tokio::sync::Mutex<()>,
    /// When a refusal was last written into the audit.
    noted: Mutex<Option<Instant>>,
}

/// What is needed for it.
pub struct Wiring {
    /// Where the collector is.
    pub address: Address,
    /// As whom to go there.
    pub security: Security,
    /// Told of each connection.
    pub on_connecting: OnConnecting,
    /// What may be asked.
    pub allow: Vec<Permission>,
    /// Who does it.
    pub service: LocalService,
    /// Where what outlives the agent is kept.
    pub state: PathBuf,
}

impl Remote {
    /// Ready to [listen](Self::run).
    ///
    /// # Errors
    /// If there is no place for the journal: then nothing could be done only once.
    pub fn new(wiring: Wiring) -> Result<Arc<Self>, JournalError> {
        let Wiring {
            address,
            security,
            on_connecting,
            allow,
            service,
            state,
        } = wiring;
        Ok(Arc::new(Self {
            address,
            security,
            on_connecting,
            allow,
            service,
            journal: Journal::open(&state)?,
            state,
            rules: tokio::sync::Mutex::default(),
            sending: tokio::sync::Mutex::default(),
            noted: Mutex::default(),
        }))
    }

    /// What waits and what was, as it is.
    async fn responses(&self) -> Option<Responses> {
        self.service.orders.as_ref()?.responses().await.ok()
    }
}
