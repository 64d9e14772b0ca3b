//! Where it goes.

mod entry;

pub use entry::{Entry, Loss};
