//! A command, word by word: which option takes a secret is known by its name, or by the program's.

use std::ops::Range;

use super::{
    DEPTH,
    names::{self, Sure},
    programs::{self, Program, Takes},
    scan::Kind,
    shell,
    spans::Spans,
    values,
};

/// Shorter arguments are no commands.
const COMMAND_LEAST: usize = 8;

/// A command that is being read.
pub(super) struct Words<'a> {
    bytes: &'a [u8],
    depth: u8,
    program: Option<&'static Program>,
    /// What the word before wants of the next.
    expects: Option<Takes>,
    /// Words from here to a secret, itself counted.
    count: u8,
    asks: bool,
    is_oracle: bool,
    identified: bool,
    /// The word before.
    last: Range<usize>,
}

impl<'a> Words<'a> {
    pub(super) fn new(bytes: &'a [u8], depth: u8) -> Self {
        Self {
            bytes,
            depth,
            program: None,
            expects: None,
            count: 0,
            asks: false,
            is_oracle: false,
            identified: false,
            last: 0..0,
        }
    }

    /// What the next word is to a scan.
    pub(super) fn kind_of_next(&self) -> Kind {
        match &self.bytes[self.last.clone()] {
            // `sh -c`, `bash -lc`, `su -c`: what follows is a command.
            [b'-', .., b'c'] if self.last.len() <= 4 => Kind::Text,
            option @ [b'-', ..] if names::is_public(option) => Kind::Public,
            _ => Kind::Argument,
        }
    }

    /// The next word of the command.
    pub(super) fn take(&mut self, word: Range<usize>, spans: &mut Spans) {
        self.take_quoted(word, false, spans);
    }

    /// The same, which stands in quotes if `quoted`.
    pub(super) fn take_quoted(&mut self, word: Range<usize>, quoted: bool, spans: &mut Spans) {
        let text = &self.bytes[word.clone()];
        let expected = self.expects.take().filter(|_| !is_option(text));
        if let Some(takes) = expected {
            self.hide(takes, word.clone(), spans);
        } else if !self.is_of_program(&word, spans) {
            match text {
                [b'-', ..] => self.option(&word),
                _ => self.plain(&word, quoted, spans),
            }
        }
        if self.depth < DEPTH
            && text.len() >= COMMAND_LEAST
            && text.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n'))
        {
            shell::read(self.bytes, word.clone(), self.depth + 1, spans);
        }
        self.last = word;
    }

    fn hide(&mut self, takes: Takes, word: Range<usize>, spans: &mut Spans) {
        let bytes = self.bytes;
        match takes {
            Takes::Value | Takes::Next | Takes::Attached => {
                match bytes[word.clone()].strip_prefix(b"pass:") {
                    Some(rest) => values::hide(bytes, word.end - rest.len()..word.end, spans),
                    None => values::hide(bytes, word, spans),
                }
            }
            Takes::OrFile => {
                let text = &bytes[word.clone()];
                let source = [&b"env:"[..], b"file:", b"fd:", b"stdin", b"prompt", b"-method="];
                if let Some(rest) = text.strip_prefix(b"pass:") {
                    values::hide(bytes, word.end - rest.len()..word.end, spans);
                } else if !source.iter().any(|source| text.starts_with(source)) {
                    values::hide_unless_path(bytes, word, spans);
                }
            }
            Takes::After(mark) => {
                let text = &bytes[word.clone()];
                let is_url = text.windows(3).take(16).any(|window| window == b"://");
                if let Some(at) = text.iter().position(|byte| *byte == mark).filter(|_| !is_url) {
                    let value = word.start + at + 1..word.end;
                    match mark {
                        b':' => values::hide_unless_path(bytes, value, spans),
                        _ => values::hide(bytes, value, spans),
                    }
                }
            }
            Takes::Header => {
                let text = &bytes[word.clone()];
                let Some(colon) = text.iter().position(|byte| *byte == b':') else {
                    return;
                };
                if names::is_secret(&text[..colon]).is_none() && !is_key_header(&text[..colon]) {
                    return;
                }
                let rest = &text[colon + 1..];
                let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
                let start = word.start + colon + 1 + spaces;
                values::hide(
                    bytes,
                    start + values::scheme(&bytes[start..word.end])..word.end,
                    spans,
                );
            }
            Takes::Pairs | Takes::Nth(_) | Takes::Then(_) => {}
        }
    }

    /// Whether the program in question knows the word.
    fn is_of_program(&mut self, word: &Range<usize>, spans: &mut Spans) -> bool {
        let Some(program) = self.program else { return false };
        let text = &self.bytes[word.clone()];
        for (option, takes) in program.options {
            if option.is_empty() {
                let pair = text
                    .iter()
                    .position(|byte| *byte == b'=')
                    .filter(|at| *at > 0 && text[0] != b'-');
                if let Some(at) = pair {
                    values::hide_unless_path(self.bytes, word.start + at + 1..word.end, spans);
                    return true;
                }
                continue;
            }
            // Most differ here.
            if text.len() < 2 || text[..2] != option.as_bytes()[..2] {
                continue;
            }
            let Some(rest) = text.strip_prefix(option.as_bytes()) else {
                continue;
            };
            let start = word.end - rest.len();
            match rest {
                [] => self.begin(*takes),
                [b'=', ..] if option.len() > 2 => self.hide(*takes, start + 1..word.end, spans),
                _ if matches!(takes, Takes::Next | Takes::Nth(_) | Takes::Then(_)) => continue,
                // `-password` is no `-p` with a value.
                _ if matches!(takes, Takes::Value) && names::is_secret(text).is_some() => continue,
                _ if option.len() == 2 && option.starts_with('-') || matches!(takes, Takes::Attached) => {
                    self.hide(*takes, start..word.end, spans);
                }
                _ => continue,
            }
            return true;
        }
        self.is_cluster(program, word, spans)
    }

