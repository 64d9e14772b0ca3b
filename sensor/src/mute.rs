//! What the operator does not want to hear of, and what is looked at more closely.
//!
//! The agent has the last word on what is muted, since it knows names: of paths, cgroups, executables. When it leaves an event out it
//! tells the kernel programs of the subject, by number, and from then on they leave the like of it out where it happens.
//!
//! Invariants: programs that begin, fork and end are muted by nothing but their signal being switched off, and then only after the agent
//! has learned from them; every event that is left out is counted, in the account of its signal and for its rule; a number that may
//! have come to mean something else (an inode) is forgotten within a second or when the agent hears of it.

mod board;
mod rule;

use std::{collections::HashMap, ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};

use aya::maps::MapError;
use sensor_common::{
    FileKey, MuteKey, MuteKind, Signal,
    filter::{MUTES_MAX, RULES_MAX},
};

pub use board::{Board, Muted};
pub(crate) use rule::subjects;
pub use rule::{Pattern, Subject};

use crate::{
    capture::Filters,
    config,
    host::{Body, Event, Image, file},
};

/// A rule in force.
struct Rule {
    /// Its number in the kernel programs, and on the board.
    number: u32,
    subject: Subject,
    /// The file or directory that a path rule is for, as it was last seen.
    place: Option<FileKey>,
}

/// What is muted and what is watched.
pub struct Mutes {
    rules: Vec<Rule>,
    /// Bit *n* set: signal *n* is switched off.
    off: u64,
    /// Executables that the kernel programs mute by themselves: rule by file.
    executables: HashMap<FileKey, u32>,
    watches: Vec<(Box<str>, Option<FileKey>)>,
    board: Arc<Board>,
}

/// An event is left out because of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its signal is switched off.
    Off,
    /// A rule, by its number.
    Rule(u32),
}

impl Mutes {
    /// Nothing is muted yet. What is will be shown on `board`.
    #[must_use]
    pub fn new(board: Arc<Board>) -> Self {
        Self {
            rules: Vec::new(),
            off: 0,
            executables: HashMap::new(),
            watches: Vec::new(),
            board,
        }
    }

    /// Puts the configuration into force, in the agent and in the kernel programs. Rules that were there before keep their
    /// counts.
    ///
    /// # Errors
    /// If the kernel refuses. What was put into force by then stays so.
    pub fn apply(&mut self, config: &config::Capture, filters: &mut Filters) -> Result<(), MapError> {
        self.off = config
            .off
            .iter()
            .fold(0, |bits, signal| bits | 1 << *signal as u64);
        self.apply_rules(subjects(&config.mute), filters)?;
        self.apply_watches(&config.watch, filters)?;
        let on = self.reported_by_kernel();
        let mutes = self
            .rules
            .iter()
            .fold(0, |kinds, rule| kinds | 1 << rule.subject.kind() as u32);
        let watches = u32::from(!self.watches.is_empty());
        filters.change(|settings| {
            settings.enabled = on;
            settings.share = config.share;
            settings.fold_window = config.fold_window.as_nanos() as u64;
            settings.mutes = mutes;
            settings.watches = watches;
            settings.generation = settings.generation.wrapping_add(1);
        })?;
        self.board.show(
            self.off,
            self.rules.iter().map(|rule| (rule.number, rule.subject.clone())),
        );
        self.refresh(filters)
    }

    /// Vital signals are always reported to the agent, which leaves them out itself.
    fn reported_by_kernel(&self) -> u64 {
        let vital = Signal::ALL.into_iter().filter(|signal| signal.is_vital());
        vital.fold(((1 << Signal::COUNT) - 1) & !self.off, |bits, signal| {
            bits | 1 << signal as u64
        })
    }

    fn apply_rules(&mut self, subjects: Vec<Subject>, filters: &mut Filters) -> Result<(), MapError> {
        let (kept, over): (Vec<Rule>, Vec<Rule>) = std::mem::take(&mut self.rules)
            .into_iter()
            .partition(|rule| subjects.contains(&rule.subject));
        self.rules = kept;
        if !over.is_empty() {
            let is_over = |number| over.iter().any(|rule| rule.number == number);
            filters.unmute_rules(is_over)?;
            self.executables.retain(|_, number| !is_over(*number));
            for rule in &over {
                tracing::info!("no longer muted: {}", rule.subject);
                if let Subject::Network(network) = &rule.subject {
                    filters.unmute_network(*network)?;
                }
            }
        }
        for subject in subjects {
            if self.rules.iter().any(|rule| rule.subject == subject) {
                continue;
            }
            let Some(number) = self.free_number() else {
                tracing::warn!("more than {RULES_MAX} mutes; {subject} and what follows it is left out");
                break;
            };
            tracing::info!("muted: {subject}");
            match &subject {
                Subject::Network(network) => filters.mute_network(*network, number)?,
                Subject::User(uid) => filters.mute(key(MuteKind::User, u64::from(*uid), 0), number)?,
                _ => {}
            }
            self.board.begin(number);
            self.rules.push(Rule {
                number,
                subject,
                place: None,
            });
        }
        Ok(())
    }

