//! What is done about it: the [`Policy`] proposes, the [`Guard`] disposes, and what became of it is said.
//!
//! Invariants:
//! - Nothing is done in observe mode, and every path to an action, whoever asks for it, goes through the guard.
//! - Never the wrong process: a signal goes through a pidfd that was checked, after it was opened, against the
//!   process's id and start time, and whose executable was shown to the guard once more.
//! - PID 1, kernel threads, sensor and the protected executables cannot be targeted; configuration adds to that list
//!   and takes nothing from it.
//! - The thread that detects does not wait for a process to die longer than [`WAIT`].

mod action;
mod guard;
mod kill;
mod policy;
mod responder;

pub use action::{Action, ActionKind, ActionResult, Outcome};
pub use guard::{Guard, Refusal};
pub use kill::WAIT;
pub use policy::{Mode, Policy};
pub use responder::Responder;
