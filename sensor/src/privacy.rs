//! What leaves the host is chosen.
//!
//! Invariants:
//! - Whatever becomes a message of the wire has been through [`Policy`] before: what local subscribers read, what waits for the collector, what is
//!   answered on the local socket, and what `sensor replay` prints.
//! - Detection works on the truth: rules and models see what the kernel saw, and only what is shown is changed.
//! - A recording (`sensor record`) is raw, since it is what detection is tried on. It is made by root alone.

mod address;
mod ids;
mod key;
mod path;
mod policy;
pub mod pseudonym;
pub mod redact;

pub(crate) use address::is_public;
pub use key::{Key, KeyError};
pub use policy::{Field, Policy};
pub use pseudonym::Kind;
