//! Audit messages that PAM and the programs around it write: `pid=… uid=… msg='op=… acct="…" exe="…" … res=success'`.
//!
//! Messages pass through the kernel, which writes what stands before `msg=`; what stands in it is the program's own.

use sensor_common::Signal;

use super::{Told, text};
use crate::host::{Session, Source};

// include/uapi/linux/audit.h
const USER_AUTH: u16 = 1100;
const USER_START: u16 = 1105;
const USER_END: u16 = 1106;
const USER_LOGIN: u16 = 1112;
const USER_CMD: u16 = 1123;

/// Longest message of the kernel (`MAX_AUDIT_MESSAGE_LENGTH`).
pub const MESSAGE_MAX: usize = 8970;

/// Programs that make somebody another user.
pub(super) const ELEVATORS: [&str; 6] = ["sudo", "su", "doas", "pkexec", "sudo-rs", "runuser"];
/// Programs that let people in and see them leave; others open sessions too, such as cron.
const DOORS: [&str; 8] = [
    "sshd",
    "sshd-session",
    "login",
    "gdm-session-worker",
    "sddm-helper",
    "lightdm",
    "xrdp-sesman",
    "dropbear",
];

/// What a message of this type says, if it is one that counts.
#[must_use]
pub fn parse(kind: u16, message: &[u8]) -> Option<Told> {
    if !matches!(kind, USER_AUTH | USER_START | USER_END | USER_LOGIN | USER_CMD) {
        return None;
    }
    let message = &message[..message.len().min(MESSAGE_MAX)];
    let (kernel, program) = split(message)?;
    let number = |name: &str| -> Option<u32> {
        let text = std::str::from_utf8(field(kernel, name)?).ok()?;
        text.parse().ok()
    };
    let value = |name: &str| {
        field(program, name)
            .map(decoded)
            .filter(|value| **value != *"?")
            .unwrap_or_default()
    };
    let good = field(program, "res") == Some(b"success");
    let exe = value("exe");
    let is_of = |names: &[&str]| names.iter().any(|name| exe.rsplit('/').next() == Some(name));
    let signal = match kind {
        USER_AUTH | USER_LOGIN if !good => Signal::AuthFailure,
        USER_LOGIN => Signal::Login,
        USER_START if good && is_of(&ELEVATORS) => Signal::Elevation,
        USER_CMD if good => Signal::Elevation,
        USER_END if good && is_of(&DOORS) => Signal::Logout,
        _ => return None,
    };
    let elevation = signal == Signal::Elevation;
    let address = value("addr");
    Some(Told {
        pid: number("pid")?,
        voice: kind,
        session: Session {
            signal,
            // `id` is a number, which newer programs write instead of the name of who logged in.
            user: value("acct"),
            uid: if signal == Signal::Login {
                value("id").parse().ok()
            } else {
                None
            },
            from_uid: if elevation { number("uid") } else { None },
            terminal: value("terminal"),
            remote: if address.is_empty() {
                value("hostname")
            } else {
                address
            },
            program: exe,
            source: Source::Audit,
        },
    })
}

/// Before and within `msg='…'`.
fn split(message: &[u8]) -> Option<(&[u8], &[u8])> {
    const BEGIN: &[u8] = b" msg='";
    let at = message.windows(BEGIN.len()).position(|window| window == BEGIN)?;
    Some((&message[..at], &message[at + BEGIN.len()..]))
}

/// The value behind `name=`: up to the next blank, or between quotation marks, which are kept.
fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = text;
    loop {
        let start = rest.iter().position(|byte| !matches!(byte, b' ' | b'\''))?;
        rest = &rest[start..];
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let (found, value) = (&rest[..equals], &rest[equals + 1..]);
        let length = match value.strip_prefix(b"\"") {
            Some(quoted) => quoted
                .iter()
                .position(|byte| *byte == b'"')
                .map_or(value.len(), |at| at + 2),
            None => {
                let end = |byte: &u8| matches!(byte, b' ' | b'\'' | 0 | b'\n');
                value.iter().position(end).unwrap_or(value.len())
            }
        };
        // A word without a value may stand before the name.
        if found.rsplit(|byte| *byte == b' ').next() == Some(name.as_bytes()) {
            return value.get(..length);
        }
        rest = value.get(length..)?;
    }
}

