//! What of a configuration somebody who looks at a host later must know: what is not seen, and what is done about what is.

use super::Config;
use crate::mute::subjects;

/// Longest list, in bytes: the audit keeps a few thousand of a line.
const LIST_MAX: usize = 1_024;

impl Config {
    /// In words: `respond.mode is ask; left out: signal file_open, path /var/tmp`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let signals = self
            .capture
            .off
            .iter()
            .map(|signal| format!("signal {}", signal.name()));
        let muted = subjects(&self.capture.mute)
            .into_iter()
            .map(|subject| subject.to_string());
        let calls = (!self.capture.calls).then(|| "system calls".to_owned());
        let left_out = list(calls.into_iter().chain(signals).chain(muted));
        let mut rules = self.rules.disable.iter().map(ToString::to_string).peekable();
        let mut text = format!("respond.mode is {}; left out: {left_out}", self.respond.mode);
        if rules.peek().is_some() {
            text.push_str(&format!("; rules not used: {}", list(rules)));
        }
        if !self.rules.builtin {
            text.push_str("; built-in rules are not used");
        }
        text
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let (mut text, mut more) = (String::new(), 0);
    for item in items {
        if text.len() + item.len() > LIST_MAX {
            more += 1;
            continue;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&item);
    }
    match (text.is_empty(), more) {
        (true, 0) => "nothing".to_owned(),
        (_, 0) => text,
        _ => format!("{text}, and {more} more"),
    }
}
