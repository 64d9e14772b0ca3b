//! Known-bad by rule: Sigma rules, from their text to the matches of an event.
//!
//! A rule goes this way: [`source`] finds and reads files, [`document`] parses them, [`reach`] says whether what they ask for is known on this host,
//! [`set`] puts the good ones into an [`Engine`]. An event goes this way: [`Channel`]s say which log sources it is in, a [`View`] gives it
//! Sigma's field names (the table is [`FIELDS`], `docs/rules.md` is written from it), the engine finds what matches.
//!
//! Invariants:
//! - One bad rule never stops the others: it is a [`Fault`] with file, line and remedy.
//! - Rules are untrusted: files, their number and their nesting are bounded ([`source`]), and so is what correlations remember ([`sigma`]).
//! - The engine is behind a trait of our own; nothing outside [`document`], [`reach`], [`index`] and [`sigma`] knows which one it is.

mod audit;
mod builtin;
mod channel;
mod document;
pub mod documentation;
mod engine;
mod fault;
mod field;
mod index;
mod literals;
mod named;
mod pattern;
mod reach;
mod rule;
pub mod sample;
mod set;
mod sigma;
mod source;
mod view;

pub use builtin::PACK;
pub use channel::{Channel, Channels};
pub use document::{Document, Kind, parse};
pub use engine::{Engine, Fields, Hit, Value};
pub use fault::{Fault, Place};
pub use field::{FIELDS, Field};
pub use reach::Reach;
pub use rule::{Level, Rule};
pub use set::{DISABLED, Loaded, RuleSet};
pub use source::{Source, read};
pub use view::View;
