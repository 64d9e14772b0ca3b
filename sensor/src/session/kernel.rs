//! What processes show of sessions: a login session's number that is new, and what `su` and its like execute.

use std::collections::VecDeque;

use sensor_common::Signal;

use super::{TURN_MAX, Told, audit::ELEVATORS};
use crate::host::{Body, Event, Process, Session, Source, Tree};

const LOGIN: u16 = 2;
const ELEVATION: u16 = 3;

/// Programs that begin sessions in which nobody is.
const WITHOUT_PEOPLE: [&[u8]; 6] = [
    b"cron",
    b"crond",
    b"atd",
    b"anacron",
    b"systemd",
    b"systemd-executor",
];

/// The sessions that are known: the latest [`TURN_MAX`].
#[derive(Debug, Default)]
pub struct Seen {
    sessions: VecDeque<u32>,
}

impl Seen {
    pub(super) fn know(&mut self, tree: &Tree) {
        for process in tree.iter() {
            self.is_new(process);
        }
    }

    pub(super) fn of_event(&mut self, event: &Event) -> Option<Told> {
        let process = event.process.as_deref()?;
        let elevation = match &event.body {
            Body::Exec(exec) => {
                let elevator = exec
                    .previous
                    .as_ref()
                    .is_some_and(|image| is_elevator(&image.executable));
                elevator
                    .then(|| elevation(event, process, &exec.previous.as_ref()?.executable))
                    .flatten()
            }
            _ => None,
        };
        elevation.or_else(|| self.login(process))
    }

    /// A session's number is given when its login user is set, which is once.
    fn login(&mut self, process: &Process) -> Option<Told> {
        if !self.is_new(process) || WITHOUT_PEOPLE.contains(&name(&process.image.executable)) {
            return None;
        }
        Some(Told {
            session: Session {
                uid: process.credentials.login_uid,
                ..session(Signal::Login, &process.image.executable)
            },
            pid: process.id.tgid,
            voice: LOGIN,
        })
    }

    fn is_new(&mut self, process: &Process) -> bool {
        let (Some(session), Some(_)) = (process.credentials.session_id, process.credentials.login_uid) else {
            return false;
        };
        if self.sessions.contains(&session) {
            return false;
        }
        if self.sessions.len() == TURN_MAX {
            self.sessions.pop_front();
        }
        self.sessions.push_back(session);
        true
    }
}

/// The elevator executes what was asked for: itself, or in a child of its own.
fn elevation(event: &Event, process: &Process, elevator: &[u8]) -> Option<Told> {
    let parent = event
        .parent
        .as_deref()
        .filter(|parent| parent.image.executable[..] == *elevator);
    let from = parent.map_or(process.credentials.login_uid, |parent| {
        Some(parent.credentials.uid)
    });
    Some(Told {
        session: Session {
            uid: Some(process.credentials.uid),
            from_uid: from,
            ..session(Signal::Elevation, elevator)
        },
        pid: parent.map_or(process.id.tgid, |parent| parent.id.tgid),
        voice: ELEVATION,
    })
}

fn session(signal: Signal, program: &[u8]) -> Session {
    Session {
        signal,
        user: "".into(),
        uid: None,
        from_uid: None,
        terminal: "".into(),
        remote: "".into(),
        program: super::text(program),
        source: Source::Kernel,
    }
}

fn is_elevator(executable: &[u8]) -> bool {
    ELEVATORS
        .iter()
        .any(|elevator| name(executable) == elevator.as_bytes())
}

fn name(executable: &[u8]) -> &[u8] {
    executable.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
