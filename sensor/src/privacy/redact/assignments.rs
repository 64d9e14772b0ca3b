//! `name=value`, `name: value`, `"name": "value"`, `?name=value&…`, wherever they stand.
//!
//! What stands before the name says what stands after the value: a parameter of a URL ends before the next `&`, a part of a list at the
//! next comma, and what begins an argument is all of it.

use std::ops::Range;

use super::{
    names::{self, NAME_MAX, Sure},
    scan::Kind,
    spans::Spans,
    values,
};

/// Spaces that may stand around the sign.
const SPACES: usize = 3;

/// If the `=` or `:` at `sign` stands between the name of a secret and its value, hides that and tells where it ends.
pub(super) fn at(
    bytes: &[u8],
    sign: usize,
    within: &Range<usize>,
    kind: Kind,
    spans: &mut Spans,
) -> Option<usize> {
    let name = name_before(bytes, sign, within)?;
    let before = (name.start > within.start).then(|| bytes[name.start - 1]);
    let is_parameter = matches!(before, Some(b'?' | b'&'));
    let sure = match names::is_secret(&bytes[name.clone()]) {
        Some(sure) => sure,
        None if is_parameter && names::is_secret_parameter(&bytes[name.clone()]) => Sure::Yes,
        None => return None,
    };
    let start = start_of(bytes, sign, &name, within);
    if start >= within.end || !is_said(bytes, sign, &name, start, sure, before) {
        return None;
    }
    let value = value_at(bytes, start, &name, within, kind);
    if value.is_empty() || values::is_harmless(&bytes[value.clone()]) {
        return None;
    }
    match sure {
        Sure::OrFile => values::hide_unless_path(bytes, value.clone(), spans),
        Sure::Yes => values::hide(bytes, value.clone(), spans),
        Sure::Header => {
            let start = value.start + values::scheme(&bytes[value.clone()]);
            let end = command_end(bytes, start, within).unwrap_or(value.end);
            let value = start..end;
            values::hide(bytes, value.clone(), spans);
            return Some(value.end);
        }
    }
    Some(value.end)
}

/// A colon says less than `=`: `token:latest` is an image, and `/run/secrets/token:/token` a mount.
fn is_said(
    bytes: &[u8],
    sign: usize,
    name: &Range<usize>,
    value: usize,
    sure: Sure,
    before: Option<u8>,
) -> bool {
    if bytes[sign] == b'=' {
        // `a == b` compares.
        return bytes.get(sign + 1) != Some(&b'=')
            && (sign == 0 || !matches!(bytes[sign - 1], b'=' | b'!' | b'<' | b'>'));
    }
    if matches!(before, Some(b'/' | b':' | b'.' | b'@'))
        || bytes.get(sign + 1) == Some(&b'/') && sure != Sure::Header
    {
        return false;
    }
    let is_apart = value > sign + 1 || name.end < sign || matches!(bytes[value], b'"' | b'\'');
    is_apart || sure != Sure::OrFile
}

/// The name that ends before `sign`, but for spaces and a quote.
fn name_before(bytes: &[u8], sign: usize, within: &Range<usize>) -> Option<Range<usize>> {
    let mut end = sign;
    let floor = sign.saturating_sub(SPACES).max(within.start);
    while end > floor && matches!(bytes[end - 1], b' ' | b'"' | b'\'' | b'\\' | b']') {
        end -= 1;
    }
    let floor = end.saturating_sub(NAME_MAX).max(within.start);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let start = (floor..end).rev().take_while(|at| is_name(bytes[*at])).last()?;
    Some(start..end)
}

/// Where the value begins: after spaces, if there may be any.
fn start_of(bytes: &[u8], sign: usize, name: &Range<usize>, within: &Range<usize>) -> usize {
    // Spaces before `=` allow for spaces after it; after `:` they are the rule.
    let spaced =
        bytes[sign] == b':' || name.end < sign && bytes[name.end] == b' ' || names_header(bytes, name);
    let spaces = bytes[sign + 1..within.end]
        .iter()
        .take(SPACES)
        .take_while(|byte| **byte == b' ');
    sign + 1 + if spaced { spaces.count() } else { 0 }
}

