//! What is unusual.

mod incident;
mod signal;

pub use incident::{Incident, Severity};
pub use signal::Signal;
