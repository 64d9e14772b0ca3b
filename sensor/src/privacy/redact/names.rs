//! Which names say that what they name is a secret.
//!
//! A name is read from its end, without case and without what joins its words: `--db-password`, `dbPassword` and `DB_PASSWORD` are one.
//! What ends otherwise (`--token-auth-file`, `--password-stdin`) names something else.

/// Bytes of a name that are looked at, from its end.
pub(super) const NAME_MAX: usize = 64;

/// Ends of names of secrets, without what joins words.
const ENDS: [&str; 64] = [
    "requirepass",
    "masterauth",
    "sshpass",
    "smtppass",
    "dbpass",
    "userpass",
    "rootpass",
    "ftppass",
    "httppass",
    "authpass",
    "bindpass",
    "mailpass",
    "adminpass",
    "sonarlogin",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "passwort",
    "secret",
    "secretkey",
    "secretkeybase",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authkey",
    "signingkey",
    "encryptionkey",
    "accountkey",
    "masterkey",
    "sharedkey",
    "sharedaccesskey",
    "presharedkey",
    "hmackey",
    "licensekey",
    "deploykey",
    "storagekey",
    "unsealkey",
    "sessionkey",
    "credentials",
    "credential",
    "passin",
    "passout",
    "storepass",
    "keypass",
    "bearer",
    "jwt",
    "authorization",
    "pskkey",
    "oauth2bearer",
    "bindpw",
    "rootpw",
    "adminpw",
    "userpw",
    "authpw",
    "dbpw",
    "userpin",
    "sopin",
    "secretaccesskey",
    "cookie",
    "webhookurl",
    "secrets",
    "passwords",
];

/// Whole words at the end, which would be found in other words otherwise (`--bypass`).
const WORDS: [&str; 11] = [
    "pass", "pwd", "pw", "psk", "pin", "otp", "passw", "creds", "cred", "sas", "auth",
];

/// What a name of one of these does not have before it: there it is a switch, and what follows is something else.
const SWITCHES: [&str; 19] = [
    "no", "not", "ask", "show", "use", "prompt", "skip", "without", "disable", "disabled", "enable",
    "enabled", "allow", "require", "has", "is", "print", "reveal", "hide",
];

/// What an `Authorization` begins with.
pub(super) const SCHEMES: [&str; 9] = [
    "Bearer",
    "Basic",
    "Token",
    "Digest",
    "ApiKey",
    "Negotiate",
    "SSWS",
    "AWS4-HMAC-SHA256",
    "Key",
];

/// How sure a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sure {
    /// It names a secret and nothing else.
    Yes,
    /// It may as well name the file that holds it.
    OrFile,
    /// A credential for HTTP: a scheme may stand before it.
    Header,
}

