//! One pass over a text, in which each byte is asked whether a secret may begin or end there.

use std::ops::Range;

use super::{assignments, names, random, shapes, spans::Spans, urls};

/// Part of a token, of a name, of a path without dots.
const RUN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric() || matches!(character, b'+' | b'/' | b'_' | b'-');
        byte += 1;
    }
    table
};

/// Looks for secrets that show wherever they stand: by their name before a `=` or `:`, in a URL, by their shape.
pub(super) struct Scan<'a, 's> {
    bytes: &'a [u8],
    spans: &'s mut Spans,
    kind: Kind,
}

/// What is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One argument: what it begins to name is all the rest of it.
    Argument,
    /// The same, and what looks like drawn by lot is known to be no secret.
    Public,
    /// Words, of which a value is one.
    Text,
}

impl<'a, 's> Scan<'a, 's> {
    pub(super) fn new(bytes: &'a [u8], kind: Kind, spans: &'s mut Spans) -> Self {
        Self { bytes, spans, kind }
    }

    pub(super) fn whole(&mut self, range: Range<usize>) {
        let bytes = self.bytes;
        let mut at = range.start;
        let mut run = at;
        while at < range.end {
            // Here a word begins, so a token may.
            let mut hidden = match bytes[at] {
                b'a'..=b'z' | b'A'..=b'Z' | b'1' => shapes::at(bytes, at, &range, self.spans),
                _ => None,
            };
            if hidden.is_none() {
                while at < range.end && bytes[at].is_ascii_alphanumeric() {
                    at += 1;
                }
                if at == range.end {
                    break;
                }
                hidden = self.at_sign(at, &range);
            }
            if let Some(end) = hidden {
                self.judge(run..at, &range);
                // Each must lead on, or the pass would not end.
                at = end.max(at + 1);
                // What follows without a boundary is the rest of a word.
                while at < range.end && bytes[at].is_ascii_alphanumeric() {
                    at += 1;
                }
                run = at;
                continue;
            }
            if !RUN[usize::from(bytes[at])] {
                self.judge(run..at, &range);
                run = at + 1;
            }
            at += 1;
        }
        self.judge(run..range.end.max(run), &range);
    }

    /// What a sign between words tells of what is beside it.
    #[inline]
    fn at_sign(&mut self, at: usize, range: &Range<usize>) -> Option<usize> {
        let (bytes, spans) = (self.bytes, &mut *self.spans);
        match bytes[at] {
            b'=' | b':' => assignments::at(bytes, at, range, self.kind, spans)
                .or_else(|| urls::at_colon(bytes, at, range, spans)),
            b'@' => urls::at_sign(bytes, at, range, spans),
            b'-' if bytes.get(at + 4) == Some(&b'-') => shapes::private_key(bytes, at, range, spans),
            b'~' => shapes::client_secret(bytes, at, range, spans),
            _ => None,
        }
    }

    /// A run that has ended.
    #[inline]
    fn judge(&mut self, run: Range<usize>, within: &Range<usize>) {
        if run.len() >= random::LEAST && self.kind != Kind::Public {
            self.judge_long(run, within);
        }
    }

    fn judge_long(&mut self, run: Range<usize>, within: &Range<usize>) {
        let bytes = self.bytes;
        let token = &bytes[run.clone()];
        let named_public = || {
            run.start > within.start
                && matches!(bytes[run.start - 1], b'=' | b':' | b' ')
                && names::is_public(&bytes[within.start..run.start - 1])
        };
        if is_public_key(token) || named_public() {
            return;
        }
        if token[0] != b'/' && random::is_random(token) {
            let padding = bytes[run.end..within.end]
                .iter()
                .take(2)
                .take_while(|byte| **byte == b'=');
            let says_nothing = |text: Vec<u8>| matches!(super::text(&text), std::borrow::Cow::Borrowed(_));
            let end = run.end + padding.count();
            if !random::readable(token).is_some_and(says_nothing) {
                self.spans.hide(run.start..end);
            }
            return;
        }
        let mut start = run.start;
        for part in token.split(|byte| *byte == b'/') {
            let end = start + part.len();
            if !is_public_key(part) && random::is_random(part) {
                self.spans.hide(start..end);
            }
            start = end + 1;
        }
    }
}

/// What `ssh-keygen` and package managers write for everybody to see.
fn is_public_key(token: &[u8]) -> bool {
    [
        "AAAAB3NzaC1",
        "AAAAC3NzaC1",
        "AAAAE2VjZHNh",
        "AAAAGnNr",
        "sha256-",
        "sha384-",
        "sha512-",
        "sha1-",
    ]
    .iter()
    .any(|start| token.starts_with(start.as_bytes()))
}
