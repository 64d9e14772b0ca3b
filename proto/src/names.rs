//! Names of values, as people and columns have them: without that of their type.

use crate::v1::{ActionKind, Result};

/// "kill" for `ACTION_KIND_KILL`.
#[must_use]
pub fn action_name(kind: ActionKind) -> String {
    short(kind.as_str_name(), "ACTION_KIND_")
}

/// "done" for `RESULT_DONE`.
#[must_use]
pub fn result_name(result: Result) -> String {
    short(result.as_str_name(), "RESULT_")
}

fn short(name: &str, kind: &str) -> String {
    name.strip_prefix(kind).unwrap_or(name).to_ascii_lowercase()
}
