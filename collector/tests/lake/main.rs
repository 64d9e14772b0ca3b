//! The collector as a process: what it has acknowledged is there, once, whatever happens to it.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod admin;
mod crash;
mod daemon;
mod damage;
mod disk;
mod fleet;
mod peer;
mod query;
mod recovery;
mod resume;
