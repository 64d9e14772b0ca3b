//! What finds the rules that an event matches, whoever wrote it.

use std::{borrow::Cow, sync::Arc};

use super::{Channels, Rule};

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text; bytes that are not UTF-8 are replaced.
    Text(Cow<'a, str>),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// Several texts, of which one must match.
    List(Vec<Cow<'a, str>>),
}

/// Something whose fields rules ask for.
pub trait Fields {
    /// The field of this name, where it has one.
    fn field(&self, name: &str) -> Option<Value<'_>>;

    /// Whether it is about a program that was executed.
    fn is_program(&self) -> bool;

    /// Shows every text that a rule without a field name is compared with.
    fn texts(&self, show: &mut dyn FnMut(&str));
}

/// A rule that something matches.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Which.
    pub rule: Arc<Rule>,
    /// What of it matched: fields and their values; of a correlation, what its events have in common.
    pub matched: Vec<(String, String)>,
}

/// Rules, ready to be asked.
pub trait Engine: Send + std::fmt::Debug {
    /// The rules that something in `channels` matches, at `time` in seconds.
    fn evaluate(&mut self, fields: &dyn Fields, channels: Channels, time: i64) -> Vec<Hit>;

    /// What it remembers of events that may yet become a correlation, for a successor to [`recall`](Self::recall).
    fn memory(&self) -> Option<Vec<u8>>;

    /// Takes over what another remembers, of correlations that both have.
    fn recall(&mut self, memory: &[u8]);
}
