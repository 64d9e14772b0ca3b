//! What is asked of hosts, and what comes of it.
//!
//! ```text
//! responder ─▶ people: Ask ─▶ commands (trust.db) ─▶ agents: Listen ═▶ host
//!                 answer ◀───────────┘ ◀──────────────── answer ◀══════┘ bundle ─▶ bundles/HOST/
//! ```
//!
//! Invariants: a command is on disk before anybody is told of it, and goes to the host that it is for, which a certificate names. It is told
//! again with each connection until there is an answer; the agent does it once. What is not told in time expires. A bundle is
//! taken only if a command of its host asked for one, is limited in bytes, and is there under its name when its SHA-256 is right.

mod agents;
mod bundles;
mod commands;
mod people;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tonic::Status;

pub use agents::ControlService;
pub use commands::{CommandError, Commands};
pub(crate) use commands::{in_words, object, outcome};
pub use people::ResponseService;

use crate::{prevalence::Facts, trust::Database};

/// How often it is looked for what has expired.
const LOOK: Duration = Duration::from_secs(5);

/// What both services have in common.
#[derive(Clone, Debug)]
pub struct Desk {
    /// What was asked.
    pub commands: Commands,
    /// Where bundles go: a directory in the data directory.
    pub bundles: PathBuf,
    /// What hosts share of what is normal.
    pub facts: Facts,
    /// Becomes true when the collector stops.
    pub stopping: watch::Receiver<bool>,
    waiting: Waiting,
}

impl Desk {
    /// In this database and directory.
    #[must_use]
    pub fn new(database: Database, bundles: PathBuf, facts: Facts, stopping: watch::Receiver<bool>) -> Self {
        Self {
            commands: Commands::new(database),
            bundles,
            facts,
            stopping,
            waiting: Waiting::default(),
        }
    }

    /// Lets expire what nobody came for, without end.
    pub async fn keep_house(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.commands.expire().await {
                tracing::warn!("commands cannot expire: {error}");
            }
        }
    }
}

/// Hosts that are connected, to be woken when something is asked of them. Bounded by their connections.
#[derive(Clone, Debug, Default)]
struct Waiting(Arc<Mutex<HashMap<String, Arc<Notify>>>>);

impl Waiting {
    /// What wakes those who speak for `host`.
    fn bell(&self, host: &str) -> Arc<Notify> {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|name, bell| name == host || Arc::strong_count(bell) > 1);
        Arc::clone(bells.entry(host.to_owned()).or_default())
    }

    fn ring(&self, host: &str) {
        if let Some(bell) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host) {
            bell.notify_waiters();
        }
    }
}

fn refusal(error: CommandError) -> Status {
    let message = error.to_string();
    match error {
        CommandError::Database(_) => Status::unavailable(message),
        CommandError::Full { .. } => Status::resource_exhausted(message),
        CommandError::Another(_) => Status::already_exists(message),
        CommandError::Unknown(_) => Status::not_found(message),
        CommandError::NotAsked(_) => Status::permission_denied(message),
    }
}
