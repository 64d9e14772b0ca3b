//! Which program starts which, per workload.
//!
//! The context of an exec is the program that ran before it: after a fork that is the parent's, and in a chain of
//! execs the one that was replaced. So `nginx → sh` is told from `cron → sh` wherever the shell comes from.

use std::{fmt::Write, sync::Arc};

use sensor_behaviour::{
    SnapshotError,
    novelty::{Learning, Limits, Novelty, Opinion, Surprise},
};
use serde::{Deserialize, Serialize};

use super::{Severity, Signal, detector::Suspicion, incident::stable_hash, incidents::key_of};
use crate::{
    config,
    host::{Body, Event, Exec, Process, Workload},
    time::BootTime,
};

/// How much evidence it takes to call the new ordinary for a subject.
const ENOUGH: u64 = 10;

/// What a service manager starts is what a unit file says: after a change or a restart it may well be new to the
/// model, and is no sign that the service was taken over. It is learned and not flagged; that a unit file
/// was written is for another detector to say.
const SERVICE_MANAGERS: [&[u8]; 4] = [
    b"/usr/lib/systemd/systemd",
    b"/usr/lib/systemd/systemd-executor",
    b"/lib/systemd/systemd",
    b"/lib/systemd/systemd-executor",
];

/// Longest path in a sentence, in characters.
const SHOWN: usize = 120;

/// What kind of thing a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectKind {
    /// A systemd unit.
    Unit,
    /// A container.
    Container,
    /// Any other cgroup.
    Cgroup,
    /// What a person started from a login.
    Session,
    /// What is in no cgroup of its own.
    Host,
}

impl SubjectKind {
    /// The kind of a workload; `None` where its cgroup could not be read: many may hide behind that name.
    #[must_use]
    pub fn of(workload: &Workload) -> Option<Self> {
        let (kind, _) = workload.name.split_once(':').unwrap_or((&workload.name, ""));
        match kind {
            "unit" => Some(Self::Unit),
            "container" => Some(Self::Container),
            "cgroup" => Some(Self::Cgroup),
            "session" => Some(Self::Session),
            "host" => Some(Self::Host),
            _ => None,
        }
    }
}

/// The model of who starts whom.
#[derive(Debug)]
pub struct Lineage {
    model: Novelty,
    limits: Limits,
    learning: Learning,
    flagged: Vec<SubjectKind>,
    max_p_value: f64,
}

impl Lineage {
    /// A model that knows nothing yet.
    #[must_use]
    pub fn new(config: &config::Detect) -> Self {
        let limits = Limits {
            bytes: config.max_model_bytes,
            ..Limits::default()
        };
        Self {
            model: Novelty::new(limits, config.learning()),
            limits,
            learning: config.learning(),
            flagged: config.flag.clone(),
            max_p_value: config.max_p_value,
        }
    }

    /// What was learned.
    pub(super) fn model(&self) -> &Novelty {
        &self.model
    }

    pub(super) fn model_mut(&mut self) -> &mut Novelty {
        &mut self.model
    }

    /// A model with the same bounds that knows nothing.
    pub(super) fn unlearned(&self) -> Novelty {
        Novelty::new(self.limits, self.learning)
    }

    /// The same of a snapshot.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Novelty, SnapshotError> {
        Novelty::from_snapshot(bytes, self.limits, self.learning)
    }

    /// Somebody says that an exec is normal.
    pub(super) fn accept(&mut self, event: &Event) {
        if let (Body::Exec(exec), Some(process)) = (&event.body, &event.process) {
            let context = context(exec, event.parent.as_deref());
            let subject = &process.workload.name;
            self.model
                .accept(&[subject], context, &process.image.executable, event.time.0);
        }
    }

    /// Learns that `process` runs, as a child of `parent`.
    pub(super) fn seed(&mut self, process: &Process, parent: Option<&Process>, now: BootTime) {
        if SubjectKind::of(&process.workload).is_none() || process.kernel_thread {
            return;
        }
        let subject = &process.workload.name;
        self.model.introduce(subject, now.0);
        let executable = &process.image.executable;
        let context = parent.map_or(&[][..], |parent| &parent.image.executable);
        // A fork that did not execute says nothing of who starts whom.
        if !executable.is_empty() && **executable != *context {
            self.model.accept(&[subject], context, executable, now.0);
        }
    }

    /// What there is to say of an event; nothing of what is not an exec, or is known, or still being learned.
    pub(super) fn judge(&mut self, event: &Arc<Event>) -> Option<Suspicion> {
        let (Body::Exec(exec), Some(process)) = (&event.body, &event.process) else {
            return None;
        };
        let kind = SubjectKind::of(&process.workload)?;
        let subject = &process.workload.name;
        let context = context(exec, event.parent.as_deref());
        let executable = &process.image.executable;
        if SERVICE_MANAGERS.contains(&context) {
            self.model.accept(&[subject], context, executable, event.time.0);
            return None;
        }
        let Opinion::Surprise(surprise) = self.model.observe(&[subject], context, executable, event.time.0)
        else {
            return None;
        };
        let ordinary = surprise.here.observations >= ENOUGH && surprise.p_value > self.max_p_value;
        if ordinary || !self.flagged.contains(&kind) {
            self.model.accept(&[subject], context, executable, event.time.0);
            return None;
        }
        let shell = interpreter(executable);
        let mut reasons = vec![sentence(process, context, &surprise)];
        reasons.extend(peculiarities(exec).map(str::to_owned));
        let cause = stable_hash(&[b"lineage", context, executable]);
        let signal = Signal {
            cause,
            subject: subject.clone(),
            source: "lineage",
            p_value: surprise.p_value,
            reasons,
            techniques: techniques(shell, exec).into_iter().map(Into::into).collect(),
            rule: None,
            event: Arc::clone(event),
        };
        let severity = if shell.is_some() || exec.memfd {
            Severity::High
        } else {
            Severity::Medium
        };
        Some(Suspicion {
            key: key_of(&signal, cause),
            signal: Arc::new(signal),
            evidence: Vec::new(),
            severity,
        })
    }
}