/// Whether `name` names a secret. A bare `pass`, `auth` or `pw` is not enough where it is said without a dash.
pub(super) fn is_secret(name: &[u8]) -> Option<Sure> {
    if !may_be_secret(name) {
        return None;
    }
    let name = &name[name.len().saturating_sub(NAME_MAX)..];
    let mut buffer = [0; NAME_MAX];
    let mut length = 0;
    for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        buffer[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    let squashed = &buffer[..length];
    if matches!(squashed, b"pwd" | b"oldpwd" | b"auth" | b"pin" | b"pw" | b"sas")
        && name.iter().all(u8::is_ascii_alphabetic)
    {
        // `PWD=/home/…` is in every environment; of a connection string it is a password.
        return (squashed == b"pwd").then_some(Sure::OrFile);
    }
    let end = ENDS.iter().find(|end| squashed.ends_with(end.as_bytes()));
    let found = match end {
        Some(&"authorization" | &"cookie") => Sure::Header,
        Some(end) if end.starts_with("pass") || end.ends_with("pass") || end.ends_with("pw") => Sure::Yes,
        Some(_) => Sure::OrFile,
        None if WORDS.iter().any(|word| last_word_is(name, word.as_bytes())) => Sure::OrFile,
        None => return None,
    };
    Some(found)
}

/// Whether a name ends in the two letters of one that [`is_secret`]: nearly all others are told from it by this.
fn may_be_secret(name: &[u8]) -> bool {
    let [.., before, last] = name else { return false };
    matches!(
        &[before.to_ascii_lowercase(), last.to_ascii_lowercase()],
        b"al"
            | b"as"
            | b"de"
            | b"ds"
            | b"ed"
            | b"en"
            | b"er"
            | b"et"
            | b"ey"
            | b"ie"
            | b"in"
            | b"ls"
            | b"on"
            | b"pw"
            | b"rd"
            | b"rl"
            | b"rt"
            | b"se"
            | b"sk"
            | b"ss"
            | b"sw"
            | b"th"
            | b"tp"
            | b"ts"
            | b"ut"
            | b"wd"
            | b"wt"
    )
}

/// Whether a switch of this name has no value of its own.
pub(super) fn is_switch(name: &[u8]) -> bool {
    let first = name
        .split(|byte| !byte.is_ascii_alphanumeric())
        .find(|word| !word.is_empty());
    first.is_some_and(|first| {
        SWITCHES
            .iter()
            .any(|switch| first.eq_ignore_ascii_case(switch.as_bytes()))
    })
}

/// Whether a parameter of a URL by this name is a secret: here short names are, too.
pub(super) fn is_secret_parameter(name: &[u8]) -> bool {
    const SHORT: [&str; 11] = [
        "sig",
        "signature",
        "key",
        "auth",
        "pw",
        "pass",
        "pwd",
        "hmac",
        "sas",
        "session",
        "sid",
    ];
    SHORT
        .iter()
        .any(|short| name.eq_ignore_ascii_case(short.as_bytes()))
        || is_secret(name).is_some()
        || last_word_is(name, b"signature")
}

/// Whether a variable of an environment by this name is a secret: what ends in `_KEY` is, too.
pub(super) fn is_secret_variable(name: &[u8]) -> bool {
    const NO: [&str; 8] = [
        "PUBLIC_KEY",
        "CACHE_KEY",
        "SORT_KEY",
        "HOST_KEY",
        "PRIMARY_KEY",
        "FOREIGN_KEY",
        "SSH_KEY",
        "PARTITION_KEY",
    ];
    is_secret(name).is_some() && name != b"PWD" && name != b"OLDPWD"
        || name.ends_with(b"_KEY") && !NO.iter().any(|end| name.ends_with(end.as_bytes()))
}

/// Names of what looks like a secret and is none: what was built, what a file must be.
pub(super) fn is_public(name: &[u8]) -> bool {
    const ENDS: [&str; 15] = [
        "buildid",
        "integrity",
        "checksum",
        "digest",
        "hash",
        "fingerprint",
        "sha256",
        "sha512",
        "sha384",
        "etag",
        "publickey",
        "pubkey",
        "handle",
        "preferences",
        "hashes",
    ];
    let mut buffer = [0; 16];
    let mut length = 0;
    let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let name = name.iter().rev().take(NAME_MAX).take_while(is_name);
    for byte in name
        .filter(|byte| byte.is_ascii_alphanumeric())
        .take(buffer.len())
    {
        length += 1;
        buffer[16 - length] = byte.to_ascii_lowercase();
    }
    ENDS.iter()
        .any(|end| buffer[16 - length..].ends_with(end.as_bytes()))
}

/// `db_pass`, `db-pass`, `dbPass`, `PASS`.
fn last_word_is(name: &[u8], word: &[u8]) -> bool {
    let Some(before) = name.len().checked_sub(word.len()) else {
        return false;
    };
    let (rest, end) = name.split_at(before);
    if !end.eq_ignore_ascii_case(word) {
        return false;
    }
    match rest.last() {
        None => true,
        Some(last) if !last.is_ascii_alphanumeric() => true,
        Some(last) => end[0].is_ascii_uppercase() && (last.is_ascii_lowercase() || last.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_end_is_missed_by_its_letters() {
        for end in ENDS.iter().chain(&WORDS) {
            assert!(may_be_secret(end.as_bytes()), "{end}");
        }
    }

    #[test]
    fn names_are_read_from_their_end() {
        for name in [
            "--db-password",
            "dbPassword",
            "DB_PASSWORD",
            "db.pass",
            "X-Api-Key",
            "aws_secret_access_key",
            "userPwd",
        ] {
            assert!(is_secret(name.as_bytes()).is_some(), "{name}");
        }
        for name in [
            "password-file",
            "tokens",
            "bypass",
            "compass",
            "monkey",
            "PWD",
            "token_ttl",
            "passwordless",
            "",
        ] {
            assert!(is_secret(name.as_bytes()).is_none() || name == "PWD", "{name}");
        }
    }
}
