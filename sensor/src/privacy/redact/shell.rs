//! A text as a shell reads it: words, quotes, and what is fed from one command to the next.

use std::ops::Range;

use super::{spans::Spans, values, words::Words};

/// Words of a command that may be fed to the next that are remembered.
const FED_MAX: usize = 8;

/// What reads a secret from another command.
const READERS: [&str; 14] = [
    "--password-stdin",
    "--with-token",
    "--passphrase-fd",
    "--stdin",
    "--pw-stdin",
    "-S",
    "chpasswd",
    "passwd",
    "smbpasswd",
    "cryptsetup",
    "kinit",
    "htpasswd",
    "stdin",
    "secret",
];

/// Reads `range` of `bytes` as commands, and hides what is secret in them by its place.
pub(super) fn read(bytes: &[u8], range: Range<usize>, depth: u8, spans: &mut Spans) {
    let mut reader = Reader {
        words: Words::new(bytes, depth),
        fed: Vec::new(),
        speaks: false,
        feeds: false,
        reads: false,
        first: true,
    };
    let mut at = range.start;
    while at < range.end {
        match bytes[at] {
            b' ' | b'\t' | b'\r' | b'(' | b')' | b'`' => at += 1,
            b'<' if bytes[at..range.end].starts_with(b"<<<") => {
                at += 3;
                reader.feeds = true;
            }
            b'<' | b'>' if !bytes[at..range.end].starts_with(super::MARK.as_bytes()) => at += 1,
            b'|' if bytes.get(at + 1) != Some(&b'|') => {
                at += 1;
                reader.pipe(bytes, depth);
            }
            b';' | b'&' | b'\n' | b'|' => {
                at += 1;
                reader.end(bytes, depth);
            }
            _ => {
                let (end, word, quoted) = word(bytes, at, range.end);
                reader.take(bytes, word, quoted, spans);
                at = end;
            }
        }
    }
}

struct Reader<'a> {
    words: Words<'a>,
    /// What the command before says on its output, as far as that is in it.
    fed: Vec<Range<usize>>,
    /// The command is one that says its words.
    speaks: bool,
    /// The next word is fed to the command, as by `<<<`.
    feeds: bool,
    /// The command is one that reads a secret.
    reads: bool,
    first: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: &'a [u8], word: Range<usize>, quoted: bool, spans: &mut Spans) {
        let text = &bytes[word.clone()];
        if std::mem::take(&mut self.feeds) {
            if self.reads {
                values::hide(bytes, word.clone(), spans);
            }
        } else if self.speaks {
            if text.first() != Some(&b'-') && self.fed.len() < FED_MAX {
                self.fed.push(word.clone());
            }
        } else if self.first && matches!(text, b"echo" | b"printf") {
            self.speaks = true;
            self.fed.clear();
        } else if READERS.iter().any(|reader| text == reader.as_bytes()) {
            self.reads = true;
            self.hide_fed(bytes, text == b"chpasswd", spans);
        }
        self.first = false;
        self.words.take_quoted(word, quoted, spans);
    }

    fn hide_fed(&mut self, bytes: &[u8], after_colon: bool, spans: &mut Spans) {
        for word in self.fed.drain(..) {
            let colon = bytes[word.clone()].iter().position(|byte| *byte == b':');
            let start = match colon.filter(|_| after_colon) {
                Some(at) => word.start + at + 1,
                None => word.start,
            };
            values::hide(bytes, start..word.end, spans);
        }
    }

    /// What this command says, the next reads.
    fn pipe(&mut self, bytes: &'a [u8], depth: u8) {
        if !self.speaks {
            self.fed.clear();
        }
        self.begin(bytes, depth);
    }

    fn end(&mut self, bytes: &'a [u8], depth: u8) {
        self.fed.clear();
        self.begin(bytes, depth);
    }

    fn begin(&mut self, bytes: &'a [u8], depth: u8) {
        self.words = Words::new(bytes, depth);
        self.speaks = false;
        self.feeds = false;
        self.reads = false;
        self.first = true;
    }
}

/// The word that begins at `start`: where it ends, it without quotes that hold all of it, and whether such quotes were there.
fn word(bytes: &[u8], start: usize, end: usize) -> (usize, Range<usize>, bool) {
    let mut at = start;
    while at < end {
        match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' | b';' | b'|' | b'&' | b'(' | b')' | b'`' => break,
            b'<' if bytes[at..end].starts_with(super::MARK.as_bytes()) => at += super::MARK.len(),
            b'<' | b'>' => break,
            b'\\' if at == start && matches!(bytes.get(at + 1), Some(b'"' | b'\'')) => {
                // Quotes of a command within quotes.
                if let Some(word) = escaped(bytes, at + 1, end) {
                    return (word.end + 2, word, true);
                }
                at += 2;
            }
            b'\\' => at += 2,
            quote @ (b'"' | b'\'') => {
                let close = closing(bytes, at, end);
                let whole = at == start;
                at = close + 1;
                let is_over = at >= end
                    || matches!(
                        bytes[at],
                        b' ' | b'\t' | b'\r' | b'\n' | b';' | b'|' | b'&' | b'(' | b')' | b',' | b'`' | b'\\'
                    );
                if whole && is_over && close < end && bytes[close] == quote {
                    return (at.min(end), start + 1..close, true);
                }
            }
            _ => at += 1,
        }
    }
    let at = at.clamp(start + 1, end.max(start + 1)).min(end);
    (at, start..at, false)
}

/// What is between the quote at `open` and the next of its kind, both after a backslash.
fn escaped(bytes: &[u8], open: usize, end: usize) -> Option<Range<usize>> {
    const LONGEST: usize = 512;
    let limit = end.min(open + LONGEST);
    let close = (open + 1..limit).find(|at| bytes[*at] == bytes[open])?;
    (close > open + 1 && bytes[close - 1] == b'\\').then(|| open + 1..close - 1)
}

/// Where the quote that opens at `open` is closed, or the end.
fn closing(bytes: &[u8], open: usize, end: usize) -> usize {
    let quote = bytes[open];
    let mut at = open + 1;
    while at < end && bytes[at] != quote {
        at += if bytes[at] == b'\\' && quote == b'"' { 2 } else { 1 };
    }
    at.min(end)
}
