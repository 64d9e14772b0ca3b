//! What people ask of the response, and what was decided.

use std::{sync::Arc, time::Duration};

use super::{Action, ActionKind, Outcome, Proposal, Record, Step, Target, standing::Change};
use sensor_common::FileKey;

use crate::{
    forensics,
    host::{Process, ProcessId, file},
    time::BootTime,
};

/// What a person wants.
#[derive(Clone, Debug)]
pub enum Wish {
    /// Do what was proposed under this number.
    Approve(u64),
    /// Don't.
    Deny(u64),
    /// Undo what was done under it.
    Undo(u64),
    /// Do this.
    Do(Demand),
    /// Say what that would do.
    Try(Demand),
}

/// Something that a person wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// What.
    pub kind: ActionKind,
    /// To whom or what.
    pub object: Object,
    /// For how long; `None`: as long as the configuration says.
    pub lasts: Option<Duration>,
    /// Because of which incident; empty if there is none.
    pub incident: Box<str>,
    /// How much a bundle is to have; `None`: as by default.
    pub bundle: Option<forensics::Options>,
}

/// Whom or what a person means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// The process that has this id now, and began then, if that is said.
    Pid(u32, Option<BootTime>),
    /// What is no process.
    Target(Target),
}

/// Who wants it and why.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// As the system knows them.
    pub name: Box<str>,
    /// In their words; may be empty.
    pub why: String,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It was decided and, if so decided, done.
    Outcome(Arc<Outcome>),
    /// It is being done; the outcome follows in the stream and in the history, under this number.
    Begun(u64),
    /// What would be hit, and what the guard says.
    Plan(String),
}

/// Something that holds until it is undone or its time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// In words.
    pub what: String,
    /// By which it is undone; `None` for what the configuration or a rule has the kernel refuse.
    pub number: Option<u64>,
    /// When it ends by itself, if it does.
    pub until: Option<BootTime>,
    /// How often the kernel has refused something because of it.
    pub hits: u64,
}

/// What waits and what was.
#[derive(Clone, Debug, Default)]
pub struct Responses {
    /// The oldest first.
    pub pending: Vec<Proposal>,
    /// The latest last.
    pub history: Vec<Arc<Outcome>>,
    /// What the kernel refuses, who is stopped or locked out, and what is in quarantine.
    pub holding: Vec<Holding>,
}

/// Whose exec the kernel has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) who: ProcessId,
}

/// A proposal that was decided for.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub(super) number: u64,
    pub(super) action: Action,
    /// The process that it is about, if any.
    pub(super) process: Option<Arc<Process>>,
    pub(super) who: Box<str>,
    /// When its event happened, or a person decided.
    pub(super) since: BootTime,
    /// What speaks for it: rules and models.
    pub(super) evidence: Vec<String>,
    pub(super) change: Change,
    /// The number of what it undoes.
    pub(super) undoes: Option<u64>,
    /// The executable that it is about, where it was run and its process is not known any more.
    pub(super) file: Option<FileKey>,
    /// How much a bundle is to have.
    pub(super) bundle: Option<forensics::Options>,
    /// Who was stopped last by what it has the kernel refuse.
    pub(super) stopped: Option<Stopped>,
}

impl Order {
    /// `who` has decided about what waited.
    pub(super) fn of(proposal: Proposal, who: &str, since: BootTime) -> Self {
        Self {
            number: proposal.number,
            action: proposal.action,
            process: proposal.process,
            who: who.into(),
            since,
            ..Self::default()
        }
    }

    /// What a person wants done.
    pub(super) fn asked_for(action: Action, process: Option<Arc<Process>>, person: &Person) -> Self {
        Self {
            action,
            process,
            who: person.name.clone(),
            since: BootTime::now(),
            ..Self::default()
        }
    }

    /// Which file was run, where that is what the order is about.
    pub(super) fn file(&self) -> Option<FileKey> {
        let ran = self.process.as_ref();
        let ran = ran.and_then(|process| file::key_of(&process.image));
        ran.or(self.file)
            .filter(|_| matches!(self.action.target, Target::Executable(_)))
    }

    /// Its line in the audit.
    pub(super) fn record(&self, step: Step, why: &str) -> Record {
        let executable = self.process.as_ref().map(|process| &process.image.executable);
        Record {
            number: 0,
            time_ns: 0,
            step,
            proposal: self.number,
            action: Some(self.action.kind),
            target: self.action.target.clone(),
            file: self.file().map(|key| (key.device, key.inode)),
            undoes: self.undoes,
            seconds: self.action.lasts.map(|lasts| lasts.as_secs()),
            executable: executable
                .map_or_else(String::new, |path| String::from_utf8_lossy(path).into_owned()),
            incident: self.action.incident.to_string(),
            evidence: match step {
                Step::Proposed => self.evidence.clone(),
                _ => Vec::new(),
            },
            before: self.change.before.to_owned(),
            after: self.change.after.to_owned(),
            who: self.who.to_string(),
            why: why.to_owned(),
            previous: String::new(),
        }
    }
}

impl Action {
    /// What `person` asked for.
    pub(super) fn asked_for(
        kind: ActionKind,
        target: Target,
        lasts: Option<Duration>,
        incident: &str,
        person: &Person,
    ) -> Self {
        let reason = match person.why.as_str() {
            "" => format!("{} asked for it", person.name),
            why => format!("{} asked for it: {why}", person.name),
        };
        Self {
            kind,
            target,
            lasts,
            incident: incident.into(),
            reason,
        }
    }
}