    fn begin(&mut self, takes: Takes) {
        match takes {
            Takes::Attached => {}
            Takes::Nth(count) => self.count = count,
            Takes::Then(program) => self.program = Some(program),
            takes => self.expects = Some(takes),
        }
    }

    /// `-sSu user:password`.
    fn is_cluster(&mut self, program: &'static Program, word: &Range<usize>, spans: &mut Spans) -> bool {
        let text = &self.bytes[word.clone()];
        let [b'-', letters @ ..] = text else { return false };
        if program.switches.is_empty() || letters.is_empty() {
            return false;
        }
        let switches = letters
            .iter()
            .take_while(|letter| program.switches.contains(letter))
            .count();
        if switches == 0 || switches == letters.len() {
            return false;
        }
        let short =
            |option: &&(&str, Takes)| option.0.len() == 2 && option.0.as_bytes()[1] == letters[switches];
        let Some((_, takes)) = program.options.iter().find(short) else {
            return false;
        };
        match letters.len() - switches {
            1 => self.begin(*takes),
            rest => self.hide(*takes, word.end - rest + 1..word.end, spans),
        }
        true
    }

    /// An option that is known by its name. What has its value in it is found by the scan.
    fn option(&mut self, word: &Range<usize>) {
        let text = &self.bytes[word.clone()];
        let dashes = text.iter().take(2).take_while(|byte| **byte == b'-').count();
        let name = &text[dashes..];
        let is_name = name.len() > 2
            && name.len() <= names::NAME_MAX
            && name
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'));
        if !is_name || self.asks || names::is_switch(name) {
            return;
        }
        self.expects = match names::is_secret(name) {
            Some(Sure::Yes | Sure::Header) => Some(Takes::Value),
            Some(Sure::OrFile) => Some(Takes::OrFile),
            None => None,
        };
    }

    fn plain(&mut self, word: &Range<usize>, quoted: bool, spans: &mut Spans) {
        let bytes = self.bytes;
        let text = &bytes[word.clone()];
        if self.count > 0 {
            self.count -= 1;
            if self.count == 0 {
                values::hide(bytes, word.clone(), spans);
                return;
            }
        }
        if let Some(sign) = text.iter().take(names::NAME_MAX).position(|byte| *byte == b'=') {
            // Of a command, the variable is its first word and is found there.
            if self.kind_of_next() != Kind::Text && names::is_secret_variable(&text[..sign]) {
                values::hide_unless_path(bytes, word.start + sign + 1..word.end, spans);
            }
            return;
        }
        let last = &bytes[self.last.clone()];
        if quoted
            && (last.eq_ignore_ascii_case(b"password")
                || self.identified && (last.eq_ignore_ascii_case(b"by") || last.eq_ignore_ascii_case(b"as")))
        {
            values::hide(bytes, word.clone(), spans);
            return;
        }
        if last == b"set" && names::is_secret(text).is_some() {
            self.expects = Some(Takes::OrFile);
            return;
        }
        if self.is_oracle {
            self.is_oracle = false;
            self.hide_of_oracle(word, spans);
            return;
        }
        self.identified |= text.eq_ignore_ascii_case(b"identified");
        self.enter(text);
    }

    /// The word may be the program that the rest is for.
    fn enter(&mut self, text: &[u8]) {
        let name = text.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if let Some(program) = programs::named(name) {
            self.program = Some(program);
        }
        if let Some(count) = programs::counts(name) {
            self.count = count;
        }
        self.is_oracle |= programs::is_oracle(name);
        self.asks |= programs::asks(name);
    }

    /// `user/password@database`.
    fn hide_of_oracle(&self, word: &Range<usize>, spans: &mut Spans) {
        let text = &self.bytes[word.clone()];
        if let Some(slash) = text.iter().position(|byte| *byte == b'/').filter(|at| *at > 0) {
            let end = text
                .iter()
                .rposition(|byte| *byte == b'@')
                .filter(|at| *at > slash)
                .unwrap_or(text.len());
            values::hide(self.bytes, word.start + slash + 1..word.start + end, spans);
        }
    }
}

/// Whether a word is an option rather than what the one before it takes.
fn is_option(word: &[u8]) -> bool {
    match word {
        [b'-', b'-', letter, ..] => letter.is_ascii_lowercase(),
        [b'-', letter] => letter.is_ascii_alphabetic(),
        _ => false,
    }
}

/// `X-Api-Key`, `X-Auth-Token`, `Ocp-Apim-Subscription-Key`: what ends in a key.
fn is_key_header(name: &[u8]) -> bool {
    name.len() >= 3 && name[name.len() - 3..].eq_ignore_ascii_case(b"key")
}
