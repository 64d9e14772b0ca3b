//! Secrets in what programs are started with, hidden.
//!
//! Invariants:
//! - What is hidden becomes [`MARK`], whatever its length was; what stands around it stays: the flag, the user, the host.
//! - Hiding again changes nothing, and bytes need not be UTF-8.
//! - The work is linear in the length: each byte is looked at a fixed number of times, each look backwards is bounded, and commands
//!   within commands are followed [`DEPTH`] deep.
//! - Nothing is allocated where nothing is hidden.
//!
//! Four kinds of knowledge find a secret: what a program's options mean ([`programs`]), what a value is called ([`names`]), what a
//! token looks like ([`shapes`]), and what no language looks like ([`random`]).

mod assignments;
mod names;
mod programs;
mod random;
mod scan;
mod shapes;
mod shell;
mod spans;
mod urls;
mod values;
mod words;

use std::borrow::Cow;

use self::{
    scan::{Kind, Scan},
    spans::Spans,
    words::Words,
};

/// What stands in the place of a secret.
pub const MARK: &str = "<redacted>";

/// How deep commands in arguments of commands are followed: `ssh host "sh -c 'mysql -p…'"` is three.
const DEPTH: u8 = 3;

/// `args`, each with a NUL after it as the kernel has them, without their secrets.
#[must_use]
pub fn arguments(args: &[u8]) -> Cow<'_, [u8]> {
    to_the_end(args, |args| secrets_of(args).apply(args))
}

/// A text that holds commands, parts of them, or sentences, without its secrets.
#[must_use]
pub fn text(text: &[u8]) -> Cow<'_, [u8]> {
    to_the_end(text, |text| {
        let mut spans = Spans::default();
        Scan::new(text, Kind::Text, &mut spans).whole(0..text.len());
        shell::read(text, 0..text.len(), 0, &mut spans);
        spans.apply(text)
    })
}

/// A variable of an environment, as `NAME=VALUE`, without its secrets.
#[must_use]
pub fn variable(entry: &[u8]) -> Cow<'_, [u8]> {
    to_the_end(entry, hide_in_variable)
}

fn hide_in_variable(entry: &[u8]) -> Cow<'_, [u8]> {
    let mut spans = Spans::default();
    let value = entry.iter().position(|byte| *byte == b'=').map_or(0, |at| at + 1);
    if value > 0 && names::is_secret_variable(&entry[..value - 1]) {
        values::hide(entry, value..entry.len(), &mut spans);
    }
    Scan::new(entry, Kind::Argument, &mut spans).whole(0..entry.len());
    spans.apply(entry)
}

/// The secrets of `args` themselves, those of at least [`KNOWN_LEAST`] bytes: for finding them where they are quoted.
pub fn secrets(args: &[u8]) -> impl Iterator<Item = &[u8]> {
    let spans = secrets_of(args).into_ranges();
    spans
        .into_iter()
        .map(|range| &args[range])
        .filter(|secret| secret.len() >= KNOWN_LEAST && *secret != MARK.as_bytes())
}

/// Shorter ones would be found in words that have nothing to do with them.
const KNOWN_LEAST: usize = 4;

/// Hides until nothing more is found: what was beside a secret may look like another once that is gone.
fn to_the_end(bytes: &[u8], hide: impl Fn(&[u8]) -> Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let mut shown = hide(bytes);
    for _ in 1..ROUNDS {
        let Cow::Owned(before) = &shown else { break };
        let Cow::Owned(after) = hide(before) else { break };
        shown = Cow::Owned(after);
    }
    shown
}

/// Times at most. Two are enough for what people write.
const ROUNDS: usize = 4;

fn secrets_of(args: &[u8]) -> Spans {
    let mut spans = Spans::default();
    let mut words = Words::new(args, 0);
    let mut start = 0;
    let ends = args.iter().enumerate().filter(|(_, byte)| **byte == 0);
    let rest = (args.last() != Some(&0)).then_some(args.len());
    for end in ends.map(|(at, _)| at).chain(rest) {
        let kind = words.kind_of_next();
        words.take(start..end, &mut spans);
        // A word at a time: a name in one and a value in the next are the business of `words`.
        Scan::new(args, kind, &mut spans).whole(start..end);
        start = end + 1;
    }
    spans
}

#[cfg(test)]
mod tests;
