//! Changes of credentials, for the wire.

use sensor_common::credential::{Cred, Moment};
use sensor_proto::v1;

use crate::host::{CredentialChange, How, capability_names};

pub(super) fn convert(change: &CredentialChange) -> v1::Credential {
    let cause = match change.how {
        How::Exec => v1::CredentialCause::Exec,
        How::Call => v1::CredentialCause::Call,
        How::Unexplained => v1::CredentialCause::Unexplained,
    };
    let noticed = match change.noticed {
        Moment::Call => "call",
        Moment::Exec => "exec",
        Moment::Fork => "fork",
        Moment::Exit => "exit",
    };
    v1::Credential {
        before: Some(credentials(&change.before)),
        after: Some(credentials(&change.after)),
        cause: cause.into(),
        call: change.call.map_or_else(String::new, |call| call.name.to_owned()),
        noticed: noticed.to_owned(),
        gained: capability_names(change.after.effective & !change.before.effective),
    }
}

fn credentials(cred: &Cred) -> v1::Credentials {
    let Cred {
        uid,
        gid,
        suid,
        sgid,
        euid,
        egid,
        fsuid,
        fsgid,
        permitted,
        effective,
        user_ns,
        reserved: _,
    } = *cred;
    v1::Credentials {
        uid,
        gid,
        suid,
        sgid,
        euid,
        egid,
        fsuid,
        fsgid,
        permitted,
        effective,
        user_ns,
    }
}

#[cfg(test)]
pub(super) fn example() -> CredentialChange {
    CredentialChange {
        before: Cred {
            uid: 1000,
            ..Cred::default()
        },
        after: Cred {
            effective: 1 << 21,
            ..Cred::default()
        },
        how: How::Unexplained,
        noticed: Moment::Fork,
        call: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_gained_is_named() {
        let converted = convert(&example());
        assert_eq!(converted.gained, ["CAP_SYS_ADMIN"]);
        assert_eq!(converted.cause(), v1::CredentialCause::Unexplained);
        assert_eq!(
            (converted.before.map(|before| before.uid), &*converted.noticed),
            (Some(1000), "fork")
        );
    }
}
