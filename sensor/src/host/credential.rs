//! Other credentials than before, and how a thread came by them.

use sensor_common::{
    Credential, UNSET_ID,
    credential::{Change, Cred, Moment},
};

use serde::{Deserialize, Serialize};

use crate::{capture::calls::Call, recording::numbers};

/// A thread has other credentials.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CredentialChange {
    /// What it had.
    #[serde(with = "numbers::cred")]
    pub before: Cred,
    /// What it has.
    #[serde(with = "numbers::cred")]
    pub after: Cred,
    /// What explains it.
    pub how: How,
    /// When it was noticed; for what nothing explains, some time after it happened.
    #[serde(with = "numbers::moment")]
    pub noticed: Moment,
    /// The system call at whose return it was noticed.
    #[serde(with = "numbers::optional_call")]
    pub call: Option<&'static Call>,
}

/// What explains that credentials are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// The file that was executed: set-user-id, set-group-id, or with capabilities; or root's right to all of them.
    Exec,
    /// A system call, which was allowed to.
    Call,
    /// Nothing does: somebody writes to the kernel's memory.
    Unexplained,
}

impl CredentialChange {
    /// What a record says; `None` where its numbers mean nothing to this agent.
    #[must_use]
    pub fn of(record: &Credential) -> Option<Self> {
        let is = |change: Change| record.how == change as u32;
        let how = if is(Change::Exec) {
            How::Exec
        } else if is(Change::Ids) || is(Change::Namespace) {
            How::Call
        } else if is(Change::None) {
            How::Unexplained
        } else {
            return None;
        };
        let moments = [Moment::Call, Moment::Exec, Moment::Fork, Moment::Exit];
        Some(Self {
            before: record.before,
            after: record.after,
            how,
            noticed: moments
                .into_iter()
                .find(|moment| *moment as u32 == record.moment)?,
            call: (record.call != UNSET_ID).then(|| Call::of(record.call)).flatten(),
        })
    }
}

// include/uapi/linux/capability.h
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Names of the capabilities in a set, by number where a newer kernel has more.
#[must_use]
pub fn capability_names(set: u64) -> Vec<String> {
    (0..64_usize)
        .filter(|bit| set >> bit & 1 == 1)
        .map(|bit| {
            CAPABILITIES
                .get(bit)
                .map_or_else(|| format!("CAP_{bit}"), |name| (*name).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_version_is_refused() {
        let record = Credential {
            call: UNSET_ID,
            moment: Moment::Fork as u32,
            ..Credential::default()
        };
        let change = CredentialChange::of(&record).expect("a change");
        assert_eq!((change.how, change.noticed), (How::Unexplained, Moment::Fork));
        for bad in [
            Credential { how: 9, ..record },
            Credential { moment: 9, ..record },
        ] {
            assert_eq!(CredentialChange::of(&bad), None);
        }
    }

    #[test]
    fn capabilities_have_the_kernels_names() {
        let set = 1 << 7 | 1 << 21 | 1 << 40 | 1 << 60;
        assert_eq!(
            capability_names(set),
            ["CAP_SETUID", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE", "CAP_60"]
        );
    }
}
