//! Somebody's coming and going, as a host records it.

use sensor_common::Signal;
use serde::{Deserialize, Serialize};

use crate::recording::numbers;

/// A login, a logout, an elevation, or a failure to prove who one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Which of the four.
    #[serde(with = "numbers::signal")]
    pub signal: Signal,
    /// The account that it is about, as the source calls it: who logged in, who somebody became, who somebody claimed to be.
    /// Empty where the source has only the number.
    pub user: Box<str>,
    /// Its user id, where known.
    pub uid: Option<u32>,
    /// Who became that: the real user id of what was run for it.
    pub from_uid: Option<u32>,
    /// Terminal, as `pts/3`; empty where there is none.
    pub terminal: Box<str>,
    /// Host name or address that somebody came from; empty for this host.
    pub remote: Box<str>,
    /// The program that let them in or not, where known.
    pub program: Box<str>,
    /// Who said it first.
    pub source: Source,
}

/// Who said that it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The kernel's audit messages, which PAM writes.
    Audit,
    /// `wtmp` and `btmp`.
    Utmp,
    /// What processes did.
    Kernel,
}

impl Source {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Utmp => "utmp",
            Self::Kernel => "kernel",
        }
    }
}
