//! A lake that several collectors share, on an object store or in a directory that all of them have.
//!
//! ```text
//! class=process/day=2026-11-26/00000000000016777217-00000000000016908288-0.parquet   as in a data directory
//! class=process/day=2026-11-26/5f1e….parquet                                        of small ones that were put together
//! commits/00000000000000000042.json                                                  what the 42nd commit changed
//! checkpoints/00000000000000000064.json                                              all that the first 64 commits come to
//! aside/…                                                                            messages of the bus that were no batches
//! facts/…                                                                            what is normal on each host, as it shares that
//! ```
//!
//! Which files the lake consists of, and which batches are in them, is what its commits say, one after the other. There is no leader and no lock: a commit
//! is an object that is made only if there is none of its number ([`PutMode::Create`](object_store::PutMode::Create)). Who comes second reads what the first has committed, leaves out what is
//! there by now, and takes the next number.
//!
//! Invariants:
//! - A file is durable before the commit that lists it is made. A file that no commit lists is not part of the lake; after a day it is removed ([`steward`]).
//! - A commit lists files and, by numbering, the sequences of all batches in them. No sequence is in two commits, for whoever commits has read all before.
//! - Commits are never changed and never removed: a collector that was asleep for a month would make one of a number that is gone, and nobody would read it.
//! - A checkpoint only saves time. One that is missing or damaged is passed over.
//! - A commit that cannot be read stops all who would go past it, with a message that names it: what it lists would be stored a second time, or be missing from answers.
//! - Positions are unique, and grow within a file. They are taken in stretches of [`STRETCH`], each by a commit, so that files need not be made
//!   again when a commit comes second; so they are not without gaps, and not in the order of commits.

mod catalogue;
mod commit;
mod coverage;
pub(crate) mod merging;
mod place;
pub mod steward;
#[cfg(test)]
mod tests;

pub use catalogue::{Catalogue, Outcome, STRETCH};
pub(crate) use commit::unique;
pub use commit::{Commit, Covered, Listed};
pub use coverage::Coverage;
pub use place::{Place, PlaceError};