fn value_at(
    bytes: &[u8],
    start: usize,
    name: &Range<usize>,
    within: &Range<usize>,
    kind: Kind,
) -> Range<usize> {
    let escaped = start + 1 < within.end && bytes[start] == b'\\' && matches!(bytes[start + 1], b'"' | b'\'');
    let quote = start + usize::from(escaped);
    if quote < within.end && matches!(bytes[quote], b'"' | b'\'' | b'`') {
        let end = closing(bytes, quote, escaped, within.end);
        return quote + 1..end;
    }
    let end = command_end(bytes, start, within).unwrap_or_else(|| end_of(bytes, start, name, within, kind));
    // The quote that ends the text around it.
    let trailing = match &bytes[start..end] {
        [value @ .., quote @ (b'"' | b'\'')]
            if kind == Kind::Text && !value.is_empty() && !value.contains(quote) =>
        {
            1
        }
        _ => 0,
    };
    start..end - trailing
}

/// Where `$(command)` ends, which says where the secret comes from, if nothing follows it.
fn command_end(bytes: &[u8], start: usize, within: &Range<usize>) -> Option<usize> {
    let rest = &bytes[start..within.end];
    if !rest.starts_with(b"$(") {
        return None;
    }
    let end = rest
        .iter()
        .take(values::HARMLESS_MAX)
        .position(|byte| *byte == b')')?
        + 1;
    let is_over = rest
        .get(end)
        .is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b';'));
    is_over.then_some(start + end)
}

fn names_header(bytes: &[u8], name: &Range<usize>) -> bool {
    names::is_secret(&bytes[name.clone()]) == Some(Sure::Header)
}

/// Where the quote at `quote` is closed.
fn closing(bytes: &[u8], quote: usize, escaped: bool, end: usize) -> usize {
    let mark = bytes[quote];
    let mut at = quote + 1;
    while at < end && bytes[at] != mark {
        let skips = bytes[at] == b'\\' && mark != b'\'';
        if skips && escaped && bytes.get(at + 1) == Some(&mark) {
            return at;
        }
        at += 1 + usize::from(skips);
    }
    at.min(end)
}

/// Where a value without quotes ends.
fn end_of(bytes: &[u8], start: usize, name: &Range<usize>, within: &Range<usize>, kind: Kind) -> usize {
    let before = (name.start > within.start).then(|| bytes[name.start - 1]);
    let is_header = names_header(bytes, name);
    let first = start
        + if is_header {
            values::scheme(&bytes[start..within.end])
        } else {
            0
        };
    let is_end = |at: usize| {
        let byte = bytes[at];
        match before {
            // An argument of its own, as `--name=value`.
            None if !is_header && kind != Kind::Text => false,
            Some(b'?' | b'&') => matches!(
                byte,
                b'&' | b'#' | b' ' | b'\n' | b'\t' | b'"' | b'\'' | b'`' | b'<'
            ),
            Some(b',' | b'{' | b'[') => matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\t'),
            Some(b';') => matches!(byte, b';' | b' ' | b'\n'),
            // `"--name=some words"`; but `sh -c "NAME=value command"`.
            Some(quote @ (b'"' | b'\'' | b'`')) if byte == quote => true,
            Some(b'"' | b'\'' | b'`') if bytes[name.start] == b'-' => false,
            // Parts of a cookie are apart by "; ".
            _ if is_header => {
                matches!(byte, b'"' | b'\'' | b'`' | b'\n' | b'\r')
                    || byte.is_ascii_whitespace() && !matches!(bytes[at - 1], b';' | b',')
            }
            _ => byte.is_ascii_whitespace(),
        }
    };
    (first..within.end).find(|at| is_end(*at)).unwrap_or(within.end)
}
