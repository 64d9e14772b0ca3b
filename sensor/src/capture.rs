//! From the rings to records.

pub mod record;
