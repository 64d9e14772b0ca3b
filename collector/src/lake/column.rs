//! What a column is: a name, a type, which classes have it, and how it is read from an entry.

use std::borrow::Cow;

use sensor_proto::{
    signal_name,
    v1::{Entry, Event, Process, entry},
};

use super::Class;

/// Type of a column. Each may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Up to 32 bits without a sign.
    Number,
    /// Up to 64 bits without a sign.
    Long,
    /// 64 bits with a sign.
    Signed,
    /// A floating-point number of 64 bits.
    Real,
    /// Yes or no.
    Flag,
    /// Nanoseconds since the Unix epoch, in UTC.
    Time,
    /// Bytes.
    Bytes,
}

/// A value in a column. Whether it is of the column's [`Kind`] is checked by a test for all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Not known, or not meant here.
    Null,
    /// For [`Kind::Text`].
    Text(Cow<'a, str>),
    /// For [`Kind::Number`], [`Kind::Long`] and [`Kind::Time`].
    Number(u64),
    /// For [`Kind::Signed`].
    Signed(i64),
    /// For [`Kind::Real`].
    Real(f64),
    /// For [`Kind::Flag`].
    Flag(bool),
}

/// A column of the lake.
#[derive(Debug)]
pub struct Column {
    /// Its name in files, in SQL and in expressions.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The classes whose files have it; none for all.
    pub classes: &'static [Class],
    /// What it holds, for people.
    pub meaning: &'static str,
    /// Where its values come from.
    pub source: Source,
}

/// Where the values of a column come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// From the process that an entry is about: the same for many rows, so it is worked out once.
    Process(fn(&Process) -> Cell<'_>),
    /// From the entry.
    Entry(for<'a> fn(&Row<'a>) -> Cell<'a>),
    /// The position of the row.
    Position,
    /// The entry, encoded, without its process.
    Encoded,
    /// The process of the entry, encoded.
    EncodedProcess,
}

/// An entry as columns see it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The host that it is of.
    pub host: &'a str,
    /// It.
    pub entry: &'a Entry,
    /// Name of what it carries.
    pub signal: &'static str,
    /// The event that it is, or that it is about.
    pub event: Option<&'a Event>,
}

impl Column {
    /// Whether files of this class have it.
    #[must_use]
    pub fn is_in(&self, class: Class) -> bool {
        self.classes.is_empty() || self.classes.contains(&class)
    }
}

impl<'a> Row<'a> {
    /// The entry of `host` as columns see it.
    #[must_use]
    pub fn new(host: &'a str, entry: &'a Entry) -> Self {
        let event = match &entry.body {
            Some(entry::Body::Event(event)) => Some(event),
            Some(entry::Body::Signal(signal)) => signal.event.as_ref(),
            _ => None,
        };
        Self {
            host,
            entry,
            signal: signal_name(entry),
            event,
        }
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::of(self.signal)
    }

    /// When it happened, in nanoseconds since the Unix epoch, as the host believed.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        match &self.entry.body {
            Some(entry::Body::Incident(incident)) => incident.updated_ns,
            Some(entry::Body::Outcome(outcome)) => outcome.time_ns,
            Some(entry::Body::Loss(loss)) => loss.to_ns,
            _ => self.event.map_or(0, |event| event.time_ns),
        }
    }
}

impl<'a> Cell<'a> {
    /// A text; null where it is empty, since the messages of the wire make no difference.
    pub(super) fn text(text: &'a str) -> Self {
        if text.is_empty() {
            Self::Null
        } else {
            Self::Text(Cow::Borrowed(text))
        }
    }

    pub(super) fn owned(text: String) -> Self {
        if text.is_empty() {
            Self::Null
        } else {
            Self::Text(Cow::Owned(text))
        }
    }

    pub(super) fn number(number: impl Into<u64>) -> Self {
        Self::Number(number.into())
    }

    pub(super) fn optional(number: Option<impl Into<u64>>) -> Self {
        number.map_or(Self::Null, Self::number)
    }

    /// A number that is 0 where there is none.
    pub(super) fn nonzero(number: impl Into<u64>) -> Self {
        match number.into() {
            0 => Self::Null,
            number => Self::Number(number),
        }
    }
}
