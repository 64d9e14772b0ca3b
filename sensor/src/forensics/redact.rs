//! What may be seen of arguments and environment.

use sha2::{Digest as _, Sha256};

use crate::{hex::hex, privacy::redact};

/// Values that are no secret, and say much. Whatever the loader obeys (`LD_…`) is looked for in every attack.
const HARMLESS: [&[u8]; 8] = [
    b"PATH", b"LANG", b"TERM", b"HOME", b"SHELL", b"USER", b"LOGNAME", b"PWD",
];

/// The arguments of a program as they may be kept: as many, without what is [a secret](redact).
pub(super) fn arguments(arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    let joined: Vec<u8> = arguments
        .iter()
        .flat_map(|argument| [argument, &b"\0"[..]])
        .flatten()
        .copied()
        .collect();
    let kept = redact::arguments(&joined);
    let kept = kept.strip_suffix(b"\0").unwrap_or(&kept);
    if arguments.is_empty() {
        return Vec::new();
    }
    kept.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// A variable of an environment, `NAME=value`, as it may be kept: with its value if that is harmless, else with the length and the beginning of
/// the SHA-256 of that, by which two can be compared.
pub(super) fn variable(variable: &[u8]) -> Vec<u8> {
    let Some((name, value)) = split(variable) else {
        // No variable at all: whatever the process wrote there.
        return placeholder(variable);
    };
    if HARMLESS.contains(&name) || name.starts_with(b"LC_") || name.starts_with(b"LD_") {
        return variable.to_vec();
    }
    [name, b"=", &placeholder(value)].concat()
}

fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b'=')?;
    Some((&text[..at], &text[at + 1..]))
}

fn placeholder(value: &[u8]) -> Vec<u8> {
    let digest = hex(&Sha256::digest(value)[..4]);
    format!("<redacted {} bytes, sha256:{digest}>", value.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_may_be_secret_are_not_kept() {
        let kept = |variable: &str| String::from_utf8(super::variable(variable.as_bytes())).unwrap();
        for same in ["PATH=/bin:/usr/bin", "LD_PRELOAD=/tmp/x.so", "LC_ALL=C", "HOME="] {
            assert_eq!(kept(same), same);
        }
        assert_eq!(
            kept("DB_URL=postgres://u:p@h/d"),
            "DB_URL=<redacted 18 bytes, sha256:343b32b1>"
        );
        assert_eq!(kept("no variable"), "<redacted 11 bytes, sha256:23496ccd>");
    }

    #[test]
    fn arguments_named_like_a_secret_are_not_kept() {
        for (arguments, secret) in [
            (&["mysql", "--password=hunter2", "db"][..], "hunter2"),
            (&["curl", "--oauth2-bearer", "hunter2"], "hunter2"),
            (&["x", "API_KEY=hunter2"], "hunter2"),
            (&["psql", "postgres://bob:hunter2@db/x"], "hunter2"),
        ] {
            let bytes: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
            let kept = super::arguments(&bytes);
            assert_eq!(kept.len(), arguments.len());
            let text = String::from_utf8(kept.concat()).unwrap();
            assert!(!text.contains(secret) && text.contains(redact::MARK), "{text}");
        }
        let plain: [&[u8]; 5] = [b"ls", b"-la", b"http://a/b:c@d", b"--color=auto", b"x"];
        assert_eq!(arguments(&plain), plain);
    }
}