/// What ran before, or the parent where that is not known.
pub(super) fn context<'a>(exec: &'a Exec, parent: Option<&'a Process>) -> &'a [u8] {
    let previous = exec.previous.as_ref().map(|image| &*image.executable);
    previous
        .or_else(|| parent.map(|parent| &*parent.image.executable))
        .unwrap_or_default()
}

/// The ATT&CK technique of an interpreter of commands or scripts: T1059, with the sub-technique where there is one.
fn interpreter(executable: &[u8]) -> Option<&'static str> {
    let name = executable.rsplit(|byte| *byte == b'/').next()?;
    let name = std::str::from_utf8(name).ok()?;
    // python3.11, perl5.36, lua5.4
    match name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-')) {
        "sh" | "bash" | "rbash" | "dash" | "zsh" | "ksh" | "ksh93" | "mksh" | "ash" | "busybox" | "fish"
        | "csh" | "tcsh" => Some("T1059.004"),
        "python" | "pypy" => Some("T1059.006"),
        "node" | "nodejs" | "deno" | "bun" => Some("T1059.007"),
        "lua" | "luajit" => Some("T1059.011"),
        "perl" | "ruby" | "php" | "tclsh" | "awk" | "gawk" | "mawk" | "pwsh" | "expect" => Some("T1059"),
        _ => None,
    }
}

/// An interpreter is T1059, another program T1106 (Native API: execve itself), a program without a file T1620
/// (Reflective Code Loading), and one whose file was removed T1070.004 (File Deletion).
fn techniques(interpreter: Option<&'static str>, exec: &Exec) -> Vec<&'static str> {
    let mut techniques = vec![interpreter.unwrap_or("T1106")];
    if exec.memfd {
        techniques.push("T1620");
    } else if exec.unlinked {
        techniques.push("T1070.004");
    }
    techniques
}

fn peculiarities(exec: &Exec) -> impl Iterator<Item = &'static str> {
    [
        (
            exec.memfd,
            "The program is in memory only: it was never a file on a disk.",
        ),
        (
            exec.unlinked && !exec.memfd,
            "The program's file was deleted before it ran.",
        ),
    ]
    .into_iter()
    .filter_map(|(applies, text)| applies.then_some(text))
}

fn sentence(process: &Process, context: &[u8], surprise: &Surprise) -> String {
    let subject = subject_in_words(&process.workload);
    let executable = printable(&process.image.executable);
    let mut text = format!("{subject} has started {executable}");
    if !context.is_empty() {
        let _ = write!(text, " from {}", printable(context));
    }
    text.push_str(" for the first time");
    let starts = |count: u64| {
        if count == 1 {
            "1 start".to_owned()
        } else {
            format!("{count} starts")
        }
    };
    if surprise.here.observations == 0 {
        text.push_str("; it was never seen to start anything");
    } else if surprise.here.context_is_new {
        text.push_str(&match surprise.here.observations {
            1 => "; its only start so far was not from there".to_owned(),
            all => format!("; none of its {all} starts so far was from there"),
        });
    } else {
        let known: Vec<_> = surprise
            .alternatives
            .iter()
            .map(|(name, count)| format!("{} ({count})", printable(name)))
            .collect();
        let others = surprise.here.distinct - known.len();
        let more = if others > 0 {
            format!(" and {others} others")
        } else {
            String::new()
        };
        let _ = write!(
            text,
            "; in {} it ran only {}{more}",
            starts(surprise.here.observations),
            known.join(", ")
        );
    }
    text
}

/// `nginx.service`, `container 3f2a9c1be77d`, `user 1000`, `the host`.
pub(super) fn subject_in_words(workload: &Workload) -> String {
    match workload.name.split_once(':') {
        Some(("unit", unit)) => unit.to_owned(),
        Some(("container", id)) => format!("container {id}"),
        Some(("session", user)) => format!("user {user}"),
        Some((_, path)) => format!("cgroup {path}"),
        None => format!("the {}", workload.name),
    }
    .chars()
    .flat_map(shown)
    .take(SHOWN)
    .collect()
}

/// Text of whoever named the file, made fit for a terminal and a log: one line, no control characters, not too long.
pub(super) fn printable(bytes: &[u8]) -> String {
    printable_within(bytes, SHOWN)
}

/// The same, up to `limit` characters.
pub(super) fn printable_within(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().flat_map(shown).take(limit).collect();
    if text.chars().nth(limit).is_some() {
        shown.push('…');
    }
    shown
}

fn shown(character: char) -> impl Iterator<Item = char> {
    // Bidirectional overrides and invisible characters are escaped too: `exe.hs` must not read `sh.exe`.
    let plain = character.is_alphanumeric() || character.is_ascii_graphic() || matches!(character, ' ' | '…');
    let (kept, escaped) = if plain {
        (Some(character), None)
    } else {
        (None, Some(character.escape_unicode()))
    };
    kept.into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests;
