//! What the command line offers, a file for each command.

pub(crate) mod connect;
pub(crate) mod hosts;
pub(crate) mod incidents;
pub(crate) mod query;
pub(crate) mod serve;
