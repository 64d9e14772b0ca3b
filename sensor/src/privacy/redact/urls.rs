//! Who somebody is to another host, before its name: `scheme://user:password@host`, and the same without a scheme.

use std::ops::Range;

use super::{random, spans::Spans, values};

/// Bytes before the host that are looked at.
const MOST: usize = 512;

/// A user without a password that is at least this long, and not all letters, is a token.
const TOKEN_LEAST: usize = 20;

/// The colon of `://`, or of a bot's token.
pub(super) fn at_colon(
    bytes: &[u8],
    colon: usize,
    within: &Range<usize>,
    spans: &mut Spans,
) -> Option<usize> {
    let rest = &bytes[colon..within.end];
    if !rest.starts_with(b"://") {
        return bot_token(bytes, colon, within, spans);
    }
    let start = colon + 3;
    let end = (start + MOST).min(within.end);
    let text = &bytes[start..end];
    let is_outside =
        |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>');
    let text = &text[..text.iter().position(is_outside).unwrap_or(text.len())];
    let authority = &text[..text
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .unwrap_or(text.len())];
    let at = match last_at(authority) {
        Some(at) => at,
        // A password that should have been escaped.
        None if !is_host(authority) => last_at(text)?,
        None => return None,
    };
    hide_userinfo(bytes, start..start + at, spans)
}

fn last_at(text: &[u8]) -> Option<usize> {
    text.iter().rposition(|byte| *byte == b'@')
}

/// Whether what stands before the path is `host` or `host:port`.
fn is_host(authority: &[u8]) -> bool {
    let port = authority
        .iter()
        .position(|byte| *byte == b':')
        .map_or(&[][..], |at| &authority[at + 1..]);
    authority.starts_with(b"[")
        || port.iter().all(|byte| {
            byte.is_ascii_digit()
                || matches!(byte, b',' | b':' | b'.')
                || byte.is_ascii_alphabetic() && authority.contains(&b',')
        })
}

/// Hides the password, or the user where that is a token. Tells where the host begins.
fn hide_userinfo(bytes: &[u8], userinfo: Range<usize>, spans: &mut Spans) -> Option<usize> {
    let text = &bytes[userinfo.clone()];
    let user = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
    let is_token = user >= TOKEN_LEAST
        && text[..user]
            .iter()
            .any(|byte| !byte.is_ascii_alphabetic() && *byte != b'-');
    if is_token {
        values::hide(bytes, userinfo.start..userinfo.start + user, spans);
    }
    if user < text.len() {
        values::hide(bytes, userinfo.start + user + 1..userinfo.end, spans);
    }
    Some(userinfo.end)
}

/// The `@` of `user:password@host`, where no scheme stands before.
pub(super) fn at_sign(bytes: &[u8], sign: usize, within: &Range<usize>, spans: &mut Spans) -> Option<usize> {
    const USER_MAX: usize = 128;
    let floor = sign.saturating_sub(USER_MAX).max(within.start);
    let is_outside =
        |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'=' | b'`' | b'(');
    let start = bytes[floor..sign]
        .iter()
        .rposition(is_outside)
        .map_or(floor, |at| floor + at + 1);
    let before = &bytes[start..sign];
    let colon = before.iter().position(|byte| *byte == b':')?;
    let (user, password) = (&before[..colon], &before[colon + 1..]);
    let is_user =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'\\' | b'+');
    let is_package = [
        &b"npm"[..],
        b"workspace",
        b"patch",
        b"file",
        b"link",
        b"git",
        b"http",
        b"https",
        b"ssh",
    ]
    .contains(&user);
    if user.is_empty()
        || password.is_empty()
        || is_package
        || password.starts_with(b"//")
        || !user.iter().all(is_user)
    {
        return None;
    }
    if !begins_with_host(&bytes[sign + 1..within.end]) {
        return None;
    }
    values::hide(bytes, start + colon + 1..sign, spans);
    Some(sign)
}

/// `host.name`, `localhost`, `host:port`, `[::1]`, `tcp(…)`: no digest, no version.
fn begins_with_host(text: &[u8]) -> bool {
    if [&b"["[..], b"tcp(", b"unix(", b"localhost"]
        .iter()
        .any(|start| text.starts_with(start))
    {
        return true;
    }
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let length = text.iter().position(|byte| !is_name(byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    let dots = name.iter().filter(|byte| **byte == b'.').count();
    let is_number = name.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let has_port = rest.len() > 1 && rest[0] == b':' && rest[1].is_ascii_digit();
    let is_digest = name.starts_with(b"sha") && rest.first() == Some(&b':');
    let begins_with_digit = name.first().is_some_and(u8::is_ascii_digit);
    match (is_number, dots) {
        _ if is_digest || name.is_empty() => false,
        (true, dots) => dots == 3,
        (false, 0) => {
            has_port
                || !begins_with_digit && matches!(rest.first(), None | Some(b'/' | b' ')) && name.len() > 1
        }
        (false, _) => !begins_with_digit || has_port,
    }
}

/// `123456789:AA…`: digits, a colon, 35 characters.
fn bot_token(bytes: &[u8], colon: usize, within: &Range<usize>, spans: &mut Spans) -> Option<usize> {
    let digits = bytes[within.start..colon]
        .iter()
        .rev()
        .take(11)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let is_token = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let length = bytes[colon + 1..within.end]
        .iter()
        .take(64)
        .take_while(is_token)
        .count();
    let body = &bytes[colon + 1..colon + 1 + length];
    let is_bot = (8..=10).contains(&digits) && (33..=37).contains(&length);
    (is_bot && (body.starts_with(b"AA") || random::is_random(body))).then(|| {
        spans.hide(colon + 1..colon + 1 + length);
        colon + 1 + length
    })
}
