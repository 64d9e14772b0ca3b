//! Signals that belong together.

use std::sync::Arc;

use super::Signal;
use crate::{
    host::Process,
    time::{BootTime, WallTime},
};

/// How bad it would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// Signals that belong together, told as one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// The same recording gives the same id.
    pub id: Box<str>,
    /// When its first event happened.
    pub opened: WallTime,
    /// When its latest event happened, for people and for the order.
    pub updated: WallTime,
    /// The same in boot time: what latencies are measured from.
    pub updated_boot: BootTime,
    /// How bad it would be.
    pub severity: Severity,
    /// One sentence: what happened, to what, why it is unusual.
    pub summary: String,
    /// What it is unusual for.
    pub subject: Box<str>,
    /// The process at the heart of it.
    pub process: Arc<Process>,
    /// The evidence, bounded; the first is the one that opened it.
    pub signals: Vec<Arc<Signal>>,
    /// How often the same was seen since it was opened.
    pub count: u64,
}
