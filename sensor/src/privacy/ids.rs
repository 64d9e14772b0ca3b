//! Ids of users in names of cgroups, workloads and subjects.

use std::borrow::Cow;

/// What stands before an id.
const BEFORE: [&str; 7] = ["user@", "user-", "user:", "session:", "uid:", "uid ", "user "];

/// `text`, with `change` made to each id of a user in it.
pub(super) fn map(text: &str, change: impl Fn(u32) -> u32) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = next(rest) {
        let (before, from) = rest.split_at(at);
        let length = from
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(from.len());
        let (digits, after) = from.split_at(length);
        shown.push_str(before);
        match digits.parse() {
            Ok(id) => shown.push_str(&change(id).to_string()),
            Err(_) => shown.push_str(digits),
        }
        rest = after;
    }
    if shown.is_empty() {
        return Cow::Borrowed(text);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Where the next id begins.
fn next(text: &str) -> Option<usize> {
    let places = BEFORE
        .iter()
        .flat_map(|before| text.match_indices(before).map(|(at, found)| at + found.len()));
    places
        .filter(|at| text[*at..].starts_with(|character: char| character.is_ascii_digit()))
        .min()
}
