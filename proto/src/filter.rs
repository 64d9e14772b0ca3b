//! Which entries a reader wants.

use crate::v1::{Entry, Filter};

/// Name of what an entry carries, as filters call it.
#[must_use]
pub fn signal_name(_entry: &Entry) -> &'static str {
    ""
}

impl Filter {
    /// Whether `entry` is to be passed on.
    #[must_use]
    pub fn matches(&self, _entry: &Entry) -> bool {
        true
    }
}
