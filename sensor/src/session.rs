//! Who logs in, leaves, becomes another, or fails to prove who they are, from where a host records it.
//!
//! Three voices tell of the same happening: the audit messages of PAM, the files `wtmp` and `btmp`, and what processes are
//! seen to do. The first is reported, what others say of it within [`WINDOW`] is counted as aggregated. Which of them a host
//! has differs; without any, nothing is reported.
//!
//! Bounds: [`TURN_MAX`] messages of each source in one look, [`RECENT_MAX`] happenings that are remembered; texts are cut
//! to [`TEXT_MAX`] bytes. Everything that is read here was written by whoever wants to log in.

pub mod audit;
mod kernel;
mod socket;
pub mod utmp;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use sensor_common::Signal;

use self::{socket::AuditSocket, utmp::Follower};
use crate::{
    config,
    export::Users,
    host::{Event, Session, Tree},
    time::BootTime,
};

pub use kernel::Seen;

/// How far apart two sources may tell of one happening.
const WINDOW: Duration = Duration::from_secs(10);
/// How long the kernel's word of a login waits for a better one.
const PATIENCE: Duration = Duration::from_secs(3);
/// Happenings that are remembered, to know them again.
const RECENT_MAX: usize = 256;
/// Messages that are taken from each source at once.
pub const TURN_MAX: usize = 256;
/// Longest text that is kept of a message.
pub const TEXT_MAX: usize = 256;

/// One voice's word of a happening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it is.
    pub session: Session,
    /// The process that it is about, as far as the source says.
    pub pid: u32,
    /// Which voice: one source may tell of one happening in two ways.
    pub voice: u16,
}

/// What a look at the sources brought.
#[derive(Debug, Default)]
pub struct Look {
    /// In the order in which the sources told it.
    pub told: Vec<Told>,
    /// How often messages were lost before they could be read; how many, nobody knows.
    pub lost: u64,
}

/// All sources, and what they told lately.
pub struct Sessions {
    files: [Follower; 2],
    audit: Option<AuditSocket>,
    kernel: Seen,
    users: Arc<Users>,
    recent: VecDeque<Recent>,
    /// What the kernel shows of a login, held back for those who know more of it.
    pending: VecDeque<(Told, BootTime)>,
}

struct Recent {
    signal: Signal,
    key: Key,
    time: BootTime,
    voices: Vec<u16>,
}

/// What makes two words be about one happening.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    User(Box<str>),
    Process(u32),
}

impl Sessions {
    /// Begins to listen: what was recorded before is not told.
    #[must_use]
    pub fn new(config: &config::Session, users: Arc<Users>) -> Self {
        let audit = AuditSocket::open()
            .inspect_err(|error| {
                tracing::info!(
                    "no audit messages ({error}): logins are told by wtmp, btmp and the kernel alone"
                );
            })
            .ok();
        Self {
            files: [
                Follower::new(&config.wtmp, utmp::Kind::Sessions),
                Follower::new(&config.btmp, utmp::Kind::Failures),
            ],
            audit,
            kernel: Seen::default(),
            users,
            recent: VecDeque::new(),
            pending: VecDeque::new(),
        }
    }

    /// What the sources told since the last look. Reads what is there and waits for nothing.
    pub fn look(&mut self, now: BootTime) -> Look {
        let mut look = Look::default();
        if let Some(audit) = &mut self.audit {
            audit.read(&mut look);
        }
        for file in &mut self.files {
            file.read(&mut look.told);
        }
        while let Some((told, _)) = self
            .pending
            .pop_front_if(|(_, since)| now.since(*since) > PATIENCE)
        {
            look.told.push(told);
        }
        for told in &mut look.told {
            self.name(&mut told.session);
        }
        look
    }

    /// Sessions that are there already are nobody's coming.
    pub fn know(&mut self, tree: &Tree) {
        self.kernel.know(tree);
    }

    /// What an event of a process says of a session. A login is told by the next [look](Self::look) but a few.
    pub fn of_event(&mut self, event: &Event) -> Option<Told> {
        let mut told = self.kernel.of_event(event)?;
        if told.session.signal == Signal::Login && self.pending.len() < TURN_MAX {
            self.pending.push_back((told, event.time));
            return None;
        }
        self.name(&mut told.session);
        Some(told)
    }

    fn name(&self, session: &mut Session) {
        if let (true, Some(uid)) = (session.user.is_empty(), session.uid) {
            session.user = self.users.name(uid).into();
        }
    }

    /// Whether this is the first word of a happening.
    pub fn is_first(&mut self, told: &Told, now: BootTime) -> bool {
        while self
            .recent
            .front()
            .is_some_and(|recent| now.since(recent.time) > WINDOW)
        {
            self.recent.pop_front();
        }
        let key = if told.session.signal == Signal::Elevation {
            Key::Process(told.pid)
        } else {
            Key::User(told.session.user.clone())
        };
        let known = self.recent.iter_mut().find(|recent| {
            recent.signal == told.session.signal && recent.key == key && !recent.voices.contains(&told.voice)
        });
        if let Some(known) = known {
            known.voices.push(told.voice);
            return false;
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            signal: told.session.signal,
            key,
            time: now,
            voices: vec![told.voice],
        });
        true
    }
}

/// A text of somebody else's, cut to what is kept.
fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_MAX)]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Source;

    fn told(signal: Signal, user: &str, pid: u32, voice: u16) -> Told {
        let session = Session {
            signal,
            user: user.into(),
            uid: None,
            from_uid: None,
            terminal: "".into(),
            remote: "".into(),
            program: "".into(),
            source: Source::Audit,
        };
        Told { session, pid, voice }
    }

    fn sessions() -> Sessions {
        Sessions {
            files: ["/nonexistent/wtmp", "/nonexistent/btmp"]
                .map(|path| Follower::new(path.as_ref(), utmp::Kind::Sessions)),
            audit: None,
            kernel: Seen::default(),
            users: Arc::new(Users::new("/nonexistent")),
            recent: VecDeque::new(),
            pending: VecDeque::new(),
        }
    }

    #[test]
    fn what_two_voices_say_is_one_happening() {
        let mut sessions = sessions();
        let at = |seconds: u64| BootTime(seconds * 1_000_000_000);
        let login = |user, voice| told(Signal::Login, user, 7, voice);
        for (told, second, first) in [
            (login("a", 1), 0, true),
            (login("a", 2), 1, false),
            // The same voice again: another login, of which the other voice will tell again.
            (login("a", 1), 2, true),
            (login("a", 2), 3, false),
            (login("b", 2), 3, true),
            (told(Signal::Logout, "a", 7, 2), 3, true),
            (told(Signal::Elevation, "root", 9, 1), 4, true),
            (told(Signal::Elevation, "", 9, 3), 4, false),
            (told(Signal::Elevation, "root", 10, 3), 4, true),
            (login("b", 1), 20, true),
        ] {
            assert_eq!(sessions.is_first(&told, at(second)), first, "{told:?} {second}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sessions = sessions();
        for number in 0..1000 {
            sessions.is_first(&told(Signal::Elevation, "", number, 1), BootTime(1));
        }
        assert_eq!(sessions.recent.len(), RECENT_MAX);
    }
}
