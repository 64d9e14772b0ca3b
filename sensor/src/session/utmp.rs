//! `wtmp` and `btmp`: records of fixed length, appended by whoever lets people in. The format is glibc's `struct utmpx` on
//! 64-bit x86 (`utmp(5)`).

use std::{
    fs::File,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use sensor_common::Signal;

use super::{TURN_MAX, Told, text};
use crate::host::{Session, Source};

/// Length of a record.
pub const RECORD: usize = 384;

const USER_PROCESS: i16 = 7;
const DEAD_PROCESS: i16 = 8;
const VOICE: u16 = 1;

/// What a file is a record of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `wtmp`: logins and logouts.
    Sessions,
    /// `btmp`: failures.
    Failures,
}

/// What a record says, if it is one that counts. A logout names the terminal alone.
#[must_use]
pub fn parse(record: &[u8; RECORD], kind: Kind) -> Option<Told> {
    let number = |at: usize| record.get(at..at + 4)?.try_into().ok().map(i32::from_le_bytes);
    let field = |at: usize, length: usize| {
        let field = record.get(at..at + length).unwrap_or_default();
        text(field.split(|byte| *byte == 0).next().unwrap_or_default())
    };
    let entry = i16::from_le_bytes([record[0], record[1]]);
    let signal = match (kind, entry) {
        (Kind::Failures, _) => Signal::AuthFailure,
        (Kind::Sessions, USER_PROCESS) => Signal::Login,
        (Kind::Sessions, DEAD_PROCESS) => Signal::Logout,
        _ => return None,
    };
    let (terminal, user, remote) = (field(8, 32), field(44, 32), field(76, 256));
    // The end of something that was no session, as a getty.
    if signal == Signal::Logout && terminal.is_empty() {
        return None;
    }
    Some(Told {
        session: Session {
            signal,
            user,
            uid: None,
            from_uid: None,
            terminal,
            remote,
            program: "".into(),
            source: Source::Utmp,
        },
        pid: u32::try_from(number(4)?).unwrap_or(0),
        voice: VOICE,
    })
}

/// Reads what is appended to a file, from its end on, through rotations.
pub(super) struct Follower {
    path: PathBuf,
    kind: Kind,
    inode: u64,
    offset: u64,
    /// Who is logged in where, so that a logout has a name: bounded by the number of terminals, and by [`TURN_MAX`].
    users: Vec<(Box<str>, Box<str>)>,
}

impl Follower {
    pub(super) fn new(path: &Path, kind: Kind) -> Self {
        let metadata = std::fs::metadata(path).ok();
        Self {
            path: path.to_owned(),
            kind,
            inode: metadata.as_ref().map_or(0, |metadata| metadata.ino()),
            offset: metadata.map_or(0, |metadata| metadata.len() / RECORD as u64 * RECORD as u64),
            users: Vec::new(),
        }
    }

    /// Adds what came since.
    pub(super) fn read(&mut self, told: &mut Vec<Told>) {
        // Many hosts have none; one that is made later is read from its beginning.
        let Ok(file) = File::open(&self.path) else { return };
        let Ok(metadata) = file.metadata() else { return };
        if metadata.ino() != self.inode || metadata.len() < self.offset {
            self.inode = metadata.ino();
            self.offset = 0;
        }
        let mut record = [0; RECORD];
        for _ in 0..TURN_MAX {
            if self.offset + RECORD as u64 > metadata.len()
                || file.read_exact_at(&mut record, self.offset).is_err()
            {
                return;
            }
            self.offset += RECORD as u64;
            if let Some(mut found) = parse(&record, self.kind) {
                self.name(&mut found.session);
                told.push(found);
            }
        }
    }

    fn name(&mut self, session: &mut Session) {
        let place = self
            .users
            .iter()
            .position(|(terminal, _)| *terminal == session.terminal);
        match (session.signal, place) {
            (Signal::Login, _) => {
                if let Some(place) = place {
                    self.users.swap_remove(place);
                }
                if self.users.len() == TURN_MAX {
                    self.users.swap_remove(0);
                }
                self.users.push((session.terminal.clone(), session.user.clone()));
            }
            (Signal::Logout, Some(place)) => session.user = self.users.swap_remove(place).1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn record(kind: i16, pid: i32, line: &str, user: &str, host: &str) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        record[..2].copy_from_slice(&kind.to_le_bytes());
        record[4..8].copy_from_slice(&pid.to_le_bytes());
        for (at, text) in [(8, line), (44, user), (76, host)] {
            record[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        record
    }

    #[test]
    fn a_file_is_followed_through_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wtmp");
        std::fs::write(&path, record(USER_PROCESS, 1, "pts/0", "old", "")).unwrap();
        let mut follower = Follower::new(&path, Kind::Sessions);
        let mut append = |record: [u8; RECORD]| {
            File::options()
                .append(true)
                .create(true)
                .open(&path)
                .unwrap()
                .write_all(&record)
                .unwrap();
            let mut told = Vec::new();
            follower.read(&mut told);
            told.into_iter()
                .map(|told| {
                    (
                        told.session.signal,
                        told.pid,
                        told.session.user,
                        told.session.remote,
                    )
                })
                .collect::<Vec<_>>()
        };
        let login = append(record(USER_PROCESS, 42, "pts/1", "alice", "10.0.0.9"));
        assert_eq!(login, [(Signal::Login, 42, "alice".into(), "10.0.0.9".into())]);
        assert_eq!(append(record(2, 0, "~", "reboot", "6.1")), []);
        std::fs::remove_file(&path).unwrap();
        let logout = append(record(DEAD_PROCESS, 42, "pts/1", "", ""));
        assert_eq!(logout, [(Signal::Logout, 42, "alice".into(), "".into())]);
    }

    #[test]
    fn a_failure_is_one_whatever_its_type() {
        let failure = parse(&record(6, 9, "ssh:notty", "admin", "1.2.3.4"), Kind::Failures).unwrap();
        assert_eq!(
            (failure.session.signal, &*failure.session.user),
            (Signal::AuthFailure, "admin")
        );
        assert_eq!(parse(&[0xff; RECORD], Kind::Failures).unwrap().pid, 0);
    }
}
