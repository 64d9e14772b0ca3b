//! What is done about it: the [`Policy`] proposes, the [`Guard`] disposes, a person is asked where the policy says so, and every
//! step is in the [`Audit`] and in the stream.
//!
//! ```text
//! incident ─▶ policy ─▶ guard ─┬─ observe ─▶ said
//!                              ├─ ask ─▶ pending ─┬─ approve ─▶ guard ─▶ done
//!                              │                  └─ deny, or nobody in time
//!                              └─ act ─▶ done
//! person ───────────▶ guard ─▶ done
//! ```
//!
//! Invariants:
//! - Nothing is done in observe mode, and every path to an action, whoever asks for it, goes through the guard.
//! - Never the wrong process: a signal goes through a pidfd that was checked, after it was opened, against the
//!   process's id and start time, and whose executable was shown to the guard once more.
//! - PID 1, kernel threads, sensor and the protected executables cannot be targeted; configuration adds to that list
//!   and takes nothing from it.
//! - Where events were lost, or more was done than is allowed in a time, nothing is done any more without a person.
//! - The thread that detects does not wait for a process to die longer than [`WAIT`]. Families are ended by a thread of their own.

mod action;
mod actions;
mod audit;
mod floor;
mod guard;
mod in_force;
mod kill;
mod measures;
mod order;
mod past;
mod pending;
mod policy;
pub mod quarantine;
mod recent;
mod responder;
pub mod revoke;
mod standing;
mod tree;

/// Who decides where no person does.
const POLICY: &str = "policy";

pub use action::{Action, ActionKind, ActionResult, Outcome, Target};
pub use actions::{Actions, Wanted};
pub use audit::{Audit, AuditError, FILE as AUDIT_FILE, Mark, Reader as AuditReader, Record, Step};
pub use guard::{Guard, Refusal};
pub use kill::{Births, WAIT};
pub(crate) use kill::{Held, Missed};
pub use measures::Tell;
pub use order::{Answer, Demand, Holding, Object, Person, Responses, Wish};
pub use pending::Proposal;
pub use policy::{Mode, Policy, ResponseRule};
pub use responder::Responder;

#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::responder::tests::incident_of;
}
