//! What a user has running.

use std::path::Path;

use crate::{
    host::{Credentials, ProcessId},
    respond::{Births, kill::running},
};

/// Processes of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// In no order. Each must go through the guard.
    pub processes: Vec<ProcessId>,
    /// Whether it is known who logged in; else only what runs as the user now was found, not what they started as somebody else.
    pub by_login: bool,
}

/// What `uid` has running: all that came of a login of theirs, as whomever it runs now, and what runs as them without any login, such as
/// jobs. What somebody else runs as them is that one's.
///
/// Who starts processes all the time can have started others meanwhile: ask again until there are none.
#[must_use]
pub fn sessions(uid: u32, births: Option<&dyn Births>) -> Sessions {
    // A kernel without auditing of system calls has no login uids.
    let by_login = Path::new("/proc/self/loginuid").exists();
    let processes = running(births).filter_map(|(id, process, stat)| {
        let its = belongs(&process.credentials()?, uid) && !stat.kernel_thread;
        its.then_some(id)
    });
    Sessions {
        processes: processes.collect(),
        by_login,
    }
}

fn belongs(credentials: &Credentials, uid: u32) -> bool {
    match credentials.login_uid {
        Some(login) => login == uid,
        None => credentials.uid == uid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_login_it_was_decides() {
        let credentials = |login_uid, uid| Credentials {
            uid,
            gid: 0,
            euid: 0,
            egid: 0,
            login_uid,
            session_id: None,
        };
        for (login, uid, its) in [
            (Some(1000), 1000, true),
            (Some(1000), 0, true),
            (Some(1001), 1000, false),
            (None, 1000, true),
            (None, 0, false),
        ] {
            assert_eq!(belongs(&credentials(login, uid), 1000), its, "{login:?} {uid}");
        }
    }

    #[test]
    fn this_process_is_among_its_users() {
        let credentials = crate::host::proc::ProcDir::open(std::process::id())
            .unwrap()
            .credentials()
            .unwrap();
        let user = credentials.login_uid.unwrap_or(credentials.uid);
        let its = |uid| {
            sessions(uid, None)
                .processes
                .iter()
                .any(|id| id.tgid == std::process::id())
        };
        assert!(its(user));
        assert!(!its(4_000_000_000));
    }
}