    fn free_number(&self) -> Option<u32> {
        (0..RULES_MAX as u32).find(|number| self.rules.iter().all(|rule| rule.number != *number))
    }

    fn apply_watches(&mut self, wanted: &[String], filters: &mut Filters) -> Result<(), MapError> {
        let (kept, over): (Vec<_>, Vec<_>) = std::mem::take(&mut self.watches)
            .into_iter()
            .partition(|(path, _)| wanted.iter().any(|wanted| **wanted == **path));
        self.watches = kept;
        for (_, file) in over {
            file.map_or(Ok(()), |file| filters.unwatch(file))?;
        }
        for path in wanted {
            if self.watches.iter().all(|(known, _)| **known != **path) {
                self.watches.push((path.as_str().into(), None));
            }
        }
        Ok(())
    }

    /// Looks what the paths of rules and watches stand for by now. The pipeline has it done each second.
    ///
    /// # Errors
    /// If the kernel refuses to be told.
    pub fn refresh(&mut self, filters: &mut Filters) -> Result<(), MapError> {
        for rule in &mut self.rules {
            let Subject::Path(pattern) = &rule.subject else {
                continue;
            };
            let found = pattern.whole().and_then(file_at);
            if found == rule.place {
                continue;
            }
            if let Some(former) = rule.place {
                filters.unmute(file_key(MuteKind::Path, former))?;
            }
            if let Some(place) = found {
                filters.mute(file_key(MuteKind::Path, place), rule.number)?;
            }
            rule.place = found;
        }
        for (path, file) in &mut self.watches {
            let found = file_at(path.as_bytes());
            if found == *file {
                continue;
            }
            if let Some(former) = file {
                filters.unwatch(*former)?;
            }
            if let Some(found) = found {
                filters.watch(found)?;
            }
            *file = found;
        }
        Ok(())
    }

    /// Why an event is to be left out, if it is.
    #[must_use]
    pub fn reason(&self, event: &Event) -> Option<Reason> {
        let signal = event.body.signal();
        if self.off & 1 << signal as u64 != 0 {
            return Some(Reason::Off);
        }
        if signal.is_vital() || self.rules.is_empty() {
            return None;
        }
        let rule = self.rules.iter().find(|rule| rule.subject.is_of(event))?;
        Some(Reason::Rule(rule.number))
    }

    /// Notes that so many events were left out.
    pub fn count(&self, reason: Reason, events: u64) {
        if let Reason::Rule(number) = reason {
            self.board.count(number, events);
        }
    }

    /// Whether the kernel programs can learn from an event that was left out for this reason, or passed on.
    #[must_use]
    pub fn teaches(&self, reason: Option<Reason>, event: &Event) -> bool {
        match reason {
            None => !self.executables.is_empty() && matches!(event.body, Body::Exec(_)),
            Some(Reason::Off) => false,
            Some(Reason::Rule(number)) => self
                .rule(number)
                .is_some_and(|rule| matches!(rule.subject, Subject::Cgroup(_) | Subject::Executable(_))),
        }
    }

    /// Lets the kernel programs do by themselves from now on what was done with this event.
    ///
    /// # Errors
    /// If the kernel refuses to be told.
    pub fn teach(
        &mut self,
        reason: Option<Reason>,
        event: &Event,
        filters: &mut Filters,
    ) -> Result<(), MapError> {
        let Some(process) = &event.process else {
            return Ok(());
        };
        let Some(Reason::Rule(number)) = reason else {
            return self.correct(&process.image, filters);
        };
        match self.rule(number).map(|rule| &rule.subject) {
            Some(Subject::Cgroup(_)) => {
                filters.mute(key(MuteKind::Cgroup, process.workload.cgroup_id, 0), number)
            }
            Some(Subject::Executable(_)) => {
                let Some(file) = file::key_of(&process.image) else {
                    return Ok(());
                };
                if self.executables.len() >= MUTES_MAX {
                    return Ok(());
                }
                self.executables.insert(file, number);
                filters.mute(file_key(MuteKind::Executable, file), number)
            }
            _ => Ok(()),
        }
    }

    fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.number == number)
    }

    /// Another program in a file that is muted by its number: that is not what the rule was for.
    fn correct(&mut self, image: &Image, filters: &mut Filters) -> Result<(), MapError> {
        let Some(file) = file::key_of(image) else {
            return Ok(());
        };
        let Some(number) = self.executables.get(&file) else {
            return Ok(());
        };
        let is_still = self.rule(*number).is_some_and(
            |rule| matches!(&rule.subject, Subject::Executable(pattern) if pattern.is(&image.executable)),
        );
        if is_still {
            return Ok(());
        }
        self.executables.remove(&file);
        filters.unmute(file_key(MuteKind::Executable, file))
    }
}

fn key(kind: MuteKind, number: u64, device: u32) -> MuteKey {
    MuteKey {
        number,
        device,
        kind: kind as u32,
    }
}

fn file_key(kind: MuteKind, file: FileKey) -> MuteKey {
    key(kind, file.inode, file.device)
}

/// What is at this path on the host, links followed.
fn file_at(path: &[u8]) -> Option<FileKey> {
    file::key_at(Path::new(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests;
