//! What was proposed, decided and done, by whom and why, in a file that shows it when somebody changes it afterwards.
//!
//! One JSON object a line. Each has the digest of the line before it, and ends with its own: the SHA-256 of the line as it would be
//! without that member. A line that was changed, taken out or put in breaks the chain at its place. What the file alone cannot show is that its end was cut off;
//! every outcome in the stream, therefore, bears number and digest of its line, and the collector keeps what the file must contain.
//!
//! The file grows by a few hundred bytes a step. A line is written before the step that it announces, and forced to the disk
//! soon after, by a thread that nobody waits for. If the disk is full or gone, the steps are taken all the same: whoever fills a disk
//! must not be safe from a response. The chain then goes on in memory, up to [`WAITING_MAX`] lines, and is written once it can be.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{ActionKind, ActionResult, Person, Target};
use crate::{hex::hex, privacy::redact, time::WallTime};

/// Name of the file in the agent's state directory.
pub const FILE: &str = "audit.jsonl";

/// Lines that wait for a disk; the oldest goes first, and the chain shows the gap.
const WAITING_MAX: usize = 1_024;

/// Longest line that is read.
const LINE_MAX: u64 = 1 << 20;

/// Longest text of a record in bytes: reasons and paths are others' words.
const TEXT_MAX: usize = 4_096;

/// Longest name of what speaks for something: ids of rules are others' words, too.
const EVIDENCE_LEN: usize = 256;

/// What one line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It ought to be done.
    Proposed,
    /// A person wants it done.
    Approved,
    /// A person wants it undone.
    Undoing,
    /// The collector asked for what is no action, or for what this host does not let it ask for.
    Requested,
    /// What the agent leaves out, and what it does about incidents: as it began, or as somebody changed it.
    Configured,
    /// What became of it.
    #[serde(untagged)]
    Ended(ActionResult),
}

/// One line's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counts the lines, from 1.
    pub number: u64,
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    /// What happened.
    pub step: Step,
    /// The line in which it was proposed; its own number there.
    pub proposal: u64,
    /// What it is about, where that is an action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionKind>,
    /// Whom or what it is directed at. A process began at `start` nanoseconds of `CLOCK_BOOTTIME`.
    pub target: Target,
    /// Where that is an executable of which a process ran: its device (major << 20 | minor) and inode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<(u32, u64)>,
    /// The number of what it undoes, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<u64>,
    /// For how many seconds; absent where it is for good, or until it is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// What the process ran that it is about, as far as is known; empty if there is none.
    pub executable: String,
    /// The incident that it is about; empty if there is none.
    pub incident: String,
    /// What speaks for it where it is proposed: rules by their ids, and models with the probability of what they saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// How the target stood before something was done to it, in a word; empty where nothing was, or it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub before: String,
    /// How it stands since.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after: String,
    /// `policy`, `time`, or a person.
    pub who: String,
    /// Why, in words.
    pub why: String,
    /// Digest of the line before it; empty in the first.
    pub previous: String,
}

impl Record {
    /// Of what is no action; the person's reason says what it is.
    #[must_use]
    pub fn note(step: Step, person: &Person) -> Self {
        Self {
            number: 0,
            time_ns: 0,
            step,
            proposal: 0,
            action: None,
            target: Target::Host,
            file: None,
            undoes: None,
            seconds: None,
            executable: String::new(),
            incident: String::new(),
            evidence: Vec::new(),
            before: String::new(),
            after: String::new(),
            who: person.name.to_string(),
            why: person.why.clone(),
            previous: String::new(),
        }
    }
}

/// Which line of an audit, and its digest in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// From 1; 0: none.
    pub number: u64,
    /// SHA-256; empty: none.
    pub digest: Box<str>,
}

/// Why a file is not an audit, or not the one that was written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It cannot be read.
    #[error("cannot read the audit {}: {cause}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A line is not what was written, or not where it was written.
    #[error("{}:{line}: {what}; what comes before it is intact", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// The end of a chain, and where it goes on.
#[derive(Debug)]
pub struct Audit {
    path: Option<PathBuf>,
    file: Option<File>,
    last: Mark,
    /// Lines that are not in the file yet.
    waiting: VecDeque<String>,
    dirty: bool,
}

