//! What is done about it.

mod action;

pub use action::{Action, ActionKind, ActionResult, Outcome};
