//! A user who may not log in any more, and what they have running.
//!
//! The account is locked in the files that every login looks at, as `usermod -L -e 1` does it: a `!` before the hash refuses the password, an expiry
//! on the second day of 1970 refuses keys, cron and whatever else asks PAM for the account. No tool is needed for that. What stood there before is kept in the
//! state directory (`revoked/UID.json`, mode 0600: there are hashes in it) and put back exactly.
//!
//! Invariants:
//! - Root, accounts of the system, and whom sensor was started by are refused.
//! - Everything but the two fields stays as it is, byte by byte, and so do owner, mode and attributes of the file; the file is replaced
//!   whole, under the lock that `passwd`, `usermod` and `vipw` take.
//! - What was there is on the disk before anything is changed.
//! - What somebody has changed since is not overwritten.
//! - An account that is not in the files (LDAP, SSSD, systemd-homed) is said to be none of ours: it has to be locked where it is kept.

mod sessions;
mod shadow;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use sessions::{Sessions, sessions};
use shadow::{Fields, Shadow, uid_min, users};

use crate::{host::proc::ProcDir, state, time::WallTime};

use super::quarantine::Reason;

/// Name of the directory in the agent's state directory.
const DIRECTORY: &str = "revoked";

/// Longest record that is read.
const RECORD_MAX: u64 = 1 << 20;

/// Whom nobody is.
const NOBODY: u32 = 65_534;

/// Most generations that sensor's own users are looked for in.
const GENERATIONS_MAX: usize = 64;

/// Why an account was not locked or given back.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The system says so.
    #[error("{}: {doing}: {cause}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// It is one that is left alone.
    #[error("user {uid} is not locked: {why}")]
    Refused {
        /// Which user.
        uid: u32,
        /// Why.
        why: String,
    },
    /// It is kept elsewhere.
    #[error(
        "user {uid} is not in {}: if it comes from a directory service, it has to be locked there; its processes can be ended here",
        file.display()
    )]
    NotLocal {
        /// Which user.
        uid: u32,
        /// Where it is not.
        file: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{}: {why}; nothing was changed", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else holds the lock.
    #[error("{} is held by somebody else for too long; end that, then try again", path.display())]
    Busy {
        /// Which lock.
        path: PathBuf,
    },
    /// It was not locked by sensor.
    #[error("user {0} was not locked by sensor, so there is nothing to give back")]
    NotRevoked(u32),
    /// Somebody has changed the account since.
    #[error(
        "the account {name} was changed since it was locked, and is left as it is; `usermod -U {name}` and `chage -E -1 {name}` open it"
    )]
    Changed {
        /// Which account.
        name: String,
    },
}

/// A user whose accounts are locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Which user.
    pub uid: u32,
    /// Their accounts: usually one.
    pub accounts: Vec<Account>,
    /// When, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// Who wanted it.
    pub who: String,
    /// Why.
    pub why: String,
    /// Because of which incident; empty if there is none.
    pub incident: String,
}

/// One name of a user, and what was done to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The name.
    pub name: String,
    before: Fields,
    after: Fields,
}

impl std::fmt::Debug for Account {
    /// Without the hashes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({:?})", self.name)
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was done now.
    Now,
    /// It was so already.
    Before,
}

/// The accounts of a host.
#[derive(Clone, Debug)]
pub struct Accounts {
    etc: PathBuf,
    records: PathBuf,
    spared: BTreeSet<u32>,
}

impl Accounts {
    /// Those in `etc` below `root`, with what is kept of them in the state directory `state`. `spared` are users who are never locked, such as who asks
    /// for it, beside [`own_users`].
    #[must_use]
    pub fn new(root: &Path, state: &Path, spared: impl IntoIterator<Item = u32>) -> Self {
        Self {
            etc: root.join("etc"),
            records: state.join(DIRECTORY),
            spared: own_users().into_iter().chain(spared).collect(),
        }
    }

    /// Locks all accounts of a user. Those who are logged in stay so: [`sessions`] tells of their processes.
    ///
    /// Waits up to 5 s for others who change accounts.
    ///
    /// # Errors
    /// If the user is refused, is not in the files, or these cannot be changed. Nothing is changed then.
    pub fn lock(&self, uid: u32, reason: &Reason) -> Result<(Revoked, Done), RevokeError> {
        self.refuse(uid)?;
        let mut shadow = Shadow::lock(&self.etc)?;
        let names = users(&self.etc, uid)?;
        if names.is_empty() {
            return Err(RevokeError::NotLocal {
                uid,
                file: self.etc.join("passwd"),
            });
        }
        let earlier = match self.record(uid) {
            Ok(revoked) => Some(revoked),
            Err(RevokeError::NotRevoked(_)) => None,
            // What was there before the first time must not be lost by the second.
            Err(error) => return Err(error),
        };
        let mut accounts = Vec::new();
        for name in names {
            let fields = shadow.fields(&name)?;
            let known = earlier.iter().flat_map(|revoked| &revoked.accounts);
            let locked = known
                .into_iter()
                .find(|known| known.name == name && known.after == fields);
            accounts.push(locked.cloned().unwrap_or_else(|| Account {
                name,
                after: fields.locked(),
                before: fields,
            }));
        }
        if let Some(earlier) = earlier.as_ref().filter(|earlier| earlier.accounts == accounts) {
            return Ok((earlier.clone(), Done::Before));
        }
        let revoked = Revoked {
            uid,
            accounts,
            time_ns: WallTime::now().0,
            who: reason.who.clone(),
            why: reason.why.clone(),
            incident: reason.incident.clone(),
        };
        for account in &revoked.accounts {
            shadow.set(&account.name, &account.after)?;
        }
        self.note(&revoked)?;
        if let Err(error) = shadow.replace() {
            let undone = earlier.map_or_else(|| self.forget(uid), |earlier| self.note(&earlier));
            undone.and(Err(error))?;
        }
        Ok((revoked, Done::Now))
    }

