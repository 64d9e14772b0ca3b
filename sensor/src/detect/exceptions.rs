//! What somebody has said is no attack: exceptions, each with who said so, of what, and until when. They can be listed and taken back.
//!
//! An exception holds for what the models found in one incident, and in its scope: exactly that ([`Scope::This`]); whatever the same program of the same subject
//! does that the same models look at ([`Scope::Subject`]); or the same program anywhere on this host ([`Scope::Program`]). What it covers is no evidence any more, and is
//! counted.
//!
//! Bounds: [`EXCEPTIONS`] at once, [`CAUSES`] findings each, [`TEXT`] bytes of each text.

use serde::{Deserialize, Serialize};

use super::{Incident, Signal, incident::stable_hash};
use crate::time::WallTime;

/// Exceptions at once.
pub const EXCEPTIONS: usize = 256;
const CAUSES: usize = 32;
const TEXT: usize = 400;

/// How far an exception goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Exactly what was found.
    #[default]
    This,
    /// What the same program of the same subject does, as far as the same models look at it.
    Subject,
    /// The same of any subject of this host.
    Program,
}

/// What somebody has said is no attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exception {
    /// Names it.
    pub id: String,
    /// The incident that it was said of.
    pub incident: String,
    /// How far it goes.
    pub scope: Scope,
    /// What the incident was of.
    pub subject: String,
    /// What was found, by its cause, model and program.
    findings: Vec<Finding>,
    /// Who said so.
    pub author: String,
    /// Why, in their words.
    pub why: String,
    /// When it was said.
    pub created: WallTime,
    /// Until when it holds.
    pub expires: WallTime,
    /// How often it has held something back.
    pub held: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Finding {
    cause: u64,
    source: String,
    executable: Box<[u8]>,
}

/// What is to be said of an incident.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// How far it goes.
    pub scope: Scope,
    /// Who says so.
    pub author: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: WallTime,
    /// Until when.
    pub expires: WallTime,
}

/// All exceptions.
#[derive(Debug, Default)]
pub(super) struct Exceptions(Vec<Exception>);

impl Exceptions {
    /// Adds one; `None` where there are too many.
    pub(super) fn add(&mut self, incident: &Incident, verdict: Verdict) -> Option<Exception> {
        self.end(verdict.now);
        if self.0.len() >= EXCEPTIONS {
            return None;
        }
        let cut = |mut text: String| {
            text.truncate(text.floor_char_boundary(TEXT));
            text
        };
        let id = stable_hash(&[incident.id.as_bytes(), &verdict.now.0.to_le_bytes()]);
        let exception = Exception {
            id: format!("{id:016x}"),
            incident: incident.id.to_string(),
            scope: verdict.scope,
            subject: incident.subject.to_string(),
            findings: incident
                .signals
                .iter()
                .take(CAUSES)
                .map(|signal| Finding::of(signal))
                .collect(),
            author: cut(verdict.author),
            why: cut(verdict.why),
            created: verdict.now,
            expires: verdict.expires,
            held: 0,
        };
        self.0.push(exception.clone());
        Some(exception)
    }

    /// Takes one back; whether it was there.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|exception| exception.id != id);
        self.0.len() < before
    }

    pub(super) fn list(&self) -> &[Exception] {
        &self.0
    }

    /// Whether one holds `signal` back, which is then counted.
    pub(super) fn cover(&mut self, signal: &Signal) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let now = signal.event.wall;
        let covering = self.0.iter_mut().find(|exception| exception.covers(signal, now));
        match covering {
            Some(exception) => {
                exception.held = exception.held.saturating_add(1);
                true
            }
            None => false,
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(&self.0).unwrap_or_default()
    }

    /// What [`Self::to_bytes`] wrote; none, where it is something else: nothing is held back that nobody vouches for.
    pub(super) fn restore(&mut self, bytes: &[u8]) {
        self.0 = postcard::from_bytes(bytes).unwrap_or_default();
        self.0.truncate(EXCEPTIONS);
    }

    fn end(&mut self, now: WallTime) {
        self.0.retain(|exception| exception.expires > now);
    }
}

impl Exception {
    fn covers(&self, signal: &Signal, now: WallTime) -> bool {
        if now >= self.expires || self.scope != Scope::Program && *self.subject != *signal.subject {
            return false;
        }
        let executable = executable(signal);
        self.findings.iter().any(|finding| match self.scope {
            Scope::This => finding.cause == signal.cause && finding.source == signal.source,
            Scope::Subject | Scope::Program => {
                finding.source == signal.source && *finding.executable == *executable
            }
        })
    }
}

impl Finding {
    fn of(signal: &Signal) -> Self {
        Self {
            cause: signal.cause,
            source: signal.source.to_owned(),
            executable: executable(signal).into(),
        }
    }
}

fn executable(signal: &Signal) -> &[u8] {
    let process = signal.event.process.as_ref();
    process.map_or(&[], |process| &process.image.executable)
}

#[cfg(test)]
mod tests;