impl Audit {
    /// Goes on with the file in `directory`, or begins one; without a directory the chain is in the stream alone. A file that is
    /// broken is set aside, and said so.
    #[must_use]
    pub fn open(directory: Option<&Path>) -> Self {
        let mut audit = Self {
            path: directory.map(|directory| directory.join(FILE)),
            file: None,
            last: Mark::default(),
            waiting: VecDeque::new(),
            dirty: false,
        };
        if let Some(path) = audit.path.clone() {
            audit.last = last_of(&path).unwrap_or_else(|error| {
                set_aside(&path, &error);
                Mark::default()
            });
            audit.reopen();
        }
        audit
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        let open = || {
            if let Some(directory) = path.parent() {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory)?;
            }
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)
        };
        self.file = open()
            .inspect_err(|error| {
                tracing::warn!(
                    "cannot write the audit {}: {error}; it is in the stream",
                    path.display()
                );
            })
            .ok();
    }

    /// Adds a line; its number is filled in, and is the proposal's own where that is 0.
    pub fn add(&mut self, mut record: Record) -> Mark {
        record.number = self.last.number + 1;
        record.time_ns = WallTime::now().0;
        if record.proposal == 0 {
            record.proposal = record.number;
        }
        // Secrets never reach the disk: reasons quote what programs were started with.
        record.why = String::from_utf8_lossy(&redact::text(record.why.as_bytes())).into_owned();
        for text in [
            &mut record.executable,
            &mut record.incident,
            &mut record.who,
            &mut record.why,
        ] {
            text.truncate(text.floor_char_boundary(TEXT_MAX));
        }
        for text in &mut record.evidence {
            text.truncate(text.floor_char_boundary(EVIDENCE_LEN));
        }
        record.previous = self.last.digest.to_string();
        // Texts and numbers can always be written.
        let mut line = serde_json::to_string(&record).unwrap_or_default();
        let digest = digest(&line);
        line.pop();
        line.push_str(&format!("{DIGEST}{digest}{END}\n"));
        self.last = Mark {
            number: record.number,
            digest: digest.into(),
        };
        if self.path.is_some() {
            if self.waiting.len() >= WAITING_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back(line);
            self.write();
        }
        self.last.clone()
    }

    fn write(&mut self) {
        if self.file.is_none() {
            self.reopen();
        }
        let Some(file) = &mut self.file else { return };
        while let Some(line) = self.waiting.front() {
            let end = file.stream_position();
            if let Err(error) = file.write_all(line.as_bytes()) {
                tracing::warn!(
                    "cannot write to the audit: {error}; {} lines wait",
                    self.waiting.len()
                );
                // Half a line would break the chain.
                let _ = end.and_then(|end| file.set_len(end));
                self.file = None;
                return;
            }
            self.waiting.pop_front();
            self.dirty = true;
        }
    }

    /// Writes what waits, and has what was written forced to the disk; nobody waits for that.
    pub fn keep(&mut self) {
        if !self.waiting.is_empty() {
            self.write();
        }
        if std::mem::take(&mut self.dirty)
            && let Some(file) = self.file.as_ref().and_then(|file| file.try_clone().ok())
        {
            std::thread::spawn(move || file.sync_data());
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = file.sync_data();
        }
    }
}

/// What stands before the digest at the end of a line, and behind it.
const DIGEST: &str = ",\"digest\":\"";
const END: &str = "\"}";

fn digest(content: &str) -> String {
    hex(&Sha256::digest(content.as_bytes()))
}

/// The last line of a file that is there; none where it is not.
fn last_of(path: &Path) -> Result<Mark, AuditError> {
    let read = |cause| AuditError::Read {
        path: path.to_owned(),
        cause,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Mark::default()),
        Err(cause) => return Err(read(cause)),
    };
    let length = file.seek(SeekFrom::End(0)).map_err(read)?;
    if length == 0 {
        return Ok(Mark::default());
    }
    let from = length.saturating_sub(LINE_MAX);
    file.seek(SeekFrom::Start(from)).map_err(read)?;
    let mut end = Vec::new();
    file.take(LINE_MAX).read_to_end(&mut end).map_err(read)?;
    let broken = |what| AuditError::Broken {
        path: path.to_owned(),
        line: 0,
        what,
    };
    let text = end
        .strip_suffix(b"\n")
        .ok_or_else(|| broken("the last line is cut off"))?;
    let begin = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let (_, mark) = parse(&text[begin..]).map_err(broken)?;
    Ok(mark)
}

/// A line without its end; its place in the chain is not looked at.
pub(super) fn parse(line: &[u8]) -> Result<(Record, Mark), &'static str> {
    const FOREIGN: &str = "this is not a line of an audit";
    let line = std::str::from_utf8(line).map_err(|_| FOREIGN)?;
    let line = line.strip_suffix(END).ok_or(FOREIGN)?;
    let (content, said) = line.rsplit_once(DIGEST).ok_or(FOREIGN)?;
    let content = format!("{content}}}");
    if digest(&content) != said {
        return Err("the line was changed: its digest does not fit it");
    }
    let record: Record = serde_json::from_str(&content).map_err(|_| FOREIGN)?;
    let mark = Mark {
        number: record.number,
        digest: said.into(),
    };
    Ok((record, mark))
}

fn set_aside(path: &Path, error: &AuditError) {
    let aside = path.with_extension(format!("jsonl.broken-{}", WallTime::now().0));
    match std::fs::rename(path, &aside) {
        Ok(()) => tracing::warn!(
            "{error}; it is kept as {}, and a new one is begun",
            aside.display()
        ),
        Err(cause) => tracing::warn!("{error}; it could not be set aside: {cause}"),
    }
}

/// Reads an audit line by line and checks the chain.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    line: u64,
    last: Option<Mark>,
}

impl Reader {
    /// Of a file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let file = File::open(path).map_err(|cause| AuditError::Read {
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::new(file),
            line: 0,
            last: None,
        })
    }

    /// The last line that was read and found intact.
    #[must_use]
    pub fn last(&self) -> Option<&Mark> {
        self.last.as_ref()
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read, or a line is not what was written there.
    pub fn next_record(&mut self) -> Result<Option<Record>, AuditError> {
        let mut line = Vec::new();
        self.line += 1;
        let limited = &mut (&mut self.file).take(LINE_MAX);
        limited
            .read_until(b'\n', &mut line)
            .map_err(|cause| AuditError::Read {
                path: self.path.clone(),
                cause,
            })?;
        if line.is_empty() {
            return Ok(None);
        }
        let broken = |what| AuditError::Broken {
            path: self.path.clone(),
            line: self.line,
            what,
        };
        let text = line
            .strip_suffix(b"\n")
            .ok_or_else(|| broken("the line is cut off"))?;
        let (record, mark) = parse(text).map_err(broken)?;
        let expected = self.last.as_ref().map(|last| (last.number + 1, &*last.digest));
        let (number, digest) = expected.unwrap_or((1, ""));
        if record.number != number || record.previous != digest {
            return Err(broken(
                "it does not follow the line before it: lines were taken out, put in or moved",
            ));
        }
        self.last = Some(mark);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests;