    /// Gives a user back what they had, exactly.
    ///
    /// # Errors
    /// If sensor did not lock them, or somebody has changed an account since: then none is changed.
    pub fn restore(&self, uid: u32) -> Result<(Revoked, Done), RevokeError> {
        let revoked = self.record(uid)?;
        let mut shadow = Shadow::lock(&self.etc)?;
        let mut done = Done::Before;
        for account in &revoked.accounts {
            let fields = shadow.fields(&account.name)?;
            if fields == account.after && fields != account.before {
                shadow.set(&account.name, &account.before)?;
                done = Done::Now;
            } else if fields != account.before {
                return Err(RevokeError::Changed {
                    name: account.name.clone(),
                });
            }
        }
        if done == Done::Now {
            shadow.replace()?;
        }
        self.forget(uid)?;
        Ok((revoked, done))
    }

    /// Who is locked by sensor; what cannot be read is left out.
    #[must_use]
    pub fn list(&self) -> Vec<Revoked> {
        let entries = fs::read_dir(&self.records).into_iter().flatten().flatten();
        let uids = entries.filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_suffix(".json")?.parse().ok()
        });
        let uids: BTreeSet<u32> = uids.collect();
        uids.into_iter().filter_map(|uid| self.record(uid).ok()).collect()
    }

    fn refuse(&self, uid: u32) -> Result<(), RevokeError> {
        let minimum = uid_min(&self.etc);
        let why = if uid == 0 {
            "root is never locked".to_owned()
        } else if self.spared.contains(&uid) {
            "sensor was started by them, or they asked for it: they would lock themselves out".to_owned()
        } else if uid == NOBODY || uid == u32::MAX {
            "it is nobody".to_owned()
        } else if uid < minimum {
            format!(
                "users below {minimum} (UID_MIN) belong to the system: end their processes or stop their service instead"
            )
        } else {
            return Ok(());
        };
        Err(RevokeError::Refused { uid, why })
    }

    fn path(&self, uid: u32) -> PathBuf {
        self.records.join(format!("{uid}.json"))
    }

    fn record(&self, uid: u32) -> Result<Revoked, RevokeError> {
        let path = self.path(uid);
        let text = match shadow::read(&path, RECORD_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RevokeError::NotRevoked(uid));
            }
            Err(error) => return Err(io_error(&path, "reading what was kept")(error)),
        };
        serde_json::from_slice(&text).map_err(|error| RevokeError::Broken {
            path,
            why: error.to_string(),
        })
    }

    fn forget(&self, uid: u32) -> Result<(), RevokeError> {
        let path = self.path(uid);
        fs::remove_file(&path).map_err(io_error(&path, "forgetting what was kept; the account is open"))
    }

    fn note(&self, revoked: &Revoked) -> Result<(), RevokeError> {
        let path = self.path(revoked.uid);
        let text = serde_json::to_vec_pretty(revoked).map_err(io::Error::from);
        text.and_then(|text| state::write(&path, &text))
            .map_err(io_error(&path, "keeping what was there"))
    }
}

/// Whether an account is locked by sensor, as far as is kept in the state directory.
#[must_use]
pub fn is_locked(state: &Path, uid: u32) -> bool {
    state.join(DIRECTORY).join(format!("{uid}.json")).exists()
}

/// The users that sensor and what it was started from run as and were logged in as.
#[must_use]
pub fn own_users() -> BTreeSet<u32> {
    let mut users = BTreeSet::new();
    let mut next = std::process::id();
    for _ in 0..GENERATIONS_MAX {
        let Ok(process) = ProcDir::open(next) else { break };
        if let Some(credentials) = process.credentials() {
            users.insert(credentials.uid);
            users.extend(credentials.login_uid);
        }
        match process.stat() {
            Some(stat) if stat.parent > 1 => next = stat.parent,
            _ => break,
        }
    }
    users
}

fn io_error(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> RevokeError {
    move |cause| RevokeError::Io {
        path: path.to_owned(),
        doing,
        cause,
    }
}

#[cfg(test)]
mod tests;
