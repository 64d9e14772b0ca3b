//! What is done to a message before it leaves.

mod body;
mod process;
mod sentences;

use sensor_behaviour::novelty::Veil;
use sensor_proto::v1::{self, entry::Body};
use serde::{Deserialize, Serialize};

use self::sentences::Known;
use super::{
    Key, KeyError,
    pseudonym::{Kind, Pseudonyms},
};
use crate::config;

/// What can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Arguments of processes, but for the name of the program.
    Argv,
    /// Environment variables.
    Environment,
    /// Current directories.
    Cwd,
    /// Names of hosts: what name servers are asked and answer, what TLS clients ask for.
    HostNames,
    /// Sentences that say why something is unusual, which quote what was seen.
    Reasons,
}

/// Decides what leaves the host. Once made it does not change.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    redact: bool,
    pseudonyms: Option<Pseudonyms>,
    drop: Vec<Field>,
}

impl Policy {
    /// The policy of a configuration. The key of pseudonyms is made where it is needed and not there.
    ///
    /// # Errors
    /// If there are to be pseudonyms and there is no key.
    pub fn new(config: &config::Privacy) -> Result<Self, KeyError> {
        let pseudonyms = match config.pseudonymise.as_slice() {
            [] => None,
            kinds => Some(Pseudonyms::new(&Key::load_or_make(&config.key_file)?, kinds)),
        };
        Ok(Self {
            redact: config.redact,
            pseudonyms,
            drop: config.drop.clone(),
        })
    }

    /// A policy that hides secrets and nothing else, as is the default.
    #[must_use]
    pub fn redacting() -> Self {
        Self {
            redact: true,
            ..Self::default()
        }
    }

    /// What facts of this host are hashed with that are shared with other hosts: where people, addresses or paths have pseudonyms, nobody shall
    /// guess them by hashing guesses.
    #[must_use]
    pub fn veil(&self) -> Option<Veil> {
        self.pseudonyms.as_ref().map(Pseudonyms::veil)
    }

    fn drops(&self, field: Field) -> bool {
        self.drop.contains(&field)
    }

    fn names(&self, kind: Kind) -> Option<&Pseudonyms> {
        self.pseudonyms.as_ref().filter(|pseudonyms| pseudonyms.of(kind))
    }

    /// Whether operations leave as they are, which most events of a busy host are.
    #[must_use]
    pub fn spares_operations(&self) -> bool {
        self.pseudonyms.is_none()
    }

    /// Changes what of `entry` is not to leave.
    pub fn entry(&self, entry: &mut v1::Entry) {
        match &mut entry.body {
            Some(Body::Event(event)) => self.event(event),
            Some(Body::Signal(signal)) => self.signal(signal),
            Some(Body::Incident(incident)) => self.incident(incident),
            Some(Body::Outcome(outcome)) => self.outcome(outcome),
            Some(Body::Loss(_)) | None => {}
        }
    }

    /// The same for an event.
    pub fn event(&self, event: &mut v1::Event) {
        if let Some(process) = &mut event.process {
            self.process(process);
        }
        if let Some(body) = &mut event.body {
            self.body(body);
        }
    }

    fn signal(&self, signal: &mut v1::Signal) {
        let known = Known::of(signal.event.iter().filter_map(|event| event.process.as_ref()));
        self.subject(&mut signal.subject);
        self.sentences(&mut signal.reasons, &known);
        if let Some(event) = &mut signal.event {
            self.event(event);
        }
    }

    /// The same for an incident.
    pub fn incident(&self, incident: &mut v1::Incident) {
        let events = incident.signals.iter().filter_map(|signal| signal.event.as_ref());
        let processes = events.filter_map(|event| event.process.as_ref());
        let known = Known::of(processes.chain(&incident.process));
        self.subject(&mut incident.subject);
        self.sentence(&mut incident.summary, &known);
        if let Some(origin) = &mut incident.origin {
            if self.drops(Field::Reasons) {
                origin.reasons.clear();
            }
            for reason in &mut origin.reasons {
                self.sentence(&mut reason.text, &known);
            }
        }
        if let Some(ended) = &mut incident.ended {
            self.sentence(&mut ended.why, &known);
        }
        if let Some(process) = &mut incident.process {
            self.process(process);
        }
        for signal in &mut incident.signals {
            self.signal(signal);
        }
        for process in incident
            .processes
            .iter_mut()
            .filter_map(|one| one.process.as_mut())
        {
            self.process(process);
        }
    }

    /// The same for an outcome. Who decided stays: that is for the audit.
    pub fn outcome(&self, outcome: &mut v1::Outcome) {
        self.sentence(&mut outcome.detail, &Known::default());
        if let Some(action) = &mut outcome.action {
            self.action(action);
        }
    }

    /// The same for an action.
    pub fn action(&self, action: &mut v1::Action) {
        self.sentence(&mut action.reason, &Known::default());
        if let Some(object) = &mut action.object {
            self.object(object);
        }
    }

    /// What is no process, and an action is directed at.
    fn object(&self, object: &mut v1::Object) {
        use v1::object::Is;
        let named = match &mut object.is {
            Some(Is::Executable(path) | Is::File(path)) => (Kind::Paths, path),
            Some(Is::Network(network)) => (Kind::Addresses, network),
            // The number of a user is what an action is taken by.
            Some(Is::User(_) | Is::Host(_)) | None => return,
        };
        let (kind, text) = named;
        if self.names(kind).is_some() {
            self.sentence(text, &Known::default());
        }
    }

    /// The same for a sentence of which nothing else is known.
    pub fn words(&self, text: &mut String) {
        self.sentence(text, &Known::default());
    }

    /// The same for a model, for whoever looks at it on this host: secrets are hidden. By its names it is asked for, so those stay.
    pub fn model(&self, model: &mut v1::Model) {
        let secrets_alone = Self {
            redact: self.redact,
            ..Self::default()
        };
        for surprise in &mut model.surprises {
            secrets_alone.words(&mut surprise.reason);
        }
    }

    fn subject(&self, subject: &mut String) {
        if let Some(names) = self.names(Kind::Users) {
            *subject = names.ids(subject).into_owned();
        }
    }
}

#[cfg(test)]
mod tests;