/// A text in quotation marks as it is; one that has bytes which would confuse readers is written in hexadecimal.
fn decoded(value: &[u8]) -> Box<str> {
    if let Some(quoted) = value.strip_prefix(b"\"") {
        return text(quoted.strip_suffix(b"\"").unwrap_or(quoted));
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let hexadecimal = value.len() >= 2
        && value.len().is_multiple_of(2)
        && value
            .iter()
            .all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte))
        && value.iter().any(|byte| !byte.is_ascii_digit());
    if !hexadecimal {
        return text(value);
    }
    let bytes: Option<Vec<u8>> = value
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect();
    text(&bytes.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_real_programs_are_understood() {
        const SSH: &str = "audit(1.2:3): pid=812 uid=0 auid=1000 ses=3 subj=unconfined msg='op=login id=1000 exe=\"/usr/sbin/sshd\" hostname=10.0.2.2 addr=10.0.2.2 terminal=/dev/pts/0 res=success'\n";
        const FAILED: &str = "audit(1.2:4): pid=90 uid=0 auid=4294967295 ses=4294967295 msg='op=PAM:authentication grantors=? acct=\"root\" exe=\"/usr/sbin/sshd\" hostname=1.2.3.4 addr=1.2.3.4 terminal=ssh res=failed'";
        const SU: &str = "audit(1.2:5): pid=91 uid=1000 auid=1000 ses=3 msg='op=PAM:session_open grantors=pam_env,pam_unix acct=\"root\" exe=\"/usr/bin/su\" hostname=? addr=? terminal=pts/0 res=success'";
        const CRON: &str = "audit(1.2:6): pid=92 uid=0 auid=0 ses=4 msg='op=PAM:session_open grantors=pam_unix acct=\"root\" exe=\"/usr/sbin/cron\" hostname=? addr=? terminal=cron res=success'";
        const HEX: &str = "audit(1.2:7): pid=93 uid=0 msg='op=PAM:authentication acct=61200A62 exe=\"/usr/bin/login\" terminal=tty1 res=failed'";
        let told = |kind, message: &str| {
            let told = parse(kind, message.as_bytes())?;
            let Session {
                signal,
                user,
                uid,
                from_uid,
                remote,
                terminal,
                ..
            } = told.session;
            Some((
                signal,
                told.pid,
                user.to_string(),
                uid,
                from_uid,
                remote.to_string(),
                terminal.to_string(),
            ))
        };
        let expected = |signal, pid, user: &str, uid, from, remote: &str, terminal: &str| {
            Some((
                signal,
                pid,
                user.to_owned(),
                uid,
                from,
                remote.to_owned(),
                terminal.to_owned(),
            ))
        };
        assert_eq!(
            told(USER_LOGIN, SSH),
            expected(Signal::Login, 812, "", Some(1000), None, "10.0.2.2", "/dev/pts/0")
        );
        assert_eq!(
            told(USER_AUTH, FAILED),
            expected(Signal::AuthFailure, 90, "root", None, None, "1.2.3.4", "ssh")
        );
        assert_eq!(
            told(USER_START, SU),
            expected(Signal::Elevation, 91, "root", None, Some(1000), "", "pts/0")
        );
        assert_eq!(told(USER_START, CRON), None);
        assert_eq!(
            told(USER_AUTH, HEX),
            expected(Signal::AuthFailure, 93, "a \nb", None, None, "", "tty1")
        );
        assert_eq!(told(1300, FAILED), None);
    }

    #[test]
    fn a_name_cannot_say_that_it_succeeded() {
        let message = b"audit(1.2:3): pid=1 uid=0 msg='op=PAM:authentication acct=\"x res=success\" exe=\"/usr/bin/login\" res=failed'";
        assert_eq!(
            parse(USER_AUTH, message).unwrap().session.signal,
            Signal::AuthFailure
        );
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_messages_never_panic(kind in 1095..1130_u16, message: Vec<u8>) {
            let _ = parse(kind, &message);
            let _ = parse(kind, &[b"pid=1 msg='", &*message].concat());
        }
    }
}
