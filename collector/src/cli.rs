//! The collector's command line, a file for each subject.

pub mod approvals;
pub mod audit;
pub mod bundles;
mod bus;
pub mod command;
mod connect;
pub mod enroll;
pub mod hosts;
pub mod identities;
pub mod incidents;
pub mod query;
pub mod revoke;
pub mod serve;
mod who;

pub use connect::{Place, harmless};
pub use who::Who;
