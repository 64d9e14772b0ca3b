//! Paths, part by part, and where they stand in a text.

use std::borrow::Cow;

/// Below these lies what comes with a distribution, and what the kernel shows.
const KEPT: [&str; 16] = [
    "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "proc", "sys", "dev", "run", "boot",
    "nix", "snap", "initrd",
];

/// Longest ending of a name that is kept, in bytes.
const ENDING: usize = 5;

/// An absolute `path`, with `change` made to what it says of people: its parts where `parts` is set, the name of a home in any case, for
/// which the first argument is true. Any other path stays.
pub(super) fn map(path: &str, parts: bool, change: impl Fn(bool, &str) -> String) -> String {
    let Some(inner) = path.strip_prefix('/') else {
        return path.to_owned();
    };
    let first = inner.split('/').next().unwrap_or_default();
    if KEPT.contains(&first) {
        return path.to_owned();
    }
    let kept = if first == "var" { 2 } else { 1 };
    let mut shown = String::with_capacity(path.len());
    for (place, part) in inner.split('/').enumerate() {
        shown.push('/');
        let is_home = first == "home" && place == 1;
        let plain = part.is_empty() || part == "." || part == "..";
        if plain || place < kept || !parts && !is_home {
            shown.push_str(part);
        } else if is_home {
            shown.push_str(&change(true, part));
        } else {
            shown.push_str(&change(false, part));
            shown.push_str(ending(part));
        }
    }
    shown
}

/// `.sh` of `run.sh`: what kind of thing it is.
fn ending(part: &str) -> &str {
    let ending = part.rfind('.').map_or("", |at| &part[at..]);
    let is_one = part.len() > ending.len() && (2..=ENDING).contains(&ending.len());
    if is_one && ending[1..].bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        ending
    } else {
        ""
    }
}

/// `text`, with `change` made to each absolute path in it.
pub(super) fn each<'t>(text: &'t str, change: impl Fn(&str) -> String) -> Cow<'t, str> {
    let is_start = |at: usize| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|before| {
            before.is_whitespace() || matches!(before, '=' | ':' | '"' | '\'' | '(' | ',' | '<' | '>')
        }) && text[at..].len() > 1
            && !text[at..].starts_with("//")
    };
    let is_end = |character: char| {
        character.is_whitespace() || matches!(character, '"' | '\'' | ')' | ',' | ';' | ':' | '<' | '>' | '|')
    };
    let mut shown = String::new();
    let mut from = 0;
    for (at, _) in text.match_indices('/') {
        if at < from || !is_start(at) {
            continue;
        }
        let end = text[at..].find(is_end).map_or(text.len(), |length| at + length);
        shown.push_str(&text[from..at]);
        shown.push_str(&change(&text[at..end]));
        from = end;
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(&text[from..]);
    Cow::Owned(shown)
}
