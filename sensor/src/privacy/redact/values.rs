//! What a value must be to be hidden, once its name says that it is a secret.

use std::ops::Range;

use super::{MARK, names, spans::Spans};

/// Hides what `range` of `bytes` holds, unless that says itself that it is none.
pub(super) fn hide(bytes: &[u8], range: Range<usize>, spans: &mut Spans) {
    if !is_harmless(&bytes[range.clone()]) {
        spans.hide(range);
    }
}

/// The same, for a name that may as well be that of a file.
pub(super) fn hide_unless_path(bytes: &[u8], range: Range<usize>, spans: &mut Spans) {
    if !is_path(&bytes[range.clone()]) {
        hide(bytes, range, spans);
    }
}

/// Longer values are never harmless: this bounds the work.
pub(super) const HARMLESS_MAX: usize = 128;

/// Words that stand where a secret could and are none.
pub(super) fn is_harmless(value: &[u8]) -> bool {
    const WORDS: [&str; 15] = [
        "file", "env", "prompt", "true", "false", "yes", "no", "none", "null", "nil", "on", "off", "-",
        "auto", "unset",
    ];
    if value.len() > HARMLESS_MAX {
        return value.starts_with(MARK.as_bytes());
    }
    let value = match value {
        [open @ (b'"' | b'\''), inner @ .., close] if open == close => inner,
        value => value,
    };
    value.is_empty()
        || value.starts_with(MARK.as_bytes())
        || value.iter().all(|byte| matches!(byte, b'*' | b'.'))
        || WORDS
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
        || is_reference(value)
}

/// `$NAME`, `${NAME}`, `$(command)`, `%NAME%`, `{{ name }}`: says where the secret is.
fn is_reference(value: &[u8]) -> bool {
    let is_name = |name: &[u8]| {
        !name.is_empty()
            && !name[0].is_ascii_digit()
            && name
                .iter()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
    };
    match value {
        [b'$', b'{', name @ .., b'}'] => !name.contains(&b'-') && !name.contains(&b'}'),
        [b'$', b'(', .., b')'] | [b'{', b'{', .., b'}', b'}'] | [b'<', .., b'>'] => {
            // A command may hold one: that is found by itself.
            !value[1..value.len() - 1]
                .iter()
                .any(|byte| matches!(byte, b'}' | b'>'))
        }
        [b'$', name @ ..] | [b'%', name @ .., b'%'] => is_name(name),
        _ => false,
    }
}

/// An absolute path, one below the current directory or the home, or one of a file that holds secrets by its ending.
pub(super) fn is_path(value: &[u8]) -> bool {
    let begins = [&b"/"[..], b"./", b"../", b"~/", b"file:", b"@/", b"@./", b"C:\\"]
        .iter()
        .any(|start| value.starts_with(start));
    let ends = [
        ".pem", ".key", ".crt", ".json", ".txt", ".yaml", ".yml", ".jks", ".p12", ".pfx", ".conf", ".pub",
        ".gpg", ".asc",
    ]
    .iter()
    .any(|end| value.ends_with(end.as_bytes()));
    let plain = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'/' | b'.' | b'_' | b'-' | b'~' | b',' | b'=' | b':' | b'@' | b'$' | b'{' | b'}' | b'\\'
            )
    };
    (begins || ends)
        && value.iter().all(plain)
        // A key in base64 may begin like a path.
        && value.split(|byte| *byte == b'/').all(|part| part.len() < 24 || !super::random::is_random(part))
        && (ends || value.len() < 30 || value[1..].contains(&b'/') && !super::random::is_random(&value[1..]))
}

/// Name of a scheme before a credential: `Bearer`, `Basic`. Its length with the spaces after it, or 0.
pub(super) fn scheme(value: &[u8]) -> usize {
    let known = names::SCHEMES.iter().find(|scheme| {
        value.len() > scheme.len()
            && value[..scheme.len()].eq_ignore_ascii_case(scheme.as_bytes())
            && matches!(value[scheme.len()], b' ' | b'\t')
    });
    known.map_or(0, |scheme| {
        let spaces = value[scheme.len()..]
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'));
        scheme.len() + spaces.count()
    })
}
